package lock

import (
	"context"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/turn"
)

// Held is one acquisition of a lock. It is safe for concurrent use.
type Held struct {
	hold *turn.Hold
}

// Context ends when this acquisition no longer holds. Its cause is [fence.ErrLost], with the reason, unless
// Unlock ended it. Work that the lock protects runs under it. It does not end with the context that Lock was given.
func (h *Held) Context() context.Context { return h.hold.Context() }

// Guard proves this acquisition, for writes that must not come too late.
func (h *Held) Guard() fence.Guard { return h.hold.Guard() }

// Unlock ends the Context and gives the lock back: this acquisition only, never a newer one. It works with a ctx
// that is done, then for a moment (150 ms).
//
// It returns nil once etcd has freed the lock; [fence.ErrLost] if it had been lost before, or if its fate is
// unknown because the session ended first; or ctx's cause if etcd has not answered by then. In that case the
// lock goes on being given back until the session ends, and a later call learns the result.
func (h *Held) Unlock(ctx context.Context) error { return h.hold.Release(ctx) }
