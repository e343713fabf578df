package bench_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// BenchmarkQueuePush pushes so many jobs with one call: ours by Push and PushMany, raw by one transaction after the other of 128 puts
// each, and raw8 with eight of them in flight. One operation is all of them; jobs/s is the one to compare.
func BenchmarkQueuePush(b *testing.B) {
	c := etcdtest.New(b, nil)
	for _, jobs := range []int{1, 100, 10_000} {
		for _, impl := range []string{ours, raw, "raw8"} {
			b.Run(fmt.Sprintf("jobs=%d/impl=%s", jobs, impl), func(b *testing.B) {
				l, client := newLine(c, b, ours), c.Client()
				q := queue.New[mail](client, l.name, nil)
				for b.Loop() {
					first := l.reserve(jobs)
					switch {
					case impl == raw:
						pushRaw(b, client, l, first, jobs)
					case impl != ours:
						each((jobs+txnOps-1)/txnOps, inFlight, func(i int) {
							pushRaw(b, client, l, first+i*txnOps, min(txnOps, jobs-i*txnOps))
						})
					default:
						push(b, q, first, jobs)
					}
				}
				b.ReportMetric(float64(b.N)*float64(jobs)/b.Elapsed().Seconds(), "jobs/s")
				l.check(b) // all are there
				l.empty(b)
			})
		}
	}
}

func push(b *testing.B, q *queue.Queue[mail], first, jobs int) {
	if jobs == 1 {
		if _, err := q.Push(b.Context(), letter(first), nil); err != nil {
			b.Fatal(err)
		}
		return
	}
	items := make([]mail, jobs)
	for i := range items {
		items[i] = letter(first + i)
	}
	if _, err := q.PushMany(b.Context(), items, nil); err != nil {
		b.Fatal(err)
	}
}

func pushRaw(b *testing.B, client *clientv3.Client, l *line, first, jobs int) {
	for jobs > 0 {
		ops := make([]clientv3.Op, min(jobs, txnOps))
		for i := range ops {
			ops[i] = clientv3.OpPut(l.job(first+i), l.value(first+i))
		}
		if _, err := client.Txn(b.Context()).Then(ops...).Commit(); err != nil {
			b.Error(err)
			return
		}
		first, jobs = first+len(ops), jobs-len(ops)
	}
}
