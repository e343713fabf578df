package bench_test

import (
	"context"
	"fmt"
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
	return fmt.Sprintf("rate: %d\ntimeout: 2s\ntags: [mail, eu-west-1a]\n", rate)
}

// BenchmarkConfigSeen is a change of a document, from the put until a reader has it: ours decoded and from Changes, theirs as an event.
func BenchmarkConfigSeen(b *testing.B) {
	for _, impl := range []string{ours, watch} {
		b.Run("impl="+impl, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			key := etcdtest.Prefix(b) + "limits"
			writer := etcdtest.Client(b)
			if _, err := writer.Put(ctx, key, limitsText(0)); err != nil {
				b.Fatal(err)
			}
			seen := documents(ctx, b, impl, key)
			turn := 0
			for b.Loop() {
				turn++
				resp, err := writer.Put(ctx, key, limitsText(turn))
				if err != nil {
					b.Fatal(err)
				}
				for <-seen < resp.Header.Revision {
				}
			}
		})
	}
}

// documents returns the revisions of a key that a reader has seen.
func documents(ctx context.Context, b *testing.B, impl, key string) <-chan int64 {
	b.Helper()
	seen := make(chan int64, 16)
	client := etcdtest.Client(b)
	tell := func(revision int64) {
		select {
		case seen <- revision:
		case <-ctx.Done():
		}
	}
	if impl == ours {
		v, err := config.Open[limits](ctx, client, key, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(v.Close)
		go func() {
			for s := range v.Changes(ctx) {
				tell(s.Revision)
			}
		}()
		return seen
	}
	events := client.Watch(ctx, key, clientv3.WithCreatedNotify())
	<-events
	go func() {
		for resp := range events {
			for _, ev := range resp.Events {
				tell(ev.Kv.ModRevision)
			}
		}
	}()
	return seen
}
