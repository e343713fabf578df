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
	// ErrLocked is what TryLock and TryAcquire return when they would have to wait.
	ErrLocked = errors.New("lock: held by somebody else, or waited for")

	// ErrReentrant is what locking returns under the context of a holder of the same name.
	ErrReentrant = errors.New("lock: held by the caller already, and locks are not reentrant: waiting would never end")

	// ErrSize is what locking returns when others use the same name with another size: a semaphore of another number, or a
	// semaphore where there are readers.
	ErrSize = turn.ErrSize
)

// line is where all kinds of locks of one name stand, and where sessions come from.
type line struct {
	source session.Source
	name   string
	kind   kind
}

// do runs fn while holding a share.
func (l line) do(ctx context.Context, share turn.Share, fn func(ctx context.Context, g fence.Guard) error) (err error) {
	held, err := l.lock(ctx, share)
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

// lock waits for a share.
func (l line) lock(ctx context.Context, share turn.Share) (*Held, error) {
	ctx, asking := l.ask(ctx)
	held, err := l.take(ctx, func(ctx context.Context, sess *session.Session) (*turn.Place, error) {
		return turn.Stand(ctx, sess, turn.Prefix(l.name), share, newOwner(ctx).encode(), false, asking.waits(ctx))
	})
	asking.answered(ctx, held, err)
	return held, err
}

// try takes a share if it need not wait.
func (l line) try(ctx context.Context, share turn.Share) (*Held, error) {
	ctx, asking := l.ask(ctx)
	held, err := l.take(ctx, func(ctx context.Context, sess *session.Session) (*turn.Place, error) {
		return turn.Try(ctx, sess, turn.Prefix(l.name), share, newOwner(ctx).encode())
	})
	if errors.Is(err, turn.ErrTaken) {
		held, err = nil, l.failed(ErrLocked)
	}
	asking.answered(ctx, held, err)
	return held, err
}

// take holds the place that is found through a session, and looks for another if the session is lost meanwhile and the source
// has a next one. Nothing was owned, so nothing is repaired that must not be.
func (l line) take(ctx context.Context, find func(context.Context, *session.Session) (*turn.Place, error)) (*Held, error) {
	sess, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	for {
		place, err := find(ctx, sess)
		if err == nil {
			return &Held{name: l.name, hold: turn.Own(place, l.kind.begin(ctx))}, nil
		}
		if ctx.Err() != nil || sess.Context().Err() == nil {
			return nil, l.failed(err)
		}
		next, ended := l.source.Live(ctx)
		if ended != nil {
			return nil, l.failed(err)
		}
		sess = next
	}
}

// enter checks the name and the context, and returns the session to lock with.
func (l line) enter(ctx context.Context) (*session.Session, error) {
	if err := names.Opaque("lock", l.name); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if ctx.Err() != nil {
		return nil, l.failed(context.Cause(ctx))
	}
	sess, err := l.source.Live(ctx)
	if err != nil {
		return nil, l.failed(err)
	}
	if turn.Within(ctx, sess, turn.Prefix(l.name)) {
		return nil, l.failed(ErrReentrant)
	}
	return sess, nil
}

func (l line) failed(err error) error { return fmt.Errorf("lock %q: %w", l.name, err) }
