package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// ErrNoSlots says that a line is shared by any number, which has no slots.
var ErrNoSlots = errors.New("turn: shared by any number")

// slotsFull is the wait for a slot that an owner which has lost its place has not given back yet.
const slotsFull = 100 * time.Millisecond

// Slot numbers the owners of a shared line, from 0 to its size less one: no two who own at a time have the same. The number is
// claimed when it is first asked for, in a transaction under the place's guard, and given back with the place. ctx bounds it.
func (h *Hold) Slot(ctx context.Context) (int, error) {
	p := h.place
	switch {
	case p.share.alone():
		return 0, nil
	case p.share.Size == Unlimited:
		return 0, ErrNoSlots
	}
	work, cancel := h.Work(ctx)
	defer cancel()
	n, err := h.slots.once(work, func() (int, error) { return h.claim(work) })
	if err != nil {
		return 0, p.explain(work, err)
	}
	return n, nil
}

// claim takes the lowest number that is free.
func (h *Hold) claim(ctx context.Context) (int, error) {
	p := h.place
	kv := p.sess.Client().KV
	for {
		taken, err := call.Persist(ctx, p.sess.Client(), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return kv.Get(ctx, p.slotKeys(), clientv3.WithPrefix())
		})
		if err != nil {
			return 0, err
		}
		n, mine := p.freeSlot(taken.Kvs)
		if mine {
			return n, nil
		}
		if n == p.share.Size {
			pause(ctx, slotsFull)
			continue
		}
		if !h.slots.attempt(h.ctx, n) {
			return 0, context.Cause(h.ctx)
		}
		key := p.slotKeys() + strconv.Itoa(n)
		claimed, err := call.Persist(ctx, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return kv.Txn(ctx).
				If(p.Guard().Cmp(), clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, slotValue(p.key, p.token), clientv3.WithLease(p.sess.Lease()))).
				Else(clientv3.OpGet(p.key, clientv3.WithKeysOnly())).
				Commit()
		})
		switch {
		case err != nil:
			return 0, err
		case claimed.Succeeded:
			return n, nil
		case len(own(claimed)) == 0 || own(claimed)[0].CreateRevision != p.token:
			h.lose(errGone)
			return 0, context.Cause(h.ctx)
		}
		// Somebody was faster; or an attempt before, whose reply was lost.
	}
}

// slotKeys is the prefix of the keys that number the owners of the place's line.
func (p *Place) slotKeys() string { return p.prefix + p.share.size() + slotMark }

// slotValue says whose a slot is.
func slotValue(key string, token int64) string { return fmt.Sprintf("%s@%d", key, token) }

// freeSlot returns the place's own slot if it is among those taken, and else the lowest that is not; Size if all are.
func (p *Place) freeSlot(taken []*mvccpb.KeyValue) (n int, mine bool) {
	used := make([]bool, p.share.Size+1)
	for _, kv := range taken {
		n, err := strconv.Atoi(strings.TrimPrefix(string(kv.Key), p.slotKeys()))
		if err != nil || n < 0 || n >= p.share.Size {
			continue // not ours
		}
		if string(kv.Value) == slotValue(p.key, p.token) {
			return n, true
		}
		used[n] = true
	}
	return slices.Index(used, false), false
}

// slotOf reads from a key below a line's prefix which slot it is, and the slotValue of the place that has it.
func slotOf(prefix string, kv *mvccpb.KeyValue) (slot int, of string, ok bool) {
	key := string(kv.Key)
	if !isSlot(prefix, key) {
		return 0, "", false
	}
	slot, err := strconv.Atoi(key[strings.LastIndex(key, slotMark)+1:])
	return slot, string(kv.Value), err == nil
}

// slots are the numbers that a hold has claimed, or may have: those whose reply was lost too.
type slots struct {
	claiming chan struct{} // holds one token while somebody claims

	mu       sync.Mutex // guards what is below
	attempts []int
	slot     int
	granted  bool
}

// once returns the slot, claimed if it was not.
func (s *slots) once(ctx context.Context, claim func() (int, error)) (int, error) {
	select {
	case s.claiming <- struct{}{}:
		defer func() { <-s.claiming }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	s.mu.Lock()
	n, granted := s.slot, s.granted
	s.mu.Unlock()
	if granted {
		return n, nil
	}
	n, err := claim()
	if err == nil {
		s.mu.Lock()
		s.slot, s.granted = n, true
		s.mu.Unlock()
	}
	return n, err
}

// attempt notes a number that is about to be claimed, unless the hold has ended: what it gives back is settled then.
func (s *slots) attempt(hold context.Context, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hold.Err() != nil {
		return false
	}
	if !slices.Contains(s.attempts, n) {
		s.attempts = append(s.attempts, n)
	}
	return true
}

// giveBack are the deletions of the slots that may be the place's, for the transaction that ends it: after that no claim under
// its guard takes effect any more.
func (s *slots) giveBack(p *Place) []clientv3.Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []clientv3.Op
	for _, n := range s.attempts {
		key := p.slotKeys() + strconv.Itoa(n)
		mine := clientv3.Compare(clientv3.Value(key), "=", slotValue(p.key, p.token))
		ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{mine}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
	}
	return ops
}
