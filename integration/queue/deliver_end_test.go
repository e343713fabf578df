package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/session"
)

func TestATimeoutEndsTheHandlersContext(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	causes := make(chan error, 2)
	workBeside(t, q, &queue.WorkOptions{Timeout: 50 * time.Millisecond, Backoff: quick}, func(ctx context.Context, d *queue.Delivery[string]) error {
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	})
	if cause := etcdtest.Receive(t, soon, "the end", causes); !errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("the cause is %v", cause)
	}
	emptied(t, cli, name)
}

func TestALostSessionEndsItsDeliveriesAndTheWorkGoesOn(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	type delivery struct {
		*queue.Delivery[string]
		over chan error
	}
	deliveries := make(chan delivery, 4)
	workBeside(t, q, &queue.WorkOptions{Session: &session.Options{TTL: time.Minute}}, func(ctx context.Context, d *queue.Delivery[string]) error {
		it := delivery{d, make(chan error, 1)}
		deliveries <- it
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		it.over <- context.Cause(ctx)
		return nil // too late to count
	})
	first := etcdtest.Receive(t, soon, "the delivery", deliveries)
	workers, err := cli.Get(t.Context(), root(name)+"line/workers/", clientv3.WithPrefix())
	if err != nil || len(workers.Kvs) != 1 {
		t.Fatalf("workers: %v, %v", workers, err)
	}
	c.Revoke(clientv3.LeaseID(workers.Kvs[0].Lease))
	if cause := etcdtest.Receive(t, time.Second, "the end of the delivery", first.over); !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	for range 2 {
		if err := first.Ack(t.Context(), clientv3.OpPut(name+"-late", "")); !errors.Is(err, fence.ErrLost) {
			t.Errorf("a late acknowledgement: %v", err)
		}
	}
	second := etcdtest.Receive(t, soon, "the second delivery", deliveries)
	if second.Attempt != 2 || second.ID != first.ID || !strings.Contains(second.LastErr, "worker lost") {
		t.Errorf("the second delivery is attempt %d of %s after %q", second.Attempt, second.ID, second.LastErr)
	}
	if second.Guard().Token <= first.Guard().Token {
		t.Errorf("token %d follows %d", second.Guard().Token, first.Guard().Token)
	}
	if _, err := first.Guard().Commit(t.Context(), cli, clientv3.OpPut(name+"-late", "")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("a write under the first delivery's guard: %v", err)
	}
	emptied(t, cli, name)
	if late, err := cli.Get(t.Context(), name+"-late"); err != nil || late.Count != 0 {
		t.Errorf("what came late was written: %v, %v", late, err)
	}
}

func TestAClaimDeletedByAStrangerEndsItsDeliveryAlone(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "a", nil)
	push(t, q, "b", nil)
	deliveries := make(chan *queue.Delivery[string], 4)
	goOn := make(chan struct{})
	workBeside(t, q, &queue.WorkOptions{Concurrency: 2}, func(ctx context.Context, d *queue.Delivery[string]) error {
		deliveries <- d
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-goOn:
			return nil
		}
	})
	a, b := etcdtest.Receive(t, soon, "one", deliveries), etcdtest.Receive(t, soon, "the other", deliveries)
	if _, err := cli.Delete(t.Context(), a.Guard().Key); err != nil {
		t.Fatal(err)
	}
	etcdtest.Returns(t, time.Second, "the loss", func() { <-a.Context().Done() })
	if cause := context.Cause(a.Context()); !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	again := etcdtest.Receive(t, soon, "the job again", deliveries)
	if again.ID != a.ID {
		t.Errorf("%s came again, want %s", again.ID, a.ID)
	}
	if b.Context().Err() != nil {
		t.Errorf("the other delivery has ended: %v", context.Cause(b.Context()))
	}
	close(goOn)
	emptied(t, cli, name)
}

func TestAWorkerThatStopsGivesBackWhatItHasNotBegun(t *testing.T) {
	t.Parallel()
	const quickly, all = 200, 230 // jobs that are done at once, so that it is worth to have some at hand
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	items := make([]int, all)
	for i := range items {
		items[i] = i
	}
	if _, err := q.PushMany(t.Context(), items, nil); err != nil {
		t.Fatal(err)
	}
	began, goOn := make(chan int, all), make(chan struct{})
	free := sync.OnceFunc(func() { close(goOn) })
	defer free()
	stop := workBeside(t, q, &queue.WorkOptions{Prefetch: 5}, func(_ context.Context, d *queue.Delivery[int]) error {
		if d.Item >= quickly {
			began <- d.Item
			<-goOn
		}
		return nil
	})
	if first := etcdtest.Receive(t, soon, "the first that takes long", began); first != quickly {
		t.Errorf("job %d came, want %d", first, quickly)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 6)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/workers/", 1) // it waits for its handler
	free()
	if err := etcdtest.Receive(t, soon, "the end of the work", stopped); err != nil {
		t.Errorf("Work returned %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", all-quickly-1-len(began))
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 0)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/workers/", 0)
	if got := collect(t, q, all-quickly-1); !slices.Equal(got, items[quickly+1:]) {
		t.Errorf("given back and delivered again: %v", got)
	}
}

func TestAHandlerThatDoesNotReturnIsToldAfterTheDrainTimeout(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	push(t, q, 1, nil)
	began := make(chan struct{})
	stop := workBeside(t, q, &queue.WorkOptions{DrainTimeout: 50 * time.Millisecond}, func(ctx context.Context, _ *queue.Delivery[int]) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	etcdtest.Returns(t, soon, "the beginning", func() { <-began })
	if err := stop(); err != nil {
		t.Errorf("Work returned %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", 1)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 0)
}
