package queue

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

// grants counts leases as it grants them.
type grants struct {
	made clientv3.LeaseID
	ttl  int64
}

func (g *grants) grant(_ context.Context, ttl int64) (clientv3.LeaseID, error) {
	g.made++
	g.ttl = ttl
	return g.made, nil
}

func TestALeaseOutlivesAllItsMarksByWhatWasPromised(t *testing.T) {
	for _, remember := range []time.Duration{1, time.Second, 1500 * time.Millisecond, time.Minute, 5 * time.Minute, 24 * time.Hour} {
		w, g, now := newMemory(remember), &grants{}, boottime.Instant(0)
		w.now = func() boottime.Instant { return now }
		granted := now
		for n := range 3 {
			now = granted.Add(w.slice * time.Duration(n) / 2)
			id, err := w.take(t.Context(), 1, g.grant)
			if err != nil {
				t.Fatal(err)
			}
			if want := clientv3.LeaseID(1 + n/2); id != want {
				t.Errorf("%v: lease %d after %v, want %d", remember, id, now.Sub(granted), want)
			}
			if id == 1 {
				if left := granted.Add(time.Duration(g.ttl) * time.Second).Sub(now); left < remember+pushTakes {
					t.Errorf("%v: the lease is used with %v left", remember, left)
				}
			}
		}
		if g.ttl > int64(remember/time.Second)*9/8+14 {
			t.Errorf("%v: a lease of %d s", remember, g.ttl)
		}
	}
}

func TestALeaseIsForSoManyMarks(t *testing.T) {
	w, g := newMemory(time.Hour), &grants{}
	for range 20 {
		if _, err := w.take(t.Context(), 125, g.grant); err != nil {
			t.Fatal(err)
		}
	}
	if g.made != 3 { // of eight times 125 each
		t.Errorf("%d leases", g.made)
	}
}

func TestWithoutMarksThereAreNoLeases(t *testing.T) {
	for _, w := range []*memory{newMemory(-1), newMemory(time.Hour)} {
		n := 1
		if w.slice > 0 {
			n = 0
		}
		if id, err := w.take(t.Context(), n, nil); id != clientv3.NoLease || err != nil {
			t.Error(id, err)
		}
	}
}

func TestALeaseThatIsGoneIsNotUsedAgain(t *testing.T) {
	w, g := newMemory(time.Hour), &grants{}
	first, _ := w.take(t.Context(), 1, g.grant)
	w.drop(first)
	second, _ := w.take(t.Context(), 1, g.grant)
	w.drop(first) // by another push that used it, too
	third, _ := w.take(t.Context(), 1, g.grant)
	if first == second || second != third {
		t.Error(first, second, third)
	}
}

func TestPushesAtOnceShareALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, hold := newMemory(time.Hour), &grants{}, make(chan struct{})
		slow := func(ctx context.Context, ttl int64) (clientv3.LeaseID, error) {
			<-hold
			return g.grant(ctx, ttl)
		}
		var going sync.WaitGroup
		for range 16 {
			going.Go(func() {
				if id, err := w.take(t.Context(), 1, slow); id != 1 || err != nil {
					t.Error(id, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.take(ctx, 1, slow); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(hold)
		going.Wait()
	})
}
