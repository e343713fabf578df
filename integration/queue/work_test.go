package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// workBeside runs Work until the test ends, or stop is called, which returns what Work did.
func workBeside[T any](
	t *testing.T, q *queue.Queue[T], o *queue.WorkOptions, handle func(ctx context.Context, d *queue.Delivery[T]) error,
) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Work(ctx, o, handle) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Work: %v", err)
		}
	})
	return stop
}

func TestEveryJobIsDoneOnceAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	const jobs = 2000
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	var mu sync.Mutex
	seen := map[int]int{}
	all := make(chan struct{})
	workBeside(t, q, &queue.WorkOptions{Concurrency: 64}, func(_ context.Context, d *queue.Delivery[int]) error {
		mu.Lock()
		defer mu.Unlock()
		if seen[d.Item]++; len(seen) == jobs {
			select {
			case <-all:
			default:
				close(all)
			}
		}
		return nil
	})
	for i := range jobs {
		if _, err := q.Push(t.Context(), i, nil); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d of %d jobs done", len(seen), jobs)
	}
	etcdtest.WaitKeys(t, 10*time.Second, cli, queue.Root+name+"//line/jobs/", 0)
	etcdtest.WaitKeys(t, 10*time.Second, cli, queue.Root+name+"//line/claims/", 0)
	mu.Lock()
	defer mu.Unlock()
	for i, n := range seen {
		if n != 1 {
			t.Errorf("job %d was delivered %d times", i, n)
		}
	}
}

// The end of a worker finds its settling hands anywhere: also between their last look and their sleep.
func TestWorkReturnsHoweverOftenItBeginsAndEnds(t *testing.T) {
	t.Parallel()
	const workers, times = 16, 40
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	var going sync.WaitGroup
	for i := range workers {
		q := queue.New[int](cli, fmt.Sprint(name, i), nil)
		going.Go(func() {
			for n := range times {
				if _, err := q.Push(t.Context(), n, nil); err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				err := q.Work(ctx, nil, func(context.Context, *queue.Delivery[int]) error { cancel(); return nil })
				if cancel(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { going.Wait(); close(done) }()
	etcdtest.Done(t, time.Minute, "the work", done)
}
