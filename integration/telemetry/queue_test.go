package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

func TestQueueCountsJobsThatAreNew(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	w.push(nil)
	if _, err := w.PushMany(t.Context(), make([]string, 300), nil); err != nil {
		t.Fatal(err)
	}
	w.push(&queue.PushOptions{ID: "one"})
	w.push(&queue.PushOptions{ID: "one"}) // which is no other
	job := func(id string) queue.Job[string] {
		return queue.Job[string]{Item: queueSecret, PushOptions: queue.PushOptions{ID: id}}
	}
	if _, err := w.PushJobs(t.Context(), []queue.Job[string]{job(""), job("one"), job("two")}); err != nil {
		t.Fatal(err)
	}
	if got := w.value("etcdkit.queue.pushed"); got != 304 {
		t.Errorf("%v jobs were counted, want 304", got)
	}
	if ops, _, err := w.PushOp(queueSecret, nil); err != nil || len(ops) != 1 || w.value("etcdkit.queue.pushed") != 304 {
		t.Errorf("PushOp: %v, %v; it is counted", ops, err)
	}
}

func TestQueueCountsTheJobsOfASchedule(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- queue.Schedule(ctx, w.Queue, "often", "@every 50ms", &queue.ScheduleOptions{Overlap: true}, func(time.Time) (string, *queue.PushOptions, error) {
			return queueSecret, nil, nil
		})
	}()
	etcdtest.Eventually(t, queueSoon, "three ticks", func(context.Context) error {
		if n := w.value("etcdkit.queue.pushed"); n < 3 {
			return fmt.Errorf("%v are counted", n)
		}
		return nil
	})
	stop()
	if err := etcdtest.Receive(t, queueSoon, "the end of the schedule", done); err != nil {
		t.Errorf("Schedule: %v", err)
	}
	jobs, err := w.cli.Get(t.Context(), w.key("line/jobs/"), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	// A tick whose answer was lost to the end is not counted.
	if n := int64(w.value("etcdkit.queue.pushed")); n != jobs.Count && n != jobs.Count-1 {
		t.Errorf("%d jobs are counted, and %d there", n, jobs.Count)
	}
}

func TestQueueTellsHowDeliveriesEnd(t *testing.T) {
	for what, c := range map[string]struct {
		opts     queue.Options[string]
		handle   func(ctx context.Context, d *queue.Delivery[string]) error // the first delivery; later ones return nil
		outcomes map[string]float64
	}{
		"nil":          {queue.Options[string]{}, func(context.Context, *queue.Delivery[string]) error { return nil }, map[string]float64{"acked": 1}},
		"ack with ops": {queue.Options[string]{}, ackWithOps, map[string]float64{"acked": 1}},
		"an error": {
			queue.Options[string]{},
			func(context.Context, *queue.Delivery[string]) error { return errQueueHandler },
			map[string]float64{"retried": 1, "acked": 1},
		},
		"a panic": {
			queue.Options[string]{},
			func(context.Context, *queue.Delivery[string]) error { panic(queueSecret) },
			map[string]float64{"retried": 1, "acked": 1},
		},
		"nack": {
			queue.Options[string]{},
			func(ctx context.Context, d *queue.Delivery[string]) error { return d.Nack(ctx, 0) },
			map[string]float64{"retried": 1, "acked": 1},
		},
		"permanent": {
			queue.Options[string]{},
			func(context.Context, *queue.Delivery[string]) error { return retry.Permanent(errQueueHandler) },
			map[string]float64{"dead": 1},
		},
		"the last attempt": {
			queue.Options[string]{MaxAttempts: 1},
			func(context.Context, *queue.Delivery[string]) error { return errQueueHandler },
			map[string]float64{"dead": 1},
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newQueueWorld(t, etcdtest.Client(t), &c.opts)
			w.push(nil)
			w.work(&queue.WorkOptions{Backoff: queueQuick}, func(ctx context.Context, d *queue.Delivery[string]) error {
				if d.Attempt > 1 {
					return nil
				}
				return c.handle(ctx, d)
			})
			w.outcomes(c.outcomes)
			w.handled(c.outcomes)
			total := 0
			for outcome, n := range c.outcomes {
				total += int(n)
				for _, s := range w.spans("process", len(c.outcomes)) {
					failed := queueAttr(s, "etcdkit.outcome") != "acked"
					if failed != (s.Status().Code == codes.Error) {
						t.Errorf("%s: the status of a span that is %s is %v", outcome, queueAttr(s, "etcdkit.outcome"), s.Status())
					}
				}
			}
			w.measured(float64(total), "etcdkit.queue.waited")
		})
	}
}

func ackWithOps(ctx context.Context, d *queue.Delivery[string]) error {
	return d.Ack(ctx, clientv3.OpPut("telemetry/"+d.ID, ""))
}

