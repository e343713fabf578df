package queue_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/queue"
)

// memoryInUse is the heap after what nobody needs is gone.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A worker holds a window on the head of the line, however long the line is, when it comes and while it grows, and whoever works. etcd is a
// process of its own, so that the heap is the worker's.
func TestAWorkersMemoryDoesNotGrowWithTheQueue(t *testing.T) { // not beside other tests, whose heap is the same
	const (
		shallow = 100
		most    = 16 << 20
		taken   = 5000
	)
	deep := 500_000
	if costRace {
		deep = 100_000
	}
	c, err := etcdproc.Start(t.Context(), etcdproc.Config{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	dial := func() *clientv3.Client {
		cli, err := c.Client(clientv3.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cli.Close() })
		return cli
	}
	var (
		name    = costName(t)
		oracle  = dial()
		turns   = make(chan struct{})
		began   = make(chan struct{}, 1<<16)
		handled atomic.Int64
		opts    = &queue.WorkOptions{Concurrency: 64, DrainTimeout: time.Millisecond}
	)
	work := func() (end func()) {
		return costWork(t, dial(), name, opts, func(ctx context.Context, _ *queue.Delivery[int]) error {
			began <- struct{}{}
			select {
			case <-turns:
				handled.Add(1)
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	await := func(n int) { // so many handlers have a job
		t.Helper()
		for range n {
			select {
			case <-began:
			case <-time.After(30 * time.Second):
				t.Fatal("no job is handled")
			}
		}
	}
	within := func(what string, base int64) {
		t.Helper()
		grown := memoryInUse() - base
		t.Logf("%s: %+d KiB", what, grown>>10)
		if grown > most {
			t.Errorf("%s: the heap has grown by %d KiB, want at most %d", what, grown>>10, most>>10)
		}
	}

	costFill(t, oracle, name, 0, shallow, -time.Hour)
	end := work()
	await(64)
	base := memoryInUse()

	start := time.Now()
	for n := shallow; n < deep; n += 10_000 { // each call has a minute
		costFill(t, oracle, name, n, min(n+10_000, deep), -time.Minute)
	}
	t.Logf("%d jobs were put within %v", deep, time.Since(start))
	within("a worker that saw the line grow", base)

	for range taken {
		turns <- struct{}{}
	}
	await(taken)
	within("a worker that has done some of them", base)
	end()
	for len(began) > 0 {
		<-began
	}

	end = work()
	await(64)
	within("a worker that came to a long line", base)
	for range taken {
		turns <- struct{}{}
	}
	await(taken)
	within("and has done some of them", base)
	end()
	if n := handled.Load(); n != 2*taken {
		t.Errorf("%d jobs were handled, want %d", n, 2*taken)
	}
}
