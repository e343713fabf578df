package bench_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// BenchmarkQueueHop is the time from the call that pushes a job until a worker's handler has it, which had nothing to do: ours claimed
// by then, recipes deleted, and with a bare watch merely seen. p50-ns is the one to compare.
func BenchmarkQueueHop(b *testing.B) {
	c := etcdtest.New(b, nil)
	b.Run("impl="+ours, func(b *testing.B) {
		l := newLine(c, b, ours)
		q := queue.New[mail](c.Client(), l.name, nil)
		ctx, cancel := context.WithCancel(b.Context())
		var going sync.WaitGroup
		came := make(chan time.Time, 1)
		ended := make(chan error, 1)
		going.Go(func() {
			ended <- queue.New[mail](c.Client(), l.name, nil).Work(ctx, nil, func(_ context.Context, d *queue.Delivery[mail]) error {
				came <- time.Now()
				l.take(b, d.Item.N)
				return nil
			})
		})
		hops(b, came, func() {
			if _, err := q.Push(b.Context(), letter(l.reserve(1)), nil); err != nil {
				b.Fatal(err)
			}
		}, func() { etcdtest.WaitKeys(b, time.Minute, l.client, l.jobs(), 0) })
		cancel()
		going.Wait()
		l.check(b)
		if err := <-ended; err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	})
	b.Run("impl="+recipes, func(b *testing.B) {
		l := newLine(c, b, recipes)
		producer, consumer := recipe.NewQueue(c.Client(), l.name), recipe.NewQueue(c.Client(), l.name)
		came := make(chan time.Time, 1)
		wanted := make(chan struct{}, 1)
		var going sync.WaitGroup
		going.Go(func() {
			for range wanted {
				value, err := consumer.Dequeue()
				came <- time.Now()
				if err != nil {
					b.Error(err)
					return
				}
				l.take(b, number(b, value))
			}
		})
		hops(b, came, func() {
			if err := producer.Enqueue(letterText(l.reserve(1))); err != nil {
				b.Fatal(err)
			}
		}, func() { wanted <- struct{}{} })
		// The last round's consumer waits, and cannot be told otherwise.
		if err := producer.Enqueue(letterText(l.reserve(1))); err != nil {
			b.Fatal(err)
		}
		<-came
		close(wanted)
		going.Wait()
		l.check(b)
	})
	b.Run("impl="+watch, func(b *testing.B) {
		prefix, producer := strings.TrimSuffix(etcdtest.Prefix(b), "/"), c.Client()
		seen := c.Client().Watch(b.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-seen
		came := make(chan time.Time, 1)
		go func() {
			for range seen {
				came <- time.Now()
			}
		}()
		hops(b, came, func() {
			if _, err := producer.Put(b.Context(), prefix+"/job", letterText(0)); err != nil {
				b.Fatal(err)
			}
		}, func() {})
	})
}

// hops takes the time from each push until it came. ready makes the consumer wait for the next.
func hops(b *testing.B, came <-chan time.Time, push, ready func()) {
	b.Helper()
	ready()
	push()
	etcdtest.Receive(b, time.Minute, "the first job", came) // the consumer is there
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		ready()
		settled := time.NewTimer(5 * time.Millisecond) // its watch is open, if it opens one for each
		<-settled.C
		b.StartTimer()
		start := time.Now()
		push()
		at := etcdtest.Receive(b, time.Minute, "a job", came)
		took = append(took, at.Sub(start))
	}
	ready()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}
