package lock

import (
	"context"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/session"
)

// Mutex is a named lock that one at a time holds, in all processes together; or, if it is an [RWMutex]'s Reader, any number of
// readers. It is a name and where sessions come from, without state: copy it, make it anew for each use, share it
// between goroutines.
type Mutex struct {
	line  line
	share turn.Share
}

// NewMutex returns the lock of a name. A *[session.Session] as source ties it to that one session; a
// *[session.Keeper] opens the next when one is lost. It does no I/O.
//
// The name is opaque, as in etcd: "orders", "/locks/x" and "/my-lock/" are names. An empty name and control
// characters are refused by the methods. "orders/42" is another lock than "orders", and neither blocks the
// other; towards etcd's own concurrency.Mutex it does, because that counts everything below the name.
func NewMutex(source session.Source, name string) Mutex {
	return Mutex{line: line{source, name, mutex}}
}

// Do runs fn while holding the lock. fn's context is ctx, ended also when the lock is lost, with [fence.ErrLost]
// as its cause. The lock is kept until fn has returned, also after ctx has ended, and then given back.
//
// Do returns fn's error, joined with what went wrong about the lock. If the lock was lost before it was given
// back that is [fence.ErrLost], even if fn returned nil: somebody else may have gone on meanwhile. If fn was not
// run, it is an error as Lock returns it.
func (m Mutex) Do(ctx context.Context, fn func(ctx context.Context, g fence.Guard) error) error {
	return m.line.do(ctx, m.share, fn)
}

// Lock waits for the lock, first come, first served, and holds it. ctx bounds the wait, not the hold; the wait
// ends within a quarter of a second of ctx, and nothing stays in line, whether etcd can be reached or not.
//
// A waiter whose key is deleted, by a person say, comes again at the end of the line.
//
// It returns ctx's cause; the cause of the session's end, which is [fence.ErrLost], if that came first and the source has no
// other session (a keeper has: then Lock waits on through that, at the end of the line);
// [ErrReentrant] under the context of a holder; [ErrSize] if it is to be read under and a semaphore has the name; or an error
// that names the rule that the name breaks, or the endpoint that failed. Transient failures of etcd are waited out.
func (m Mutex) Lock(ctx context.Context) (*Held, error) { return m.line.lock(ctx, m.share) }

// TryLock holds the lock if nobody holds it or waits for it, and returns [ErrLocked] otherwise. It asks etcd
// once and leaves nothing behind. ctx bounds it. Its other errors are those of Lock.
func (m Mutex) TryLock(ctx context.Context) (*Held, error) { return m.line.try(ctx, m.share) }
