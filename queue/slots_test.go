package queue

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

func TestASlotThatIsKnownIsUsedAgain(t *testing.T) {
	s, g := newSlots(), &grants{}
	take := func() slot {
		t.Helper()
		used, err := s.take(t.Context(), g.grant)
		if err != nil {
			t.Fatal(err)
		}
		return used
	}
	a, b := take(), take()
	if a != (slot{lease: 1, number: 1}) || b != (slot{lease: 1, number: 2}) {
		t.Fatal(a, b)
	}
	s.giveBack(a, 7)
	if again := take(); again != (slot{lease: 1, number: 1, mod: 7}) {
		t.Error(again)
	}
	// b was not given back, and is never seen again.
	if c := take(); c != (slot{lease: 1, number: 3}) {
		t.Error(c)
	}
}

func TestSlotsGoWithTheirLease(t *testing.T) {
	s, g, now := newSlots(), &grants{}, boottime.Instant(0)
	s.leases.now = func() boottime.Instant { return now }
	take := func(want slot) slot {
		t.Helper()
		used, err := s.take(t.Context(), g.grant)
		if err != nil || used != want {
			t.Fatalf("%+v, %v, want %+v", used, err, want)
		}
		return used
	}
	a, b := take(slot{lease: 1, number: 1}), take(slot{lease: 1, number: 2})
	s.giveBack(a, 7)
	now = now.Add(slotsSlice) // the slice is over
	c := take(slot{lease: 2, number: 3})
	s.giveBack(b, 8) // too late
	s.drop(a)        // the lease before
	d := take(slot{lease: 2, number: 4})
	s.giveBack(d, 9)
	s.drop(c) // was revoked
	s.giveBack(c, 9)
	take(slot{lease: 3, number: 5})
}

func TestNoTwoHaveASlot(t *testing.T) {
	s, g := newSlots(), &grants{}
	var (
		mu    sync.Mutex
		using = map[uint64]bool{}
		going sync.WaitGroup
	)
	for range 16 {
		going.Go(func() {
			for n := range 200 {
				used, err := s.take(t.Context(), g.grant)
				mu.Lock()
				if err != nil || using[used.number] || used.number > 16 {
					t.Errorf("%+v, %v", used, err)
				}
				using[used.number] = true
				mu.Unlock()
				mu.Lock()
				using[used.number] = false
				mu.Unlock()
				s.giveBack(used, int64(n+1))
			}
		})
	}
	going.Wait()
	if g.made != 1 {
		t.Errorf("%d leases for %d pushes", g.made, 16*200)
	}
}

func TestWithoutALeaseThereIsNoSlot(t *testing.T) {
	s, refused := newSlots(), errors.New("refused")
	grant := func(context.Context, int64) (clientv3.LeaseID, error) { return clientv3.NoLease, refused }
	if _, err := s.take(t.Context(), grant); !errors.Is(err, refused) {
		t.Error(err)
	}
}

func TestARefusalIsToldByTheNameInTheSlot(t *testing.T) {
	r := request{places: []place{{stem: "0000000000001-a"}, {stem: "0000000000002-a"}}}
	refusal := func(kvs ...*mvccpb.KeyValue) *clientv3.TxnResponse {
		return &clientv3.TxnResponse{Header: &etcdserverpb.ResponseHeader{Revision: 9}, Responses: []*etcdserverpb.ResponseOp{{
			Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: &etcdserverpb.RangeResponse{Kvs: kvs}},
		}}}
	}
	for _, c := range []struct {
		name string
		resp *clientv3.TxnResponse
		mod  int64
		ok   bool
	}{
		{"applied", &clientv3.TxnResponse{Succeeded: true, Header: &etcdserverpb.ResponseHeader{Revision: 9}}, 9, true},
		{"applied before", refusal(&mvccpb.KeyValue{Value: []byte("100/0000000000001-a"), ModRevision: 5}), 5, true},
		{"another's", refusal(&mvccpb.KeyValue{Value: []byte("100/0000000000002-a"), ModRevision: 5}), 0, false},
		{"gone", refusal(), 0, false},
	} {
		if mod, ok := r.applied(c.resp); mod != c.mod || ok != c.ok {
			t.Errorf("%s: %d, %t", c.name, mod, ok)
		}
	}
}
