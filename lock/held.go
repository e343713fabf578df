package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/turn"
)

var errNoSlots = errors.New("readers have no slots: there may be any number of them")

// Held is one acquisition of a lock, or of a semaphore's permits. It is safe for concurrent use.
type Held struct {
	name string
	hold *turn.Hold
}

// Context ends when this acquisition no longer holds. Its cause is [fence.ErrLost], with the reason, unless
// Unlock ended it. Work that the lock protects runs under it. It does not end with the context that Lock was given.
func (h *Held) Context() context.Context { return h.hold.Context() }

// Guard proves this acquisition, for writes that must not come too late.
func (h *Held) Guard() fence.Guard { return h.hold.Guard() }

// Slot numbers the holders of a [Semaphore], from 0 to its size less one: no two who hold at a time have the same, whatever their
// weights. It is the number of a worker, or which of a fleet's instances this is. The lowest number that is free is claimed in
// etcd when it is first asked for; it is kept until Unlock, or the session's end. Who holds a [Mutex] has slot 0; a reader has
// none, which is an error.
//
// ctx bounds it: it may have to wait for a number that one who has lost its permits has not given back. Its other errors are the
// cause of the Context's end, and the endpoint that failed.
func (h *Held) Slot(ctx context.Context) (int, error) {
	n, err := h.hold.Slot(ctx)
	if errors.Is(err, turn.ErrNoSlots) {
		err = errNoSlots
	}
	if err != nil {
		return 0, fmt.Errorf("lock %q: slot: %w", h.name, err)
	}
	return n, nil
}

// Unlock ends the Context and gives the lock back: this acquisition only, never a newer one. It works with a ctx
// that is done, then for a moment (150 ms).
//
// It returns nil once etcd has freed the lock; [fence.ErrLost] if it had been lost before, or if its fate is
// unknown because the session ended first; ctx's cause if etcd has not answered by then; or etcd's error, as
// to a user who may not write there any more. In the last two cases the lock goes on being given back until the
// session ends. A later call learns the answer that was missing.
func (h *Held) Unlock(ctx context.Context) error {
	if h == nil {
		return nil // so that it may be deferred before the error of locking is looked at
	}
	return h.hold.Release(ctx)
}
