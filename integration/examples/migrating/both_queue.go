package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/queue"
)

func moveOne(ctx context.Context, client *clientv3.Client, prefix string, q *queue.Queue[string]) (moved bool, err error) {
	resp, err := client.Get(ctx, prefix+"/", clientv3.WithFirstRev()...)
	if err != nil || len(resp.Kvs) == 0 {
		return false, err
	}
	first := resp.Kvs[0]
	ops, cmps, err := q.PushOp(string(first.Value), nil)
	if err != nil {
		return false, err
	}
	cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(string(first.Key)), "=", first.ModRevision))
	_, err = client.Txn(ctx).If(cmps...).Then(append(ops, clientv3.OpDelete(string(first.Key)))...).Commit()
	return err == nil, err // refused: somebody else has taken it. Ambiguous: it was moved, or is there, and not both
}
