package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	queueSoon = 20 * time.Second

	// queueSecret is in every item, and in every error of a handler.
	queueSecret = "queue-secret-4711"
)

// queueQuick are waits that a test does not notice.
var queueQuick = retry.Policy{Initial: time.Millisecond, Max: 2 * time.Millisecond}

// queueWorld is a queue that a test has for itself, and what is measured of it.
type queueWorld struct {
	*queue.Queue[string]
	t    *testing.T
	cli  *clientv3.Client
	name string
}

func newQueueWorld(t *testing.T, cli *clientv3.Client, o *queue.Options[string]) *queueWorld {
	name := etcdtest.Prefix(t) + "q"
	return &queueWorld{queue.New(cli, name, o), t, cli, name}
}

// key is one of the queue's.
func (w *queueWorld) key(rest string) string { return queue.Root + w.name + "//" + rest }

func (w *queueWorld) push(o *queue.PushOptions) string {
	w.t.Helper()
	id, err := w.Push(w.t.Context(), queueSecret, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// work has somebody work until the test ends, or the function is called that is returned.
func (w *queueWorld) work(o *queue.WorkOptions, handle func(ctx context.Context, d *queue.Delivery[string]) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Work(ctx, o, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Work: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// value is what is measured of the queue now.
func (w *queueWorld) value(name string, attrs ...string) float64 {
	w.t.Helper()
	return value(w.t, name, append(attrs, "etcdkit.queue.name", w.name)...)
}

// reports says whether a gauge has a value for the queue.
func (w *queueWorld) reports(name string) bool {
	w.t.Helper()
	return slices.ContainsFunc(points(w.t, name), func(p point) bool { return p.attrs["etcdkit.queue.name"] == w.name })
}

// measured waits until a value is what it should be.
func (w *queueWorld) measured(want float64, name string, attrs ...string) {
	w.t.Helper()
	etcdtest.Eventually(w.t, queueSoon, name+" "+strings.Join(attrs, " "), func(context.Context) error {
		if got := w.value(name, attrs...); got != want {
			return fmt.Errorf("it is %v, want %v", got, want)
		}
		return nil
	})
}

// outcomes waits until so many deliveries have ended in each way, and no others.
func (w *queueWorld) outcomes(want map[string]float64) {
	w.t.Helper()
	for _, o := range []string{"acked", "retried", "dead", "released", "lost"} {
		w.measured(want[o], "etcdkit.queue.attempts", "etcdkit.outcome", o)
	}
}

// handled waits until so many runs of handlers are measured with each outcome.
func (w *queueWorld) handled(want map[string]float64) {
	w.t.Helper()
	for _, o := range []string{"acked", "retried", "dead", "released", "lost"} {
		w.measured(want[o], "etcdkit.queue.handling", "etcdkit.outcome", o)
	}
}

// seconds is the sum of a histogram's values of the queue.
func (w *queueWorld) seconds(name string) float64 {
	w.t.Helper()
	data, err := read(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	if h, ok := data.(metricdata.Histogram[float64]); ok {
		for _, p := range h.DataPoints {
			if v, _ := p.Attributes.Value("etcdkit.queue.name"); v.AsString() == w.name {
				sum += p.Sum
			}
		}
	}
	return sum
}

// spans waits for so many spans of the queue, by what they do.
func (w *queueWorld) spans(what string, n int) []trace.ReadOnlySpan {
	w.t.Helper()
	var found []trace.ReadOnlySpan
	etcdtest.Eventually(w.t, queueSoon, "the spans "+what+" "+w.name, func(context.Context) error {
		found = nil
		for _, s := range spans.Ended() {
			if s.Name() == what+" "+w.name {
				found = append(found, s)
			}
		}
		if len(found) != n {
			return fmt.Errorf("there are %d, want %d", len(found), n)
		}
		return nil
	})
	return found
}

// queueAttr is an attribute of a span as text, "" if it has none.
func queueAttr(s trace.ReadOnlySpan, key attribute.Key) string {
	for _, kv := range s.Attributes() {
		if kv.Key == key {
			return kv.Value.String()
		}
	}
	return ""
}

// errQueueHandler is of a handler that tells more than it should.
var errQueueHandler = errors.New("cannot do " + queueSecret)
