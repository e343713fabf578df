package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// watch is the side of client/v3's watch, with nothing around it.
const watch = "watch"

// limits is a document as services have them.
type limits struct {
	Rate    int           `json:"rate"`
	Timeout time.Duration `json:"timeout"`
	Tags    []string      `json:"tags"`
}

func limitsText(rate int) string {
	return fmt.Sprintf(`{"rate": %d, "timeout": "2s", "tags": ["mail", "eu-west-1a"]}`, rate)
}

// BenchmarkConfigSeen is a change of a document, from the put until a reader has it: ours decoded and from Changes, theirs as an event.
func BenchmarkConfigSeen(b *testing.B) {
	changesSeen(b, "number", func(n int) string { return fmt.Sprint(n) }, follow[int])
	changesSeen(b, "json", limitsText, follow[limits])
	changesSeen(b, "yaml", func(n int) string {
		return fmt.Sprintf("rate: %d\ntimeout: 2s\ntags: [mail, eu-west-1a]\n", n)
	}, follow[limits])
}

// changesSeen measures one kind of document.
func changesSeen(b *testing.B, kind string, text func(int) string, open func(context.Context, *testing.B, string, func(int64))) {
	for impl, reader := range map[string]func(context.Context, *testing.B, string, func(int64)){ours: open, watch: events} {
		b.Run(fmt.Sprintf("document=%s/impl=%s", kind, impl), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			key, writer := etcdtest.Prefix(b)+"limits", etcdtest.Client(b)
			if _, err := writer.Put(ctx, key, text(0)); err != nil {
				b.Fatal(err)
			}
			seen := make(chan int64, 16)
			reader(ctx, b, key, func(revision int64) {
				select {
				case seen <- revision:
				case <-ctx.Done():
				}
			})
			turn := 0
			for b.Loop() {
				turn++
				resp, err := writer.Put(ctx, key, text(turn))
				if err != nil {
					b.Fatal(err)
				}
				for <-seen < resp.Header.Revision {
				}
			}
		})
	}
}

// follow tells the revisions that a Value yields.
func follow[T any](ctx context.Context, b *testing.B, key string, tell func(int64)) {
	b.Helper()
	v, err := config.Open[T](ctx, etcdtest.Client(b), key, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(v.Close)
	go func() {
		for s := range v.Changes(ctx) {
			tell(s.Revision)
		}
	}()
}

// events tells the revisions that a watch brings.
func events(ctx context.Context, b *testing.B, key string, tell func(int64)) {
	b.Helper()
	responses := etcdtest.Client(b).Watch(ctx, key, clientv3.WithCreatedNotify())
	<-responses
	go func() {
		for resp := range responses {
			for _, ev := range resp.Events {
				tell(ev.Kv.ModRevision)
			}
		}
	}()
}

// BenchmarkPublish is a published change of a document that a hundred instances follow, each through a client of its own, as processes
// would: until the last of them has it (seen-ms), and until WaitApplied says that all have applied it (applied-ms).
func BenchmarkPublish(b *testing.B) {
	const instances = 100
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	key := etcdtest.Prefix(b) + "limits"
	store, err := config.NewStore(etcdtest.Client(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := store.Publish(ctx, key, []byte(limitsText(0)), config.PublishOptions{}); err != nil {
		b.Fatal(err)
	}
	seen := make(chan int64, instances)
	for n := range instances {
		v, err := config.Open[limits](ctx, etcdtest.Client(b), key, &config.Options[limits]{
			Identity: config.Identity{ID: fmt.Sprintf("i%03d", n)},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(v.Close)
		go func() {
			for s := range v.Changes(ctx) {
				seen <- s.Revision
			}
		}()
	}
	for range instances {
		<-seen
	}
	var all, applied, worst time.Duration
	turn := 0
	for b.Loop() {
		turn++
		began := time.Now()
		published, err := store.Publish(ctx, key, []byte(limitsText(turn)), config.PublishOptions{Author: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		for left := instances; left > 0; {
			if <-seen == published.Revision {
				left--
			}
		}
		took := time.Since(began)
		all, worst = all+took, max(worst, took)
		reports, err := store.WaitApplied(ctx, key, published.Revision)
		if err != nil || len(reports) != instances {
			b.Fatal(len(reports), err)
		}
		applied += time.Since(began)
	}
	perOp := func(d time.Duration) float64 { return d.Seconds() * 1e3 / float64(b.N) }
	b.ReportMetric(perOp(all), "seen-ms/op")
	b.ReportMetric(worst.Seconds()*1e3, "seen-ms-worst")
	b.ReportMetric(perOp(applied), "applied-ms/op")
}

// BenchmarkTree is a change of one key of a tree of a thousand, from the put until a reader has the new value.
func BenchmarkTree(b *testing.B) {
	for layers := 1; layers <= 2; layers++ {
		b.Run(fmt.Sprintf("layers=%d", layers), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			app, writer := strings.TrimSuffix(etcdtest.Prefix(b), "/"), etcdtest.Client(b)
			for n := range 1000 {
				if _, err := writer.Put(ctx, fmt.Sprintf("%s/base/k%03d", app, n), "0"); err != nil {
					b.Fatal(err)
				}
			}
			prefixes := []string{app + "/base", app + "/prod"}[:layers]
			v, err := config.OpenTree[map[string]int](ctx, etcdtest.Client(b), prefixes, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(v.Close)
			seen := make(chan int64, 16)
			go func() {
				for s := range v.Changes(ctx) {
					select {
					case seen <- s.Revision:
					case <-ctx.Done():
					}
				}
			}()
			turn := 0
			for b.Loop() {
				turn++
				resp, err := writer.Put(ctx, fmt.Sprintf("%s/base/k%03d", app, turn%1000), fmt.Sprint(turn))
				if err != nil {
					b.Fatal(err)
				}
				for <-seen < resp.Header.Revision {
				}
			}
		})
	}
}
