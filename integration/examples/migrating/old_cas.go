package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func oldTry(ctx context.Context, client *clientv3.Client, key string, work func() error) (bool, error) {
	lease, err := client.Grant(ctx, 10)
	if err != nil {
		return false, err
	}
	if _, err := client.KeepAlive(ctx, lease.ID); err != nil {
		return false, err
	}
	resp, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, "", clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !resp.Succeeded {
		return false, err // somebody else has it
	}
	defer client.Delete(ctx, key)
	return true, work()
}
