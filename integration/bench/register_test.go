package bench_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// BenchmarkRegister10k is 10,000 registrations through one client, 64 callers at a time. It reports how long it takes until
// all are in etcd, and until each follows its own key too, as well as the memory that each holds then, stacks
// included. The clean-up closes them, in "s/close".
func BenchmarkRegister10k(b *testing.B) {
	const many, callers = 10_000, 64
	for b.Loop() {
		cli := etcdtest.New(b, nil).Client()
		all := make([]*registry.Registration, many)
		before := inUse()
		start := time.Now()
		each(many, callers, func(n int) {
			i := registry.Instance{Service: "mail", ID: fmt.Sprint(n), Addr: "10.0.0.7:80"}
			var err error
			if all[n], err = registry.Register(b.Context(), cli, i, nil); err != nil {
				b.Error(err)
			}
		})
		b.ReportMetric(time.Since(start).Seconds(), "s/register")
		if b.Failed() {
			b.FailNow()
		}
		settled(b)
		b.ReportMetric(time.Since(start).Seconds(), "s/followed")
		b.ReportMetric(float64(inUse()-before)/many, "B/registration")
		start = time.Now()
		each(many, callers, func(n int) {
			if err := all[n].Close(context.Background()); err != nil {
				b.Error(err)
			}
		})
		b.ReportMetric(time.Since(start).Seconds(), "s/close")
	}
}

// each runs do for 0 to n-1, some at a time.
func each(n, atATime int, do func(int)) {
	var all sync.WaitGroup
	next := make(chan int)
	for range atATime {
		all.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// inUse is the memory in use after a collection.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// settled returns when goroutines have stopped to come.
func settled(b *testing.B) {
	b.Helper()
	last := 0
	etcdtest.Eventually(b, time.Minute, "all is followed", func(ctx context.Context) error {
		before := last
		select {
		case <-time.After(200 * time.Millisecond): // by which the next ones would have come
		case <-ctx.Done():
		}
		if last = runtime.NumGoroutine(); last != before {
			return fmt.Errorf("%d goroutines, and then %d", before, last)
		}
		return nil
	})
}
