package bench_test

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// BenchmarkCrowd is a line of 1,000 who wait, each through a client and a session of its own that has done nothing else before.
// One operation is the whole line: all come, while one holds, and then each gets its turn once. Reported are the hand-overs a
// second, and what each costs: events of watches that the server sends, unary calls, and watches opened.
func BenchmarkCrowd(b *testing.B) {
	const (
		waiters = 1000
		atOnce  = 20 // come together: what is measured is the line, and not what a machine does that is asked too much
	)
	for _, impl := range []string{ours, theirs} {
		b.Run("waiters=1000/impl="+impl, func(b *testing.B) {
			var (
				calls    etcdtest.Calls
				c        = etcdtest.Shared(b)
				watch    = etcdtest.Client(b)
				events   float64
				took     time.Duration
				unary    int
				watches  int
				acquired int
			)
			for b.Loop() {
				b.StopTimer()
				takes := make([]locker, waiters)
				for i := range takes {
					takes[i] = newLocker(b, impl, c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), lineOf(b))
				}
				unlock, err := newLocker(b, impl, watch, lineOf(b))(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				var all sync.WaitGroup
				calls.Reset()
				for i, take := range takes {
					if i%atOnce == 0 {
						etcdtest.WaitKeys(b, time.Minute, watch, lineOf(b)+"/", i+1)
					}
					all.Go(func() {
						unlock, err := take(b.Context())
						if err != nil {
							b.Error(err)
							return
						}
						unlock()
					})
				}
				etcdtest.WaitKeys(b, time.Minute, watch, lineOf(b)+"/", waiters+1)
				settled := time.NewTimer(2 * time.Second) // the last have opened their watches
				<-settled.C
				before, start := eventsSent(b), time.Now()
				b.StartTimer()
				unlock()
				all.Wait()
				took += time.Since(start)
				events += eventsSent(b) - before
				counts := calls.Counts()
				for _, call := range []string{"Txn", "Range", "Put", "DeleteRange"} {
					unary += counts[call]
				}
				watches += counts[etcdtest.WatchCreate]
				acquired += waiters
			}
			each := func(n float64) float64 { return n / float64(acquired) }
			b.ReportMetric(float64(acquired)/took.Seconds(), "acquisitions/s")
			b.ReportMetric(each(events), "events/hand-over")
			b.ReportMetric(each(float64(unary)), "unary/waiter")
			b.ReportMetric(each(float64(watches)), "watches/waiter")
		})
	}
}

// eventsSent is how many events the server has sent to watches so far.
func eventsSent(b *testing.B) float64 {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "etcd_debugging_mvcc_events_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	b.Fatal("the server does not count events")
	return 0
}
