package queue

import (
	"context"
	"math"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// slotsSlice is how long a lease is used for slots.
	slotsSlice = 5 * time.Minute

	// slotsSpare is how long they last after it: who is frozen for less between two copies of a request still learns what became of it.
	slotsSpare = time.Minute
)

// slots make a producer's requests such that each is applied once, however many copies of it are sent and whenever these arrive. A slot is a
// key that is there for one request at a time. All copies of a request compare that it is as the producer knows it, and put it anew, with
// the request's name. So whichever is applied keeps out the others, and who is kept out finds the name.
//
// A slot lives on one lease, with which it goes. Nothing that is late finds it absent again, and so as it was when it was new: what
// would put it hangs it on that lease, and etcd refuses the whole of it if there is no such lease.
//
// A slot of which the producer does not know what it holds is never used again. They are safe for concurrent use.
type slots struct {
	leases *memory

	mu    sync.Mutex // guards all below
	lease clientv3.LeaseID
	last  uint64 // number that was given out
	free  []slot // on lease; the one that was used last is the first to be used again
}

// slot is a slot in the state that its producer knows of.
type slot struct {
	lease  clientv3.LeaseID
	number uint64
	mod    int64 // ModRevision; 0 if there is none yet
}

func newSlots() *slots { return &slots{leases: memoryOf(slotsSpare, slotsSlice, math.MaxInt)} }

// take returns a slot that nobody else uses, until it is given back. grant and ctx are those of memory.take.
func (s *slots) take(ctx context.Context, grant func(ctx context.Context, ttl int64) (clientv3.LeaseID, error)) (slot, error) {
	lease, err := s.leases.take(ctx, 1, grant)
	if err != nil {
		return slot{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != lease {
		s.lease, s.free = lease, nil
	}
	if n := len(s.free); n > 0 {
		free := s.free[n-1]
		s.free = s.free[:n-1]
		return free, nil
	}
	s.last++
	return slot{lease: lease, number: s.last}, nil
}

// giveBack has a slot used again that is now at a revision.
func (s *slots) giveBack(used slot, mod int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used.lease == s.lease {
		used.mod = mod
		s.free = append(s.free, used)
	}
}

// drop takes the lease of a slot out of use, and with it all its slots.
func (s *slots) drop(gone slot) { s.leases.drop(gone.lease) }

// key is the key of a slot.
func (s slot) key(l layout, producer string) string {
	return l.pushed() + producer + "-" + strconv.FormatUint(s.number, 10)
}

// longestSlot is how long the part of a slot's key is that follows the prefix, at most.
const longestSlot = 8 + len("-") + 20
