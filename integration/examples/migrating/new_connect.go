package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

func newConnect(ctx context.Context, endpoints []string) (*pool.Pool, error) {
	return pool.Open(ctx, pool.Config{Endpoints: endpoints}) // p.Client() is a *clientv3.Client; p.Close(ctx)
}

func newClient(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialOptions: retry.DialOptions(retry.Policy{}),
	})
}
