package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/session"
)

var (
	// ErrLocked is what TryLock returns when somebody holds the lock or waits for it.
	ErrLocked = errors.New("lock: held by somebody else")

	// ErrReentrant is what locking returns under the context of a holder of the same lock.
	ErrReentrant = errors.New("lock: held by the caller already, and locks are not reentrant: waiting would never end")
)

// Mutex is a named lock that one at a time holds, in all processes together. It is a name and where sessions
// come from, without state: copy it, make it anew for each use, share it between goroutines.
type Mutex struct {
	source session.Source
	name   string
}

// NewMutex returns the lock of a name. A *[session.Session] as source ties it to that one session; a
// *[session.Keeper] opens the next when one is lost. It does no I/O.
//
// The name is opaque, as in etcd: "orders", "/locks/x" and "/my-lock/" are names. An empty name and control
// characters are refused by the methods. "orders/42" is another lock than "orders", and neither blocks the
// other; towards etcd's own concurrency.Mutex it does, because that counts everything below the name.
func NewMutex(source session.Source, name string) Mutex {
	return Mutex{source: source, name: name}
}

// Do runs fn while holding the lock. fn's context is ctx, ended also when the lock is lost, with [fence.ErrLost]
// as its cause. The lock is kept until fn has returned, also after ctx has ended, and then given back.
//
// Do returns fn's error, joined with what went wrong about the lock. If the lock was lost before it was given
// back that is [fence.ErrLost], even if fn returned nil: somebody else may have gone on meanwhile. If fn was not
// run, it is an error as Lock returns it.
func (m Mutex) Do(ctx context.Context, fn func(ctx context.Context, g fence.Guard) error) (err error) {
	held, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	work, cancel := held.hold.Work(ctx)
	// Deferred, so that a panic in fn gives the lock back too.
	defer func() {
		cancel()
		err = errors.Join(err, held.Unlock(ctx))
	}()
	return fn(work, held.Guard())
}

// Lock waits for the lock, first come, first served, and holds it. ctx bounds the wait, not the hold; the wait
// ends within a quarter of a second of ctx, and nothing stays in line, whether etcd can be reached or not.
//
// It returns ctx's cause; the cause of the session's end, which is [fence.ErrLost], if that came first;
// [ErrReentrant] under the context of a holder; or an error that names the rule that the name breaks, or the
// endpoint that failed. Transient failures of etcd are waited out.
func (m Mutex) Lock(ctx context.Context) (*Held, error) {
	sess, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	place, err := turn.Join(ctx, sess, turn.Prefix(m.name), turn.Share{}, newOwner().encode())
	if err != nil {
		return nil, m.failed(err)
	}
	if err := place.Wait(ctx); err != nil {
		// What became of the place is etcd's to tell; the caller wants to know why there is no lock.
		_ = place.Leave(ctx)
		return nil, m.failed(err)
	}
	return &Held{hold: turn.Own(place)}, nil
}

// TryLock holds the lock if nobody holds it or waits for it, and returns [ErrLocked] otherwise. It asks etcd
// once and leaves nothing behind. ctx bounds it. Its other errors are those of Lock.
func (m Mutex) TryLock(ctx context.Context) (*Held, error) {
	sess, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	place, err := turn.Try(ctx, sess, turn.Prefix(m.name), turn.Share{}, newOwner().encode())
	if errors.Is(err, turn.ErrTaken) {
		return nil, m.failed(ErrLocked)
	}
	if err != nil {
		return nil, m.failed(err)
	}
	return &Held{hold: turn.Own(place)}, nil
}

// enter checks the name and the context, and returns the session to lock with.
func (m Mutex) enter(ctx context.Context) (*session.Session, error) {
	if err := names.Opaque("lock", m.name); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if ctx.Err() != nil {
		return nil, m.failed(context.Cause(ctx))
	}
	sess, err := m.source.Live(ctx)
	if err != nil {
		return nil, m.failed(err)
	}
	if turn.Within(ctx, sess, turn.Prefix(m.name)) {
		return nil, m.failed(ErrReentrant)
	}
	return sess, nil
}

func (m Mutex) failed(err error) error { return fmt.Errorf("lock %q: %w", m.name, err) }
