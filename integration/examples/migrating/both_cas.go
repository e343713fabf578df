package migrating

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

var errOldHolds = errors.New("a program of the old kind has it")

func bothLocks(ctx context.Context, sess *session.Session, name, oldKey string, work func(context.Context, fence.Guard) error) error {
	return lock.NewMutex(sess, name).Do(ctx, func(ctx context.Context, g fence.Guard) error {
		kv := g.KV(sess.Client().KV)
		ours := clientv3.Compare(clientv3.LeaseValue(oldKey), "=", sess.Lease())
		resp, err := kv.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(oldKey), "=", 0)).
			Then(clientv3.OpPut(oldKey, "", clientv3.WithLease(sess.Lease()))).
			Commit()
		switch {
		case err == nil && resp.Succeeded:
			err = work(ctx, g)
		case err == nil:
			err = errOldHolds
		}
		_, freed := kv.Txn(ctx).If(ours).Then(clientv3.OpDelete(oldKey)).Commit() // also after an answer that was lost
		return errors.Join(err, freed)
	})
}
