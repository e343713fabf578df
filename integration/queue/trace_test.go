package queue_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestATraceTravelsWithTheJobThroughItsRedeliveries(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	pushed := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5, 6}, TraceFlags: trace.FlagsSampled,
	})
	if _, err := q.Push(trace.ContextWithSpanContext(t.Context(), pushed), "job", nil); err != nil {
		t.Fatal(err)
	}
	got := make(chan trace.SpanContext, 3)
	type own struct{}
	ctx := context.WithValue(context.Background(), own{}, "value")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- q.Work(ctx, &queue.WorkOptions{Backoff: quick}, func(ctx context.Context, d *queue.Delivery[string]) error {
			got <- trace.SpanContextFromContext(ctx)
			if ctx.Value(own{}) != "value" {
				t.Error("the handler's context lacks the values of Work's")
			}
			if d.Attempt < 3 {
				return d.Nack(ctx, 0)
			}
			return nil
		})
	}()
	for range 3 {
		c := etcdtest.Receive(t, soon, "a delivery", got)
		if c.TraceID() != pushed.TraceID() || c.SpanID() != pushed.SpanID() || !c.IsSampled() || !c.IsRemote() {
			t.Errorf("the delivery is of trace %v, span %v", c.TraceID(), c.SpanID())
		}
	}
	emptied(t, cli, name)
	cancel()
	if err := etcdtest.Receive(t, soon, "the end", done); err != nil {
		t.Error(err)
	}
}
