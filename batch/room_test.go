package batch

import "testing"

func let(g *guest) bool {
	select {
	case <-g.let:
		return true
	default:
		return false
	}
}

func TestRoomIsLetInTheOrderOfAsking(t *testing.T) {
	r := room{free: 10}
	if r.take(10) != nil {
		t.Fatal("no room for what fits exactly")
	}
	large, small := r.take(8), r.take(1)
	if large == nil || small == nil {
		t.Fatal("there was room in a full one")
	}
	r.give(5)
	if let(large) || let(small) {
		t.Error("let too early: the small one passes the large one")
	}
	if r.take(1) == nil {
		t.Error("one who comes later passes those in line")
	}
	r.give(4)
	if !let(large) || !let(small) {
		t.Errorf("not let with 9 free: %t, %t", let(large), let(small))
	}
}

func TestOneWhoLeavesTheLineLetsTheOthersIn(t *testing.T) {
	r := room{free: 4}
	large, small := r.take(8), r.take(3)
	r.leave(large)
	if !let(small) || r.free != 1 {
		t.Errorf("let: %t, with %d free", let(small), r.free)
	}
}

// The room is let, and its guest has seen the end of its context first.
func TestRoomThatWasLetToOneWhoHasLeftGoesToTheNext(t *testing.T) {
	r := room{free: 0}
	first, second := r.take(3), r.take(3)
	r.give(3)
	if !let(first) || let(second) {
		t.Fatal("not first come, first served")
	}
	r.leave(first)
	if !let(second) || r.free != 0 {
		t.Errorf("let: %t, with %d free", let(second), r.free)
	}
	r.leave(second)
	if r.free != 3 || len(r.line) != 0 {
		t.Errorf("%d free, %d in line", r.free, len(r.line))
	}
}
