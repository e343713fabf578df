package bench_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
)

// stock is a client as clientv3.New makes it.
const stock = "clientv3"

// reader reads in a loop of its own until ctx ends.
type reader func(ctx context.Context, read func(ctx context.Context, client *clientv3.Client) error) error

// BenchmarkPool is the renewal of a lease and an event of a watch while eight readers pull ranges of 1 MiB without pause, all
// through what one program has: a client, or a pool. Pulls go by Pool.Do, as they should (readers=bulk), or through the pool's
// client (readers=client); both over one connection, as many as a client has. One operation is a renewal, and then a put by another client until its event is seen; the quantiles of
// each are the ones to compare. MiB/s is what the readers got meanwhile.
func BenchmarkPool(b *testing.B) {
	const (
		readers, keys, size = 8, 16, 64 << 10

		// way is how far it is to the member. Over no distance at all there is nothing to wait behind: then all that is
		// measured is who gets the processor.
		way = 2 * time.Millisecond
	)
	c := etcdtest.Shared(b)
	prefix := etcdtest.Prefix(b)
	writer := c.Client()
	for i := range keys {
		if _, err := writer.Put(b.Context(), prefix+"large/"+strconv.Itoa(i), strings.Repeat("v", size)); err != nil {
			b.Fatal(err)
		}
	}
	for _, how := range []string{"bulk", "client"} {
		for _, impl := range []string{ours, stock} {
			b.Run("readers="+how+"/impl="+impl, func(b *testing.B) {
				link := c.Link(0)
				link.Delay(etcdtest.Both, way, way)
				client, read := newPoolOrClient(b, impl, how, link)
				watch := client.Watch(b.Context(), prefix+"watched", clientv3.WithCreatedNotify())
				<-watch
				lease, err := client.Grant(b.Context(), 600)
				if err != nil {
					b.Fatal(err)
				}
				ctx, stop := context.WithCancel(b.Context())
				var (
					all   sync.WaitGroup
					mu    sync.Mutex // guards pulls
					pulls int
				)
				for range readers {
					all.Go(func() {
						for ctx.Err() == nil {
							err := read(ctx, func(ctx context.Context, client *clientv3.Client) error {
								_, err := client.Get(ctx, prefix+"large/", clientv3.WithPrefix(), clientv3.WithSerializable())
								return err
							})
							if err != nil && ctx.Err() == nil {
								b.Error(err)
								return
							}
							mu.Lock()
							pulls++
							mu.Unlock()
						}
					})
				}
				for { // all of them are under way when the clock starts
					mu.Lock()
					n := pulls
					mu.Unlock()
					if n >= 2*readers || b.Failed() {
						break
					}
					<-time.After(time.Millisecond)
				}
				var renewals, events []time.Duration
				before, began := pulls, time.Now()
				for b.Loop() {
					start := time.Now()
					if _, err := client.KeepAliveOnce(b.Context(), lease.ID); err != nil {
						b.Fatal(err)
					}
					renewals = append(renewals, time.Since(start))
					start = time.Now()
					if _, err := writer.Put(b.Context(), prefix+"watched", ""); err != nil {
						b.Fatal(err)
					}
					<-watch
					events = append(events, time.Since(start))
				}
				took := time.Since(began)
				stop()
				all.Wait()
				for what, d := range map[string][]time.Duration{"renewal": renewals, "event": events} {
					slices.Sort(d)
					b.ReportMetric(float64(d[len(d)/2])/1e6, what+"-p50-ms")
					b.ReportMetric(float64(d[len(d)*99/100])/1e6, what+"-p99-ms")
				}
				b.ReportMetric(float64(pulls-before)*keys*size/(1<<20)/took.Seconds(), "MiB/s")
			})
		}
	}
}

func newPoolOrClient(b *testing.B, impl, how string, link *etcdtest.Link) (*clientv3.Client, reader) {
	if impl == stock {
		client := link.Client()
		return client, func(ctx context.Context, read func(context.Context, *clientv3.Client) error) error {
			return read(ctx, client)
		}
	}
	p, err := pool.Open(b.Context(), pool.Config{Endpoints: []string{link.Endpoint()}, MaxConnections: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close(context.Background()) })
	if how == "bulk" {
		return p.Client(), p.Do
	}
	return p.Client(), func(ctx context.Context, read func(context.Context, *clientv3.Client) error) error {
		return read(ctx, p.Client())
	}
}
