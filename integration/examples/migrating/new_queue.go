package migrating

import (
	"context"

	"github.com/etcdkit/etcdkit/queue"
)

func newPush(ctx context.Context, q *queue.Queue[string], item string) error { // q is queue.New[string](client, "mail", nil)
	_, err := q.Push(ctx, item, nil)
	return err
}

func newWork(ctx context.Context, q *queue.Queue[string], handle func(context.Context, string) error) error {
	return q.Work(ctx, nil, func(ctx context.Context, d *queue.Delivery[string]) error {
		return handle(ctx, d.Item) // nil: done; an error: again, later
	})
}
