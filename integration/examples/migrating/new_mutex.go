package migrating

import (
	"context"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func newLock(ctx context.Context, sess *session.Session, name string, work func(context.Context, fence.Guard) error) error {
	return lock.NewMutex(sess, name).Do(ctx, work) // work writes by g.Commit, and ends with its ctx
}
