package bench_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// naming is the side of etcd's own discovery.
const naming = "endpoints"

// populate puts so many instances of the service mail, and returns the prefix and the value of each but for its last character.
func populate(b *testing.B, n int) (prefix, value string) {
	b.Helper()
	prefix = strings.TrimSuffix(etcdtest.Prefix(b), "/")
	value = `{"Op":0,"Addr":"10.0.0.7:8080","Metadata":{"pod":"mail-5d8f7c","az":"eu-west-1a"},"Zone":"eu-west-1a","Version":"1.2.3","Weight":10`
	w, err := batch.New(etcdtest.Client(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if _, err := w.Put(b.Context(), instanceKey(prefix, i), value+"0}"); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	return prefix, value
}

func instanceKey(prefix string, i int) string { return fmt.Sprintf("%s/mail/mail-%05d", prefix, i) }

// changes counts the values that were made of others: none is what a key has had before, which would be no change.
var changes int

func changed(value string) string {
	changes++
	return fmt.Sprintf("%s%d}", value, 1000+changes%8999)
}

// cpu is the time that this process, which is etcd's too, has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkChangeSeen is a change of one of many instances, from the put until a reader has it: ours with the whole new list,
// theirs, which keeps none, as an event. cpu-us/op is of everybody, etcd included.
func BenchmarkChangeSeen(b *testing.B) {
	for _, n := range []int{100, 5000} {
		prefix, value := populate(b, n)
		for _, impl := range []string{ours, naming} {
			b.Run(fmt.Sprintf("instances=%d/impl=%s", n, impl), func(b *testing.B) {
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				seen := follows(ctx, b, impl, prefix, n)
				writer, turn := etcdtest.Client(b), 0
				used := cpu(b)
				for b.Loop() {
					turn++
					resp, err := writer.Put(ctx, instanceKey(prefix, turn%n), changed(value))
					if err != nil {
						b.Fatal(err)
					}
					for <-seen < resp.Header.Revision {
					}
				}
				b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// follows returns the revisions that a reader has seen, after the first list. Theirs does not tell them, so each event
// counts as the newest.
func follows(ctx context.Context, b *testing.B, impl, prefix string, n int) <-chan int64 {
	b.Helper()
	seen := make(chan int64, 16)
	client := etcdtest.Client(b)
	if impl == ours {
		v, err := registry.Watch(ctx, client, "mail", &registry.ViewOptions{Prefix: prefix})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(v.Close)
		if got := len(v.Snapshot().Instances); got != n {
			b.Fatalf("%d instances, want %d", got, n)
		}
		go func() {
			for s := range v.Changes(ctx) {
				select {
				case seen <- s.Revision:
				case <-ctx.Done():
				}
			}
		}()
		return seen
	}
	m, err := endpoints.NewManager(client, prefix+"/mail")
	if err != nil {
		b.Fatal(err)
	}
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if got := len(<-updates); got != n {
		b.Fatalf("%d instances, want %d", got, n)
	}
	go func() {
		for range updates {
			select {
			case seen <- 1 << 62:
			case <-ctx.Done():
			}
		}
	}()
	return seen
}

// BenchmarkList is a view of 10,000 instances being opened. B/instance is what it keeps in memory for each.
func BenchmarkList(b *testing.B) {
	const n = 10_000
	prefix, _ := populate(b, n)
	var kept float64
	for b.Loop() {
		b.StopTimer()
		client := etcdtest.Client(b)
		if _, err := client.Get(b.Context(), prefix, clientv3.WithCountOnly()); err != nil { // so that it is connected
			b.Fatal(err)
		}
		before := heap()
		b.StartTimer()
		v, err := registry.Watch(b.Context(), client, "mail", &registry.ViewOptions{Prefix: prefix})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if got := len(v.Snapshot().Instances); got != n {
			b.Fatalf("%d instances", got)
		}
		kept = float64(heap()-before) / n
		v.Close()
		b.StartTimer()
	}
	b.ReportMetric(kept, "B/instance")
}

// heap is what is in use, after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools kept through the first one
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFanOut is one change of 10,000 instances until each of 100 views, with a client each, has it.
func BenchmarkFanOut(b *testing.B) {
	const n, readers = 10_000, 100
	prefix, value := populate(b, n)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var all []<-chan int64
	for range readers {
		all = append(all, follows(ctx, b, ours, prefix, n))
	}
	writer, turn := etcdtest.Client(b), 0
	var took []time.Duration
	for b.Loop() {
		turn++
		resp, err := writer.Put(ctx, instanceKey(prefix, turn%n), changed(value))
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		var waiting sync.WaitGroup
		for _, seen := range all {
			waiting.Go(func() {
				for <-seen < resp.Header.Revision {
				}
			})
		}
		waiting.Wait()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
