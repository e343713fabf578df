package bench_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// BenchmarkQueueLife is 50,000 jobs that wait when a worker comes: until all are claimed, have gone through one of 64 handlers that
// return at once, and are acknowledged, and the worker is gone again. Beside it as many plain puts by 64 writers. One operation is
// all of them; jobs/s is the one to compare.
func BenchmarkQueueLife(b *testing.B) {
	const jobs, writers = 50_000, 64
	c := etcdtest.New(b, nil)
	b.Run("impl="+ours, func(b *testing.B) {
		l := newLine(c, b, ours)
		q := queue.New[mail](c.Client(), l.name, nil)
		var took time.Duration
		for b.Loop() {
			b.StopTimer()
			l.fill(b, jobs)
			var left atomic.Int64
			left.Store(jobs)
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			b.StartTimer()
			start := time.Now()
			err := q.Work(ctx, &queue.WorkOptions{Concurrency: writers}, func(_ context.Context, d *queue.Delivery[mail]) error {
				l.take(b, d.Item.N)
				if left.Add(-1) == 0 {
					cancel()
				}
				return nil
			})
			took += time.Since(start)
			b.StopTimer()
			cancel()
			if n := left.Load(); n != 0 {
				b.Fatalf("%d of %d jobs were not handled: %v", n, jobs, err)
			}
			l.check(b)
			b.StartTimer()
		}
		b.ReportMetric(float64(b.N)*jobs/took.Seconds(), "jobs/s")
	})
	b.Run("impl="+single, func(b *testing.B) {
		l, client := newLine(c, b, ours), c.Client()
		first := l.reserve(jobs) // the same ones each time: etcd's index must not grow from run to run
		for b.Loop() {
			each(jobs, writers, func(i int) {
				if _, err := client.Put(b.Context(), l.job(first+i), l.value(first+i)); err != nil {
					b.Error(err)
				}
			})
		}
		b.ReportMetric(float64(b.N)*jobs/b.Elapsed().Seconds(), "jobs/s")
	})
}
