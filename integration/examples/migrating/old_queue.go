package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func oldPush(client *clientv3.Client, prefix, item string) error {
	return recipe.NewQueue(client, prefix).Enqueue(item)
}

func oldWork(ctx context.Context, client *clientv3.Client, prefix string, handle func(context.Context, string) error) error {
	q := recipe.NewQueue(client, prefix)
	for ctx.Err() == nil {
		item, err := q.Dequeue()
		if err != nil {
			return err
		}
		if err := handle(ctx, item); err != nil {
			return err // the item is gone
		}
	}
	return nil
}