func TestQueueTellsOfAWorkerThatStopsAndGivesBack(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	w.push(nil)
	began := make(chan struct{})
	stop := w.work(&queue.WorkOptions{DrainTimeout: time.Millisecond}, func(ctx context.Context, _ *queue.Delivery[string]) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	etcdtest.Done(t, queueSoon, "the beginning", began)
	stop()
	w.outcomes(map[string]float64{"released": 1})
	w.handled(map[string]float64{"released": 1})
	if s := w.spans("process", 1)[0]; s.Status().Code == codes.Error {
		t.Errorf("its span has the status %v", s.Status())
	}
}

// What cannot be put back with an attempt more, as the database is full, is let go as it was when the worker stops.
func TestQueueTellsOfAJobThatCouldNotBePutBack(t *testing.T) {
	c := etcdtest.New(t, nil)
	w := newQueueWorld(t, c.Client(), nil)
	w.push(nil)
	began, full := make(chan struct{}), make(chan struct{})
	stop := w.work(&queue.WorkOptions{Backoff: queueQuick}, func(context.Context, *queue.Delivery[string]) error {
		close(began)
		<-full
		return errQueueHandler
	})
	etcdtest.Done(t, queueSoon, "the beginning", began)
	c.FillUp()
	close(full)
	w.handled(map[string]float64{"retried": 1}) // as it stood with it then
	stop()
	w.outcomes(map[string]float64{"released": 1})
}

// A delivery that is lost with its session is counted once, by who puts its job back: so it is if its process was killed, too.
func TestQueueTellsOfLostDeliveries(t *testing.T) {
	for what, c := range map[string]struct {
		opts     queue.Options[string]
		lose     func(t *testing.T, w *queueWorld, d *queue.Delivery[string])
		outcomes map[string]float64
	}{
		"with the session":                     {queue.Options[string]{}, revokeWorker, map[string]float64{"lost": 1, "acked": 1}},
		"with the session at the last attempt": {queue.Options[string]{MaxAttempts: 1}, revokeWorker, map[string]float64{"dead": 1}},
		"the claim alone": {queue.Options[string]{}, func(t *testing.T, w *queueWorld, d *queue.Delivery[string]) {
			if _, err := w.cli.Delete(t.Context(), d.Guard().Key); err != nil {
				t.Fatal(err)
			}
		}, map[string]float64{"lost": 1, "acked": 1}},
	} {
		t.Run(what, func(t *testing.T) {
			w := newQueueWorld(t, etcdtest.Client(t), &c.opts)
			w.push(nil)
			first := make(chan *queue.Delivery[string], 1)
			deliveries := 0
			w.work(&queue.WorkOptions{Session: &session.Options{TTL: time.Minute}}, func(ctx context.Context, d *queue.Delivery[string]) error {
				if deliveries++; deliveries > 1 {
					return nil
				}
				first <- d
				<-ctx.Done()
				return nil // which is of no matter
			})
			c.lose(t, w, etcdtest.Receive(t, queueSoon, "the delivery", first))
			w.outcomes(c.outcomes)
			if n := w.value("etcdkit.queue.handling", "etcdkit.outcome", "lost"); n != 1 {
				t.Errorf("%v handlers have lost their jobs, want 1", n)
			}
		})
	}
}

// revokeWorker has the queue's worker lose its lease.
func revokeWorker(t *testing.T, w *queueWorld, _ *queue.Delivery[string]) {
	workers := etcdtest.WaitKeys(t, queueSoon, w.cli, w.key("line/workers/"), 1)
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(workers.Kvs[0].Lease))
}

func TestQueueMeasuresFromWhenAJobIsDue(t *testing.T) {
	const late = 300 * time.Millisecond
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	w.push(nil)
	etcdtest.Nothing(t, late, "anything", make(chan int))
	stop := w.work(nil, func(context.Context, *queue.Delivery[string]) error { return nil })
	w.measured(1, "etcdkit.queue.waited")
	if s := w.seconds("etcdkit.queue.waited"); s < late.Seconds() {
		t.Errorf("a job that has waited for %v is measured with %v s", late, s)
	}
	stop()

	delayed := newQueueWorld(t, w.cli, nil)
	const delay = 2 * time.Second
	delayed.push(&queue.PushOptions{Delay: delay})
	delayed.work(nil, func(context.Context, *queue.Delivery[string]) error { return nil })
	delayed.measured(1, "etcdkit.queue.waited")
	if s := delayed.seconds("etcdkit.queue.waited"); s >= delay.Seconds() {
		t.Errorf("a job that was delayed for %v has waited for %v s: its delay counts", delay, s)
	}
}

