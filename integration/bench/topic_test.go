package bench_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// watched is the side of etcd's client as it is: a key a message, and a watch, which misses what was compacted and keeps everything.
const watched = "watch"

var topicMessage = strings.Repeat("x", 200)

// topicPublisher returns what publishes a message on either side.
func topicPublisher(b *testing.B, impl, name string) func(ctx context.Context) error {
	client := etcdtest.Client(b)
	if impl == ours {
		t := queue.NewTopic(client, name, &queue.TopicOptions[string]{Codec: codec.String()})
		return func(ctx context.Context) error {
			_, err := t.Publish(ctx, topicMessage)
			return err
		}
	}
	var n atomic.Int64
	return func(ctx context.Context) error {
		_, err := client.Put(ctx, fmt.Sprintf("%s/%p/%016x", name, &n, n.Add(1)), topicMessage)
		return err
	}
}

// topicSubscriber returns a channel that gets a token for each message, from a client of its own.
func topicSubscriber(ctx context.Context, b *testing.B, impl, name string) <-chan struct{} {
	client, came := etcdtest.Client(b), make(chan struct{}, 1024)
	if impl == ours {
		t := queue.NewTopic(client, name, &queue.TopicOptions[string]{Codec: codec.String()})
		from, err := t.End(ctx)
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for _, err := range t.Subscribe(ctx, from) {
				if err != nil {
					b.Error(err)
					return
				}
				came <- struct{}{}
			}
		}()
		return came
	}
	responses := client.Watch(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-responses
	go func() {
		for resp := range responses {
			for range resp.Events {
				came <- struct{}{}
			}
		}
	}()
	return came
}

// BenchmarkTopicReceived is a message from its publishing until all subscribers, each with a client of its own, have it.
func BenchmarkTopicReceived(b *testing.B) {
	for _, n := range []int{1, 16} {
		for _, impl := range []string{ours, watched} {
			b.Run(fmt.Sprintf("subscribers=%d/impl=%s", n, impl), func(b *testing.B) {
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				name := strings.Trim(etcdtest.Prefix(b), "/")
				publish := topicPublisher(b, impl, name)
				subscribers := make([]<-chan struct{}, n)
				for i := range subscribers {
					subscribers[i] = topicSubscriber(ctx, b, impl, name)
				}
				round := func() {
					if err := publish(ctx); err != nil {
						b.Fatal(err)
					}
					for _, came := range subscribers {
						<-came
					}
				}
				round() // all are connected
				for b.Loop() {
					round()
				}
			})
		}
	}
}

// BenchmarkTopicPublished is messages from 16 publishers at once, and one subscriber that gets them all.
func BenchmarkTopicPublished(b *testing.B) {
	for _, impl := range []string{ours, watched} {
		b.Run("publishers=16/impl="+impl, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			name := strings.Trim(etcdtest.Prefix(b), "/")
			came := topicSubscriber(ctx, b, impl, name)
			const publishers = 16
			tokens, done := make(chan struct{}), make(chan struct{})
			for range publishers {
				publish := topicPublisher(b, impl, name)
				go func() {
					for range tokens {
						if err := publish(ctx); err != nil {
							b.Error(err)
						}
					}
					done <- struct{}{}
				}()
			}
			sent, got := 0, 0
			for b.Loop() {
				for taken := false; !taken; {
					select {
					case tokens <- struct{}{}:
						sent, taken = sent+1, true
					case <-came:
						got++
					}
				}
			}
			close(tokens)
			for ended := 0; ended < publishers || got < sent; {
				select {
				case <-done:
					ended++
				case <-came:
					got++
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkTopicCaughtUp is 10,000 kept messages being read by a new subscriber; op is all of them.
func BenchmarkTopicCaughtUp(b *testing.B) {
	const n = 10_000
	name := strings.Trim(etcdtest.Prefix(b), "/")
	t := queue.NewTopic(etcdtest.Client(b), name, &queue.TopicOptions[string]{Codec: codec.String(), KeepMessages: 2 * n})
	msgs := make([]string, n)
	for i := range msgs {
		msgs[i] = topicMessage
	}
	if _, err := t.PublishMany(b.Context(), msgs); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		left := n
		for _, err := range t.Subscribe(ctx, queue.Position{}) {
			if err != nil {
				b.Fatal(err)
			}
			if left--; left == 0 {
				break
			}
		}
		cancel()
	}
}
