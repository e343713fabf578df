package migrating

import (
	"context"
	"errors"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func newTry(ctx context.Context, sess *session.Session, name string, work func(context.Context, fence.Guard) error) (bool, error) {
	held, err := lock.NewMutex(sess, name).TryLock(ctx)
	if err != nil {
		if errors.Is(err, lock.ErrLocked) {
			err = nil // somebody else has it
		}
		return false, err
	}
	return true, errors.Join(work(held.Context(), held.Guard()), held.Unlock(ctx))
}
