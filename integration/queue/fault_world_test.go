package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// faultSoon is the patience with what has no bound of its own.
	faultSoon = 20 * time.Second

	// faultNoticed is the bound for learning that a claim, or its worker's lease, is gone while etcd can be reached.
	faultNoticed = 1500 * time.Millisecond

	// faultTTL is a TTL that short faults do not outlast.
	faultTTL = 6 * time.Second
)

// faultWorld is a cluster with one queue, whose pushes and deliveries are written down.
type faultWorld struct {
	t      *testing.T
	c      *etcdtest.Cluster
	root   string
	record *modelRecorder
	trail  *stormTrail
	tags   atomic.Int64
	stops  []func()
}

func newFaultWorld(t *testing.T, members int) *faultWorld {
	t.Helper()
	w := &faultWorld{t: t, c: etcdtest.New(t, &etcdtest.Options{Members: members}), record: newModelRecorder(), root: queue.Root + stormName + "//"}
	w.c.WaitLeader()
	w.trail = newStormTrail(t, w.c.Client(), w.root)
	return w
}

func (w *faultWorld) queue(cli *clientv3.Client) *queue.Queue[stormItem] {
	return queue.New(cli, stormName, &queue.Options[stormItem]{MaxAttempts: 5})
}

// faultHandler is what is done with a job, and noted in r.
type faultHandler func(ctx context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error

// done is a handler that is done at once.
func (w *faultWorld) done(_ context.Context, _ *queue.Delivery[stormItem], r *modelDelivery) error {
	w.record.gives(r, modelDone)
	return nil
}

// gate returns a handler that says what it has, and is done with everything once it is told to go on: later without waiting.
func (w *faultWorld) gate() (handle faultHandler, has <-chan *queue.Delivery[stormItem], goOn func()) {
	given, gate := make(chan *queue.Delivery[stormItem], 1000), make(chan struct{})
	return func(ctx context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error {
		given <- d
		select {
		case <-gate:
			return w.done(ctx, d, r)
		case <-ctx.Done():
			w.record.told(r)
			return context.Cause(ctx)
		}
	}, given, sync.OnceFunc(func() { close(gate) })
}

// work works until the world is judged, or stop is called.
func (w *faultWorld) work(cli *clientv3.Client, concurrency int, ttl time.Duration, handle faultHandler) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	number, ended := len(w.stops), make(chan error, 1)
	go func() {
		ended <- w.queue(cli).Work(ctx, &queue.WorkOptions{
			Concurrency: concurrency, DrainTimeout: 5 * time.Second, Session: &session.Options{TTL: ttl},
			Backoff: retry.Policy{Initial: 50 * time.Millisecond, Max: 200 * time.Millisecond},
		}, func(ctx context.Context, d *queue.Delivery[stormItem]) error {
			r := w.record.deliver(d.Context(), modelDelivery{
				tag: d.Item.N, id: d.ID, key: d.Key, attempt: d.Attempt, token: int64(d.Guard().Token), worker: number,
			})
			defer context.AfterFunc(d.Context(), func() { w.record.told(r) })()
			return handle(ctx, d, r)
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("worker %d: %v", number, err)
		}
	})
	w.stops = append(w.stops, stop)
	w.t.Cleanup(stop)
	return stop
}

// tryPush pushes n jobs in one call, and notes what comes of it.
func (w *faultWorld) tryPush(q *queue.Queue[stormItem], n int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	last := int(w.tags.Add(int64(n)))
	var items []stormItem
	var noted []*modelPush
	for tag := last - n + 1; tag <= last; tag++ {
		items = append(items, stormItem{tag})
		noted = append(noted, w.record.push(modelPush{tag: tag}))
	}
	ids, err := q.PushMany(ctx, items, nil)
	stormPushed(w.record, noted, ids, err)
	return err
}

// push pushes n jobs, and fails the test if it cannot.
func (w *faultWorld) push(q *queue.Queue[stormItem], n int) {
	w.t.Helper()
	if err := w.tryPush(q, n, faultSoon); err != nil {
		w.t.Fatalf("push: %v", err)
	}
}

// pushing pushes ten jobs at a time, again and again, until stopped; then it returns the errors there were.
func (w *faultWorld) pushing(cli *clientv3.Client, within time.Duration) (stop func() []error) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan []error, 1)
	q := w.queue(cli)
	go func() {
		var errs []error
		defer func() { done <- errs }()
		for ctx.Err() == nil {
			if err := w.tryPush(q, 10, within); err != nil {
				errs = append(errs, err)
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return sync.OnceValue(func() []error { cancel(); return <-done })
}

// empty waits until nothing is left to do.
func (w *faultWorld) empty() {
	w.t.Helper()
	etcdtest.WaitQueueEmpty(w.t, faultSoon, w.c.Client(), stormName)
}

// judge stops all and holds what was seen against what is promised, and against what etcd did.
func (w *faultWorld) judge() modelHistory {
	w.t.Helper()
	for _, stop := range w.stops {
		stop()
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), faultSoon)
	defer cancel()
	oracle := w.c.Oracle(w.c.WaitLeader())
	h := w.record.history()
	stormRemains(ctx, w.t, oracle, w.root, &h)
	mark, err := oracle.Put(ctx, w.root+"~", "")
	if err != nil {
		w.t.Fatal(err)
	}
	m := newModelTrail()
	m.takeAll(w.trail.upTo(mark.Header.Revision))
	h.first = m.first
	for _, v := range append(modelCheck(h), m.judge(h)...) {
		w.t.Errorf("%v", v)
	}
	w.t.Logf("%d pushes, %d deliveries", len(h.pushes), len(h.deliveries))
	return h
}

// faultUndisturbed fails the test if any delivery was lost.
func faultUndisturbed(t *testing.T, h modelHistory) {
	t.Helper()
	for _, d := range h.deliveries {
		if d.attempt > 1 || d.end == modelKept || d.outcome == modelRefused {
			t.Errorf("disturbed: %v", &d)
		}
	}
}

// faultNone fails the test for every error.
func faultNone(t *testing.T, errs []error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%d pushes failed: %v", len(errs), err)
	}
}

// count is how many deliveries there were.
func (w *faultWorld) count() int {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	return len(w.record.deliveries)
}

// delivered waits until there were n deliveries.
func (w *faultWorld) delivered(n int) {
	w.t.Helper()
	etcdtest.Eventually(w.t, faultSoon, fmt.Sprintf("%d deliveries", n), func(context.Context) error {
		if had := w.count(); had < n {
			return fmt.Errorf("there were %d", had)
		}
		return nil
	})
}
