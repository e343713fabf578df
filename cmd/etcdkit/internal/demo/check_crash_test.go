package demo

import (
	"errors"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

const (
	candidacyOfA = orders.LeaderName + "/1-1"
	candidacyOfB = orders.LeaderName + "/2-1"
)

// led is the evidence of a leader, a with token 2, that was killed after 1 s and followed by b, with token 3, after 5 s.
func led() evidence {
	f := newFake()
	var e evidence
	f.put(candidacyOfA, "a")
	f.put(candidacyOfB, "b")
	f.report("a", 2)
	e.said = append(e.said, told("a", 0, orders.Event{Kind: orders.Leading, Token: 2}))
	f.now = 5 * time.Second
	f.del(candidacyOfA) // revision 5
	f.report("b", 3)
	e.said = append(e.said, told("b", f.now, orders.Event{Kind: orders.Leading, Token: 3}))
	e.writes = f.history
	return e
}

func TestSuccessionHoldsOnlyIfAnotherLeadsWithALargerToken(t *testing.T) {
	good := func() succession { return succeeded(led(), "a", 2, at(time.Second)) }
	holds(t, good().check, "2 → 3, 4.0 s after SIGKILL (TTL 4 s)")

	for _, bad := range []struct {
		name  string
		spoil func(*succession)
		words string
	}{
		{"one that did not lead", func(s *succession) { s.dead = "b" }, "b never led"},
		{"no other leader", func(s *succession) { s.reigns = s.reigns[:1] }, "nobody has led since"},
		{"the dead leads on", func(s *succession) { s.reigns[1].value = "a" }, "the dead a leads again"},
		{"a smaller token", func(s *succession) { s.reigns[1].token = 1; s.leading.Token = 1 }, "token 1 came after 2"},
		{"one that thinks it leads", func(s *succession) { s.leading.id = "c" }, "c says that it leads with token 3"},
		{"one that has a token of its own", func(s *succession) { s.leading.Token = 9 }, "b says that it leads with token 9"},
		{"one that does nothing", func(s *succession) { s.reports = s.reports[:1] }, "b leads, and does nothing"},
		{"a report by the dead", func(s *succession) { s.reports[0].revision = 6 }, "a, dead, has reported at revision 6"},
	} {
		s := good()
		bad.spoil(&s)
		refuses(t, bad.name, s.check, bad.words)
	}
}

func TestReigningHoldsOnlyIfLeadersComeOneAtATime(t *testing.T) {
	good := func() reigning { return reigned(led()) }
	holds(t, good().check, "2 < 3; all 2 reports by leaders")

	for _, bad := range []struct {
		name  string
		spoil func(*reigning)
		words string
	}{
		{"no leader", func(r *reigning) { r.terms = nil }, "nobody has led"},
		{"no report", func(r *reigning) { r.reports = nil }, "nobody has led"},
		{"a token that comes again", func(r *reigning) { r.terms[1].Token = 2 }, "b began to lead with token 2, after 2"},
		{"a term that etcd does not know", func(r *reigning) { r.terms[1].Token = 9 }, "b led with token 9 by its own word only"},
		{"somebody else's term", func(r *reigning) { r.terms[1].id = "c" }, "c led with token 3 by its own word only"},
		{"a report that comes too early", func(r *reigning) { r.reports[1].revision = 5 }, "report by b under token 3, which did not lead"},
		{"a report that comes too late", func(r *reigning) { r.reports[0].revision = 6 }, "report by a under token 2, which did not lead"},
		{"a report in another's name", func(r *reigning) { r.reports[0].By = "b" }, "report by b under token 2, which did not lead"},
	} {
		r := good()
		bad.spoil(&r)
		refuses(t, bad.name, r.check, bad.words)
	}
}

const (
	placeOfB = orders.LockName + "/5-1"
	placeOfC = orders.LockName + "/6-1"
)

// held is the evidence of a lock that b held with token 2 while etcd changed its leader at revision 5, and gave back at
// revision 8.
func held() evidence {
	f := newFake()
	f.put(placeOfB, `{"pid":12}`)
	f.put(placeOfC, `{"pid":13}`)
	f.order(1, "b", 10, 2)
	f.order(2, "b", 10, 2) // revision 5
	f.order(3, "b", 10, 2)
	f.order(4, "b", 10, 2)
	f.del(placeOfB)
	f.order(5, "c", 10, 3)
	return evidence{
		said:   []said{told("b", time.Second, orders.Event{Kind: orders.Released, Token: 2, Orders: 4})},
		writes: f.history,
	}
}

func TestFailoverHoldsOnlyIfTheLockWasKept(t *testing.T) {
	good := func() failover {
		return failover{
			before: rule{"m0", 2}, after: rule{"m1", 3},
			killed: at(0), elected: at(1500 * time.Millisecond), resumed: 5, token: 2,
		}.with(held(), "b")
	}
	holds(t, good().check, "token 2 kept; 1.5 s gap, then 2 orders")

	for _, bad := range []struct {
		name  string
		spoil func(*failover)
		words string
	}{
		{"the same leader of etcd", func(f *failover) { f.after.member = "m0" }, "etcd has not changed its leader"},
		{"the same term of raft", func(f *failover) { f.after.term = 2 }, "etcd has not changed its leader"},
		{"a lock that was taken later", func(f *failover) { f.reigns[0].from = 6 }, "did not hold the lock before"},
		{"a lock that etcd does not know", func(f *failover) { f.token = 9 }, "token 9 did not hold the lock"},
		{"a lock that was lost", func(f *failover) { f.reigns[0].to = 5 }, "the lock was lost at revision 5"},
		{"a context that ended", func(f *failover) { f.released.Reason = "lease expired" }, "the holder lost it: lease expired"},
		{"another acquisition", func(f *failover) { f.released.Token = 7 }, "given back token 7, not 2"},
		{"no work after it", func(f *failover) { f.resumed = 7 }, "no work was done under it"},
		{"an order of somebody else's", func(f *failover) { f.entries[2].Token = 1 }, "order 3 was numbered under token 1"},
		{"orders that are not in the book", func(f *failover) { f.released.Orders = 5 }, "speaks of 5 orders, the book has 4"},
	} {
		f := good()
		bad.spoil(&f)
		refuses(t, bad.name, f.check, bad.words)
	}
}

// frozen is the evidence of a holder with token 2, frozen until 9 s, whose lock went after 5 s to c with token 3,
// which wrote order 1.
func frozen() evidence {
	f := newFake()
	f.put(placeOfB, `{"pid":12}`)
	f.put(placeOfC, `{"pid":13}`)
	f.now = 5 * time.Second
	f.del(placeOfB) // revision 4
	f.order(1, "c", 10, 3)
	return evidence{
		said: []said{told("b", 9100*time.Millisecond,
			orders.Event{Kind: orders.Late, Token: 2, Number: 1, Lost: true, Told: true, Revision: 5})},
		writes: f.history,
	}
}

func TestFencingHoldsOnlyIfTheLateWriteLeftNoTrace(t *testing.T) {
	good := func() fencing { return fencing{token: 2, number: 1, thawed: at(9 * time.Second)}.with(frozen(), "b") }
	holds(t, good().check, "order 1: 2 refused, 3 written")

	for _, bad := range []struct {
		name  string
		spoil func(*fencing)
		words string
	}{
		{"a lock that etcd does not know", func(f *fencing) { f.token = 9 }, "token 9 never held"},
		{"a holder that still held", func(f *fencing) { f.reigns[0].to = 0 }, "not frozen past its TTL"},
		{"a holder that woke in time", func(f *fencing) { f.thawed = at(4 * time.Second) }, "not frozen past its TTL"},
		{"a lock that nobody wants", func(f *fencing) { f.reigns = f.reigns[:1] }, "nobody has held the lock since"},
		{"a smaller token", func(f *fencing) { f.reigns[1].token = 1 }, "token 1 came after 2"},
		{"a write that came through", func(f *fencing) { f.entries[0].Token = 2 }, "order 1 was written under token 2"},
		{"a number that was given twice", func(f *fencing) { f.entries = append(f.entries, f.entries[0]) }, "order 1 was written 2 times"},
		{"a number that was never given", func(f *fencing) { f.entries = nil }, "order 1 was written 0 times"},
		{"another's old write", func(f *fencing) { f.entries[0].Token = 1 }, "order 1 has token 1, smaller than 3"},
		{"a write that was not made", func(f *fencing) { f.late = said{} }, "the late write was not made"},
		{"a write before the freeze", func(f *fencing) { f.late.at = at(time.Second) }, "the late write was not made"},
		{"a write that failed otherwise", func(f *fencing) { f.late.Lost = false; f.late.Reason = "unavailable" }, "but: unavailable"},
		{"a refusal that etcd knows nothing of", func(f *fencing) { f.late.Revision = 0 }, "refused the late write at revision 0"},
		{"a context that goes on", func(f *fencing) { f.late.Told = false }, "the first check after the freeze"},
	} {
		f := good()
		bad.spoil(&f)
		refuses(t, bad.name, f.check, bad.words)
	}
}

// stopped is the evidence of two processes, a that led and b, which were told to stop after 1 s.
func stopped() (farewell, evidence) {
	f := newFake()
	for _, key := range []string{registryPrefix + "a", registryPrefix + "b"} {
		f.put(key, "127.0.0.1:1")
	}
	token := f.put(candidacyOfA, "a")
	f.put(candidacyOfB, "b")
	f.put(orders.LockName+"/5-0", `{"pid":12}`)
	f.del(orders.LockName + "/5-0") // before
	f.put(placeOfB, `{"pid":12}`)
	f.now = 1020 * time.Millisecond
	f.del(registryPrefix + "a")
	f.del(candidacyOfA)
	f.del(placeOfB)
	f.del(registryPrefix + "b")
	f.del(candidacyOfB)
	e := evidence{writes: f.history, said: []said{
		told(you, 1030*time.Millisecond, orders.Event{Kind: orders.Peers, IDs: []string{"b"}}),
		told(you, 1040*time.Millisecond, orders.Event{Kind: orders.Peers}),
	}}
	return farewell{leader: "a", token: token, departures: []departure{
		{id: "a", pid: 11, asked: at(time.Second)},
		{id: "b", pid: 12, asked: at(time.Second)},
	}}, e
}

func TestFarewellHoldsOnlyIfNothingHadToExpire(t *testing.T) {
	good := func() farewell { f, e := stopped(); return f.with(e) }
	holds(t, good().check, "view in 40 ms, next leader in 20 ms")
	if keys := good().departures[1].keys; len(keys) != 3 {
		t.Errorf("b had %v; want its registration, its candidacy and its place in the lock's line", keys)
	}

	for _, bad := range []struct {
		name  string
		spoil func(*farewell)
		words string
	}{
		{"an exit code", func(f *farewell) { f.departures[0].exit = errors.New("exit status 1") }, "a: exit status 1"},
		{"one that had nothing", func(f *farewell) { f.departures[1].keys = nil }, "b had no key"},
		{"a registration left", func(f *farewell) { f.departures[0].keys[registryPrefix+"a"] = time.Time{} }, "a has left the registration behind"},
		{"a place in line left", func(f *farewell) { f.departures[1].keys[placeOfB] = time.Time{} }, "b has left the place in the lock's line behind"},
		{"a candidacy that expired", func(f *farewell) { f.departures[1].keys[candidacyOfB] = at(4 * time.Second) }, "the candidacy of b went after 3.0 s"},
		{"a view that shows it late", func(f *farewell) { f.departures[0].shown = at(4 * time.Second) }, "the end of a in time"},
		{"a view that never shows it", func(f *farewell) { f.departures[0].shown = time.Time{} }, "the end of a in time"},
		{"no next leader", func(f *farewell) { f.reigns = f.reigns[:1] }, "nobody has followed a"},
		{"a late next leader", func(f *farewell) { f.reigns[1].since = at(4 * time.Second) }, "nobody has followed a"},
		{"no leader among them", func(f *farewell) { f.leader = "z" }, "no leader was stopped"},
	} {
		f := good()
		bad.spoil(&f)
		refuses(t, bad.name, f.check, bad.words)
	}
}
