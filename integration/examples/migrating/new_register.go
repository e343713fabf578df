package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
)

func newRegister(ctx context.Context, client *clientv3.Client, id, addr string) (*registry.Registration, error) {
	return registry.Register(ctx, client, registry.Instance{Service: "mail", ID: id, Addr: addr}, nil) // reg.Drain, reg.Close
}

func newFind(ctx context.Context, client *clientv3.Client) (*registry.View, error) {
	return registry.Watch(ctx, client, "mail", nil) // view.Snapshot(), a list in memory
}
