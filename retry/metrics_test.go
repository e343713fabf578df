package retry

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"
)

// Nobody listens: an attempt that fails is not put into attributes.
func TestAFailureThatNobodyCountsAllocatesNothing(t *testing.T) {
	c := &call{method: "/etcdserverpb.KV/Put"}
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { c.observe(ctx, errNoLeader, time.Second, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// breakerGlobal is not of the heap.
var breakerGlobal Breaker

// A breaker is known since it first opened, and as long as somebody has it.
func TestABreakerIsKnownAsLongAsItIsThere(t *testing.T) {
	known := func(ref weak.Pointer[Breaker]) bool { return slices.Contains(breakers.All(), ref) }
	trip := func(b *Breaker) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.enter(BreakerOpen, time.Now())
		b.enter(BreakerHalfOpen, time.Now())
		b.enter(BreakerClosed, time.Now())
	}
	b := new(Breaker)
	ref, global := weak.Make(b), weak.Make(&breakerGlobal)
	if known(ref) {
		t.Error("a breaker is known that has never opened")
	}
	for range 2 {
		trip(b)
		trip(&breakerGlobal)
	}
	if !known(ref) || !known(global) {
		t.Error("breakers that have opened are not known")
	}
	runtime.KeepAlive(b)
	for late := time.After(10 * time.Second); known(ref); runtime.GC() {
		select {
		case <-late:
			t.Fatal("a breaker is known that nobody has any more")
		default:
		}
	}
	if !known(global) {
		t.Error("a global breaker has gone")
	}
}
