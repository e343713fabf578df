package demo

import (
	"errors"
	"os"
	"testing"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

func TestBookkeepingHoldsOnlyIfEveryOrderIsInTurn(t *testing.T) {
	good := func() *fake {
		f := newFake()
		f.put(placeOfB, `{"pid":12}`) // token 2
		f.put(placeOfC, `{"pid":13}`) // token 3
		f.order(1, "b", 10, 2)
		f.order(2, "b", 10, 2)
		f.del(placeOfB)
		f.order(3, "c", 10, 3)
		f.del(placeOfC)
		return f
	}
	holds(t, bookkeeping{good().history}.check, "1 to 3, all by who held; 8 revisions")

	for _, bad := range []struct {
		name  string
		spoil func(*fake)
		words string
	}{
		{"an empty book", func(f *fake) { f.history = f.history[:2] }, "there are no orders"},
		{"a revision that was missed", func(f *fake) { f.history = append(f.history[:2], f.history[4:]...) }, "revision 4 of etcd's history"},
		{"a number left out", func(f *fake) { f.put(placeOfB, ""); f.order(5, "b", 10, 9) }, "order 4 was expected at revision 10, not number 5"},
		{"a number given twice", func(f *fake) { f.put(placeOfB, ""); f.order(3, "b", 10, 9) }, "000003 was changed at revision 10"},
		{"an order that was deleted", func(f *fake) { f.del(orders.BookKey(2)) }, "000002 was changed at revision 9"},
		{"an order in the wrong place", func(f *fake) { f.put(orders.BookKey(4), `{"number":3,"token":3}`) }, "not number 3 in orders/book/000004"},
		{"an unreadable order", func(f *fake) { f.put(orders.BookKey(4), `{`) }, "not number 0 in orders/book/000004"},
		{"an order under no lock", func(f *fake) { f.order(4, "c", 10, 3) }, "order 4 was written under token 3, which did not hold"},
		{"an order under another's lock", func(f *fake) { f.put(placeOfB, ""); f.order(4, "c", 10, 3) }, "order 4 was written under token 3, which did not hold"},
		{"an order by who waits", func(f *fake) { f.put(placeOfB, ""); f.put(placeOfC, ""); f.order(4, "c", 10, 10) }, "order 4 was written under token 10, which did not hold"},
	} {
		f := good()
		bad.spoil(f)
		refuses(t, bad.name, bookkeeping{f.history}.check, bad.words)
	}
}

func TestAReplayKnowsWhoOwnedAtEveryRevision(t *testing.T) {
	f := newFake()
	name := "line"
	f.put("line/1-1", "one")     // 2
	f.put("line/2-1", "two")     // 3
	f.put("line/3-1", "three")   // 4
	f.put("lines/9-1", "others") // 5
	f.del("line/2-1")            // 6: leaves the line
	f.del("line/1-1")            // 7: three owns
	f.del("line/3-1")            // 8: nobody owns
	f.put("line/1-1", "again")   // 9: the same key, another token
	reigns := f.reigns(name)
	for revision, want := range []int64{2: 0, 3: 2, 6: 2, 7: 2, 8: 4, 9: 0, 10: 9, 20: 9} {
		if want == 0 && revision != 2 && revision != 9 {
			continue
		}
		var got int64
		if o := owner(reigns, int64(revision)); o != nil {
			got = o.token
		}
		if got != want {
			t.Errorf("the write of revision %d was decided under token %d, want %d", revision, got, want)
		}
	}
	if next := after(reigns, 2); next == nil || next.token != 4 || next.value != "three" {
		t.Errorf("after token 2 came %+v", next)
	}
	if next := after(reigns, 9); next != nil {
		t.Errorf("after token 9 came %+v", next)
	}
}

func TestCleanupHoldsOnlyIfNoProcessRuns(t *testing.T) {
	good := func() cleanup { return cleanup{started: 8, members: map[string]error{"m0": nil}} }
	holds(t, good().check, "8 processes started, 0 left")
	c := good()
	c.alive = []int{42}
	refuses(t, "a process that runs", c.check, "[42] still run")
	c = good()
	c.members["m0"] = errors.New("exit status 1")
	refuses(t, "a member that failed", c.check, "m0: exit status 1")
	refuses(t, "nothing at all", cleanup{}.check, "nothing was started")
	if !running(os.Getpid()) {
		t.Error("this process does not run")
	}
}
