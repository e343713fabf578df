package queue

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

const (
	// leaseKeys is how many IDs hang on one lease. When it expires etcd deletes them all in one go, and does nothing else meanwhile.
	leaseKeys = 1000

	// pushTakes is how long after its beginning a request may still be answered: what internal/call gives up after.
	pushTakes = 10 * time.Second
)

// memory gives out the leases that the seen/ keys, and the pushed/ keys of slots, hang on. A lease is granted for the time that a key is
// to be remembered and a slice more, in which all pushes use it, and is never renewed. So a key lives for the time that was promised, and up
// to a slice and pushTakes longer, at the price of few leases. It is safe for concurrent use.
type memory struct {
	slice time.Duration // how long a lease is used; 0 if nothing is remembered
	ttl   int64         // in seconds
	most  int           // keys a lease
	turn  chan struct{} // has room for the one who grants a lease
	now   func() boottime.Instant

	mu    sync.Mutex // guards all below
	lease clientv3.LeaseID
	until boottime.Instant // it is used
	left  int              // how many more keys
}

// newMemory returns the window of a producer that remembers IDs for so long.
func newMemory(remember time.Duration) *memory {
	if remember <= 0 {
		return memoryOf(0, 0, 0)
	}
	return memoryOf(remember, max(remember/8, time.Second), leaseKeys)
}

// memoryOf returns a memory whose leases are used for a slice and so many keys.
func memoryOf(remember, slice time.Duration, most int) *memory {
	return &memory{
		slice: slice, most: most, turn: make(chan struct{}, 1), now: boottime.Now,
		// Counted from the answer to the push: one that began at the slice's very end may be answered that much later.
		ttl: int64((remember + slice + pushTakes + time.Second - 1) / time.Second),
	}
}

// take returns a lease for n keys that are about to be written, or none if n is 0 or nothing is remembered. grant is called for a new one, by one at
// a time. ctx bounds it.
func (w *memory) take(ctx context.Context, n int, grant func(ctx context.Context, ttl int64) (clientv3.LeaseID, error)) (clientv3.LeaseID, error) {
	if n == 0 || w.slice == 0 {
		return clientv3.NoLease, nil
	}
	if id, ok := w.current(n); ok {
		return id, nil
	}
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return clientv3.NoLease, ctx.Err()
	}
	if id, ok := w.current(n); ok { // somebody else was at it
		return id, nil
	}
	began := w.now() // before the lease can begin to run
	id, err := grant(ctx, w.ttl)
	if err != nil {
		return clientv3.NoLease, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lease, w.until, w.left = id, began.Add(w.slice), w.most-n
	return id, nil
}

// current returns the lease in use if it has room for n more.
func (w *memory) current(n int) (clientv3.LeaseID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lease == clientv3.NoLease || w.left < n || w.now() >= w.until {
		return clientv3.NoLease, false
	}
	w.left -= n
	return w.lease, true
}

// drop takes a lease out of use that etcd does not know any more.
func (w *memory) drop(id clientv3.LeaseID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lease == id {
		w.lease = clientv3.NoLease
	}
}
