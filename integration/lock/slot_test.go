package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// The reply to any write may be lost: whoever holds then holds once, and nothing stays behind.
func TestPermitsAndSlotsWhoseRepliesAreLost(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.Unknown} {
		for nth := range 3 { // the acquisition, the slot, the release
			cli, calls := counted(t)
			name := etcdtest.Prefix(t) + "name"
			s := lock.NewSemaphore(open(t, cli), name, 2)
			other := acquired(t, s, 1)
			if slot, err := other.Slot(t.Context()); err != nil || slot != 0 {
				t.Fatalf("slot %d: %v", slot, err)
			}
			fault := calls.Inject(etcdtest.Fault{Call: "Txn", Skip: nth, After: true, Err: status.Error(code, "lost on its way")})
			h := acquired(t, s, 1)
			if slot, err := h.Slot(t.Context()); err != nil || slot != 1 {
				t.Errorf("%v, %d: slot %d: %v", code, nth, slot, err)
			}
			etcdtest.WaitKeys(t, soon, cli, name+"/", 4)
			unlock(t, h)
			if fault.Hits() != 1 {
				t.Errorf("%v, %d: %d replies were lost", code, nth, fault.Hits())
			}
			etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
			unlock(t, other)
			etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
		}
	}
}

// A slot belongs to the acquisition: lost with it, given back with it, free for the next.
func TestASlotIsGivenBackWithItsPlace(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, 2)
	lost := acquired(t, s, 1)
	if slot, err := lost.Slot(t.Context()); err != nil || slot != 0 {
		t.Fatalf("slot %d: %v", slot, err)
	}
	// The place is deleted by a stranger, and the slot is still there.
	if _, err := cli.Delete(t.Context(), lost.Guard().Key); err != nil {
		t.Fatal(err)
	}
	next, other := acquired(t, s, 1), acquired(t, s, 1)
	if slot, err := next.Slot(t.Context()); err != nil || slot != 1 {
		t.Errorf("slot %d: %v", slot, err)
	}
	waits := make(chan int, 1)
	go func() {
		slot, err := other.Slot(t.Context())
		if err != nil {
			t.Error(err)
		}
		waits <- slot
	}()
	etcdtest.Done(t, soon, "the context", lost.Context().Done())
	if _, err := lost.Slot(t.Context()); !errors.Is(err, fence.ErrLost) && err != nil {
		t.Errorf("the slot of a permit that is lost: %v", err)
	}
	if err := lost.Unlock(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Errorf("Unlock: %v", err)
	}
	if slot := etcdtest.Receive(t, soon, "the slot", waits); slot != 0 {
		t.Errorf("slot %d, want the one that was given back", slot)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if slot, err := next.Slot(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("slot %d with a context that has ended: %v", slot, err)
	}
	unlock(t, next)
	unlock(t, other)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestWhoAskForTheirSlotsAtOnceHaveDifferentOnes(t *testing.T) {
	t.Parallel()
	const size = 8
	name := etcdtest.Prefix(t) + "name"
	for range 4 {
		var (
			all   sync.WaitGroup
			mu    sync.Mutex // guards slots
			slots = map[int]bool{}
			start = make(chan struct{})
			held  [size]*lock.Held
		)
		for i := range held {
			held[i] = acquired(t, lock.NewSemaphore(open(t, etcdtest.Client(t)), name, size), 1)
			all.Go(func() {
				<-start
				slot, err := held[i].Slot(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				slots[slot] = true
			})
		}
		close(start)
		all.Wait()
		if len(slots) != size {
			t.Errorf("%d have the slots %v", size, slots)
		}
		for _, h := range held {
			unlock(t, h)
		}
	}
}
