package etcdtest

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/queue"
)

// WaitQueueEmpty returns when the queue of a name holds no job: none waits, is delayed, or in flight. It fails the test if that is not
// so within the given time, and names the first job. Dead letters are none. The client must see the queue's keys as the queue's
// own does: if that is in a namespace, so must it be.
func WaitQueueEmpty(t testing.TB, within time.Duration, cli *clientv3.Client, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	jobs, first := queue.Root+name+"//line/jobs/", ""
	// Deletions alone can make it empty, and while many come one look at a time is enough.
	changes := cli.Watch(ctx, jobs, clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	for {
		change, ok := <-changes
		if !ok || ctx.Err() != nil {
			t.Fatalf("etcdtest: queue %q: not empty within %v: there is %s", name, within, first)
		}
		if err := change.Err(); err != nil {
			t.Fatalf("etcdtest: queue %q: waiting until it is empty: %v", name, err)
		}
		resp, err := cli.Get(ctx, jobs, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		switch {
		case ctx.Err() != nil: // the watch ends, too
		case err != nil:
			t.Fatalf("etcdtest: queue %q: waiting until it is empty: %v", name, err)
		case len(resp.Kvs) == 0:
			return
		default:
			first = string(resp.Kvs[0].Key)
		}
	}
}

// DrainQueue takes every job that a queue holds, acknowledges it, and returns them all in the order in which they were delivered,
// which is that of the line. It waits for those that are delayed, or in flight elsewhere, and fails the test if it is not through
// within the given time. The deliveries are over: only their fields are of use.
func DrainQueue[T any](t testing.TB, within time.Duration, cli *clientv3.Client, q *queue.Queue[T]) []*queue.Delivery[T] {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		mu    sync.Mutex
		all   []*queue.Delivery[T] // guarded by mu
		ended = make(chan error, 1)
	)
	go func() {
		ended <- q.Work(ctx, &queue.WorkOptions{Prefetch: -1}, func(_ context.Context, d *queue.Delivery[T]) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, d)
			return nil
		})
	}()
	// Who fails the test leaves by way of Goexit, and nobody may work on behind its back.
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("etcdtest: draining queue %q: %v", q.Name(), err)
		}
	}()
	WaitQueueEmpty(t, within, cli, q.Name())
	mu.Lock()
	defer mu.Unlock()
	return all
}

// WaitDeadLetters returns a queue's dead letters when there are exactly n, and fails the test if that is not so within the given time.
func WaitDeadLetters[T any](t testing.TB, within time.Duration, cli *clientv3.Client, q *queue.Queue[T], n int) []queue.Info[T] {
	t.Helper()
	WaitKeys(t, within, cli, queue.Root+q.Name()+"//dead/", n)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	dead, err := q.Dead(ctx, n+1)
	if err != nil {
		t.Fatalf("etcdtest: the dead letters of queue %q: %v", q.Name(), err)
	}
	return dead
}
