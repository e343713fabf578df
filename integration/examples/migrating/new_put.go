package migrating

import (
	"context"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/retry"
)

func newCount(ctx context.Context, client *clientv3.Client, key string) error {
	for {
		resp, err := client.Get(ctx, key)
		if err != nil {
			return err
		}
		n, revision := 0, int64(0) // of a key that does not exist
		for _, kv := range resp.Kvs {
			revision = kv.ModRevision
			if n, err = strconv.Atoi(string(kv.Value)); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		r, err := retry.Commit(ctx, client,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", revision)},
			[]clientv3.Op{clientv3.OpPut(key, strconv.Itoa(n+1))}, nil)
		if err != nil || r.Outcome == retry.Applied {
			return err // an ambiguous one says so
		}
	}
}
