package bench_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// BenchmarkQueuePushMany is jobs of 100 bytes pushed 1,280 at a time, eleven transactions, by writers that share a client, beside as many puts
// of keys and values of the same sizes in ten transactions of 128. One operation is one PushMany; jobs/s is the one to compare.
func BenchmarkQueuePushMany(b *testing.B) {
	const jobs = 10 * txnOps
	item := strings.Repeat("v", 98) // and its quotes
	for _, writers := range []int{1, 8} {
		for _, impl := range []string{ours, raw} {
			b.Run(fmt.Sprintf("writers=%d/impl=%s", writers, impl), func(b *testing.B) {
				client, name := etcdtest.Client(b), lineOf(b)
				push := putJobs(client, queue.Root+name+"//", "\n\""+item+"\"")
				if impl == ours {
					items := make([]string, jobs)
					for i := range items {
						items[i] = item
					}
					q := queue.New[string](client, name, nil)
					push = func(ctx context.Context, _ int) error {
						_, err := q.PushMany(ctx, items, nil)
						return err
					}
				}
				b.Cleanup(func() { // or etcd's index grows from run to run
					if _, err := client.Delete(context.Background(), queue.Root+name+"//", clientv3.WithPrefix()); err != nil {
						b.Error(err)
					}
				})
				turns := make(chan struct{})
				var going sync.WaitGroup
				for range writers {
					going.Go(func() {
						for range turns {
							if err := push(b.Context(), jobs); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					turns <- struct{}{}
				}
				close(turns)
				going.Wait()
				b.ReportMetric(float64(b.N)*jobs/b.Elapsed().Seconds(), "jobs/s")
			})
		}
	}
}

// putJobs puts fresh keys, as long as a queue's, in transactions of txnOps.
func putJobs(client *clientv3.Client, prefix, value string) func(ctx context.Context, jobs int) error {
	var n atomic.Int64
	return func(ctx context.Context, jobs int) error {
		for range jobs / txnOps {
			first := n.Add(txnOps)
			ops := make([]clientv3.Op, txnOps)
			for i := range ops {
				ops[i] = clientv3.OpPut(fmt.Sprintf("%sline/jobs/100/%013x-producer", prefix, first+int64(i)), value)
			}
			if _, err := client.Txn(ctx).Then(ops...).Commit(); err != nil {
				return err
			}
		}
		return nil
	}
}