func TestQueueLinksAJobToItsProducer(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	id := w.push(nil)
	inside := make(chan oteltrace.SpanContext, 4)
	w.work(&queue.WorkOptions{Backoff: queueQuick, Timeout: time.Minute}, func(ctx context.Context, d *queue.Delivery[string]) error {
		inside <- oteltrace.SpanContextFromContext(ctx)
		if d.Context() != ctx {
			t.Error("the delivery's context is not the handler's")
		}
		if d.Attempt < 2 {
			return errQueueHandler
		}
		return nil
	})
	push := w.spans("push", 1)[0]
	if push.SpanKind() != oteltrace.SpanKindProducer || queueAttr(push, "messaging.message.id") != id ||
		queueAttr(push, "messaging.system") != "etcdkit" || queueAttr(push, "messaging.destination.name") != w.name {
		t.Errorf("the push is a %v with %v", push.SpanKind(), push.Attributes())
	}
	for i, process := range w.spans("process", 2) {
		if links := process.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != push.SpanContext().SpanID() ||
			links[0].SpanContext.TraceID() != push.SpanContext().TraceID() {
			t.Errorf("attempt %d has the links %v, want one to %v", i+1, links, push.SpanContext())
		}
		if process.SpanKind() != oteltrace.SpanKindConsumer || process.SpanContext().TraceID() != push.SpanContext().TraceID() {
			t.Errorf("attempt %d is a %v in another trace", i+1, process.SpanKind())
		}
		if c := etcdtest.Receive(t, queueSoon, "the handler's span", inside); c.SpanID() != process.SpanContext().SpanID() {
			t.Errorf("the handler's context carries %v, want the span of attempt %d", c.SpanID(), i+1)
		}
		if queueAttr(process, "etcdkit.queue.attempt") != fmt.Sprint(i+1) || queueAttr(process, "messaging.message.id") != id ||
			queueAttr(process, "etcdkit.outcome") != []string{"retried", "acked"}[i] {
			t.Errorf("attempt %d has the attributes %v", i+1, process.Attributes())
		}
	}
}

func TestQueueHasOneSpanForAPushOfMany(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	const jobs = 300 // three transactions
	if _, err := w.PushMany(t.Context(), make([]string, jobs), nil); err != nil {
		t.Fatal(err)
	}
	push := w.spans("push", 1)[0]
	if queueAttr(push, "messaging.batch.message_count") != fmt.Sprint(jobs) || queueAttr(push, "messaging.message.id") != "" {
		t.Errorf("it has the attributes %v", push.Attributes())
	}
	w.work(&queue.WorkOptions{Concurrency: 16}, func(context.Context, *queue.Delivery[string]) error { return nil })
	for _, s := range w.spans("process", jobs) {
		if s.Parent().SpanID() != push.SpanContext().SpanID() {
			t.Fatalf("a job is of %v, want %v", s.Parent(), push.SpanContext())
		}
	}
}

func TestQueueTellsWhyAPushFailed(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), &queue.Options[string]{MaxDepth: 1})
	w.push(nil)
	if _, err := w.Push(t.Context(), queueSecret, nil); !errors.Is(err, queue.ErrFull) {
		t.Fatal(err)
	}
	if _, err := w.Push(t.Context(), strings.Repeat("x", queue.MaxItem+1), nil); !errors.Is(err, queue.ErrTooLarge) {
		t.Fatal(err)
	}
	if _, err := w.Push(t.Context(), queueSecret, &queue.PushOptions{Delay: -1}); err == nil {
		t.Fatal("a negative delay is accepted")
	}
	all := w.spans("push", 4)
	for i, want := range []string{"", "full", "too large", "invalid"} {
		if got := queueAttr(all[i], "error.type"); got != want || (want != "") != (all[i].Status().Code == codes.Error) {
			t.Errorf("push %d has the type of error %q and the status %v, want %q", i, got, all[i].Status(), want)
		}
	}
	if n := w.value("etcdkit.queue.pushed"); n != 1 {
		t.Errorf("%v pushes are counted, want 1", n)
	}
}

// What the tests above have reported is looked at, too.
func TestQueueTellsNobodyOfItems(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), &queue.Options[string]{MaxAttempts: 2})
	w.push(&queue.PushOptions{Key: "a-key-of-the-users"})
	w.work(&queue.WorkOptions{Backoff: queueQuick}, func(context.Context, *queue.Delivery[string]) error { return errQueueHandler })
	w.outcomes(map[string]float64{"retried": 1, "dead": 1})
	w.spans("process", 2)
	var told strings.Builder
	for _, s := range spans.Ended() {
		fmt.Fprintln(&told, s.Name(), s.Attributes(), s.Events(), s.Links(), s.Status())
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	measured, err := json.Marshal(all.ScopeMetrics)
	if err != nil {
		t.Fatal(err)
	}
	for what, told := range map[string]string{"spans": told.String(), "metrics": string(measured)} {
		if !strings.Contains(told, w.name) {
			t.Errorf("the %s were not read: the queue is not in them", what)
		}
		for _, word := range []string{queueSecret, "a-key-of-the-users"} {
			if strings.Contains(told, word) {
				t.Errorf("%s tell %q", what, word)
			}
		}
	}
}
