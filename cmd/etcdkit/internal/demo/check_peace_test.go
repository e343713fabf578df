package demo

import (
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// found is the evidence of three processes that have found each other within 80 ms.
func found() evidence {
	f := newFake()
	var e evidence
	for i, id := range []string{"a", "b", "c"} {
		f.put(registryPrefix+id, "127.0.0.1:1")
		e.said = append(e.said,
			told(id, 10*time.Millisecond, orders.Event{Kind: orders.Peers, IDs: []string{id}}),
			told(id, time.Duration(60+10*i)*time.Millisecond, orders.Event{Kind: orders.Peers, IDs: []string{"a", "b", "c"}}))
		for _, by := range []string{"a", "b", "c"} {
			if by != id {
				e.said = append(e.said, told(id, 90*time.Millisecond, orders.Event{Kind: orders.Greeted, By: by}))
			}
		}
	}
	e.writes = f.history
	return e
}

func TestDiscoveryHoldsOnlyIfAllSeeAllAndEtcdHasThem(t *testing.T) {
	ids := []string{"a", "b", "c"}
	good := func() discovery { return discovered(found(), ids, start) }
	holds(t, good().check, "3 of 3 see all in 80 ms; 6 of 6 calls ok")

	for _, bad := range []struct {
		name  string
		spoil func(*discovery)
		words string
	}{
		{"one too many in etcd", func(d *discovery) { d.etcd["z"] = write{lease: 1} }, "etcd has 4 registrations"},
		{"another than it says", func(d *discovery) { delete(d.etcd, "b"); d.etcd["z"] = write{lease: 1} }, "no registration of b"},
		{"a registration for ever", func(d *discovery) { d.etcd["c"] = write{} }, "bound to no lease"},
		{"one that does not see all", func(d *discovery) { delete(d.views, "c") }, "c has not seen a b c"},
		{"an address that nobody calls", func(d *discovery) { delete(d.calls, [2]string{"a", "b"}) }, "a was never called by b"},
	} {
		d := good()
		bad.spoil(&d)
		refuses(t, bad.name, d.check, bad.words)
	}
	refuses(t, "what was seen before", discovered(found(), ids, at(65*time.Millisecond)).check, "a has not seen")
	refuses(t, "seen together with one that is gone", discovered(found(), []string{"a", "b"}, start).check, "etcd has 3")
}

// sold is the evidence of prices that were changed to 25 % at revision 5, 1 s after the start, and to 140 % at
// revision 9, after 2 s.
func sold() evidence {
	f := newFake()
	var e evidence
	f.put(orders.ConfigKey, "10")
	f.order(1, "a", 10, 1)
	f.order(2, "b", 10, 1)
	f.now = time.Second
	f.put(orders.ConfigKey, "25")
	f.order(3, "a", 25, 1) // revision 6
	f.order(4, "b", 10, 1) // was under way
	f.order(5, "b", 25, 1)
	for _, id := range []string{"a", "b"} {
		e.said = append(e.said, told(id, 1004*time.Millisecond, orders.Event{Kind: orders.Priced, Discount: 25, Revision: 5}))
	}
	f.now = 2 * time.Second
	f.put(orders.ConfigKey, "140")
	f.now = 3 * time.Second
	f.order(6, "a", 25, 1)
	f.order(7, "b", 25, 1)
	for _, id := range []string{"a", "b"} {
		e.said = append(e.said, told(id, 2030*time.Millisecond,
			orders.Event{Kind: orders.Refused, Discount: 25, Revision: 5, Reason: "revision 9: " + orders.Prices{Discount: 140}.Validate().Error()}))
	}
	e.writes = f.history
	return e
}

func TestRepricingHoldsOnlyIfTheBookHasTheNewPrices(t *testing.T) {
	good := func() repricing { return repriced(sold(), []string{"a", "b"}, at(time.Second), 5, 25) }
	holds(t, good().check, "2 of 2 in 4 ms; 4 orders at 25 %, by all")

	for _, bad := range []struct {
		name  string
		spoil func(*repricing)
		words string
	}{
		{"one that does not take it", func(r *repricing) { delete(r.told, "b") }, "b has not taken revision 5"},
		{"one that takes something else", func(r *repricing) { r.discount = 20 }, "a has not taken revision 5"},
		{"one that takes it by its word only", func(r *repricing) { r.entries = r.entries[:4] }, "b has sold nothing at 25 %"},
		{"one that falls back", func(r *repricing) { r.entries[6].Discount = 10 }, "order 7 was sold by b at 10 %"},
		{"one that is late", func(r *repricing) { r.entries[3].at = at(8 * time.Second) }, "order 4 was sold by b at 10 %"},
	} {
		r := good()
		bad.spoil(&r)
		refuses(t, bad.name, r.check, bad.words)
	}
}

func TestRefusalHoldsOnlyIfTheBookKeepsTheOldPrices(t *testing.T) {
	good := func() refusal { return refused(sold(), []string{"a", "b"}, at(2*time.Second), 9) }
	holds(t, good().check, "2 of 2 in 30 ms; 2 orders still at 25 %")

	for _, bad := range []struct {
		name  string
		spoil func(*refusal)
		words string
	}{
		{"a bad change that is not in etcd", func(r *refusal) { r.stored = 5 }, "etcd does not have the bad change"},
		{"one that says nothing", func(r *refusal) { delete(r.told, "a") }, "a has not refused it"},
		{"one that does not say why", func(r *refusal) { s := r.told["a"]; s.Reason = "no"; r.told["a"] = s }, "does not name the rule"},
		{"one that has nothing left", func(r *refusal) { s := r.told["b"]; s.Discount = 0; r.told["b"] = s }, "b is at 0 %"},
		{"one that takes it", func(r *refusal) { r.entries[6].Discount = 140 }, "order 7 was sold by b at 140 %"},
		{"one that stops working", func(r *refusal) { r.entries = r.entries[:6] }, "b has sold nothing since"},
	} {
		r := good()
		bad.spoil(&r)
		refuses(t, bad.name, r.check, bad.words)
	}
}
