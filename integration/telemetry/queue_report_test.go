package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

var queueGauges = []string{"etcdkit.queue.depth", "etcdkit.queue.oldest_age", "etcdkit.queue.workers"}

// queueReport has queues reported until the test ends, or the function is called that is returned.
func queueReport(t *testing.T, cli *clientv3.Client, o *queue.ReportOptions) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- queue.Report(ctx, cli, o) }()
	stop = func() {
		cancel()
		if err := etcdtest.Receive(t, queueSoon, "the end of Report", done); err != nil {
			t.Errorf("Report: %v", err)
		}
	}
	return stop
}

// reported waits until the gauges have values for the queue, or have none.
func (w *queueWorld) reported(want bool, gauges ...string) {
	w.t.Helper()
	for _, name := range gauges {
		etcdtest.Eventually(w.t, queueSoon, name, func(context.Context) error {
			if got := w.reports(name); got != want {
				return fmt.Errorf("reported: %v, want %v", got, want)
			}
			return nil
		})
	}
}

func TestQueueReportSamplesWhatThereIs(t *testing.T) {
	cli := etcdtest.Client(t)
	w := newQueueWorld(t, cli, nil)
	held, letGo := make(chan struct{}, 8), make(chan struct{})
	stop := w.work(&queue.WorkOptions{Prefetch: -1}, func(_ context.Context, d *queue.Delivery[string]) error {
		if d.Priority == 1 {
			return retry.Permanent(errors.New("never"))
		}
		held <- struct{}{}
		<-letGo
		return nil
	})
	free := sync.OnceFunc(func() { close(letGo) })
	defer free()
	w.push(&queue.PushOptions{Priority: 1})
	etcdtest.WaitDeadLetters(t, queueSoon, cli, w.Queue, 1)
	w.push(nil)
	etcdtest.Receive(t, queueSoon, "a job in flight", held)
	w.push(nil)
	w.push(nil)
	w.push(&queue.PushOptions{Delay: time.Hour})

	for what, list := range map[string][]string{"of all": nil, "of this": {w.name}} {
		stop := queueReport(t, cli, &queue.ReportOptions{Queues: list, Every: time.Second})
		for state, want := range map[string]float64{"waiting": 2, "delayed": 1, "in_flight": 1, "dead": 1} {
			t.Logf("%s: %s", what, state)
			w.measured(want, "etcdkit.queue.depth", "etcdkit.queue.state", state)
		}
		w.measured(1, "etcdkit.queue.workers")
		stop()
		if w.reports("etcdkit.queue.depth") {
			t.Errorf("a report %s that has ended goes on", what)
		}
	}
	free()
	etcdtest.WaitKeys(t, queueSoon, cli, w.key("line/jobs/"), 1) // of the next hour
	stop()
}

func TestQueueThatIsGoneIsNotReported(t *testing.T) {
	const every = 4 * time.Second
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	w.push(nil)
	stop := queueReport(t, w.cli, &queue.ReportOptions{Every: every})
	defer stop()
	w.reported(true, queueGauges...)
	if n, err := w.Purge(t.Context()); n != 1 || err != nil {
		t.Fatalf("Purge: %d, %v", n, err)
	}
	purged := time.Now()
	w.reported(false, queueGauges...)
	if took := time.Since(purged); took > 2*every { // three, and it were not reported for want of news
		t.Errorf("it is reported for %v", took)
	}
}

func TestQueueThatIsNamedIsReportedWhileItIsEmpty(t *testing.T) {
	w := newQueueWorld(t, etcdtest.Client(t), nil)
	stop := queueReport(t, w.cli, &queue.ReportOptions{Queues: []string{w.name}})
	defer stop()
	w.reported(true, queueGauges...)
	for _, name := range queueGauges {
		if v := w.value(name); v != 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestQueueThatCannotBeCountedIsNotReportedForLong(t *testing.T) {
	link := etcdtest.New(t, nil).Link(0)
	w := newQueueWorld(t, link.Client(), nil)
	w.push(nil)
	stop := queueReport(t, w.cli, &queue.ReportOptions{Every: time.Second})
	defer stop()
	w.reported(true, queueGauges...)
	link.Cut()
	w.reported(false, queueGauges...)
	link.Heal()
	w.reported(true, queueGauges...)
}

// However often metrics are read, etcd is not asked.
func TestQueueGaugesAreReadWithoutAskingEtcd(t *testing.T) {
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	w := newQueueWorld(t, cli, nil)
	w.push(nil)
	stop := queueReport(t, cli, &queue.ReportOptions{Queues: []string{w.name}, Every: time.Hour})
	defer stop()
	w.reported(true, queueGauges...)
	before := calls.Sent()
	for range 100 {
		w.value("etcdkit.queue.depth")
	}
	if n := calls.Sent() - before; n != 0 {
		t.Errorf("etcd was asked %d times", n)
	}
}

func TestQueueReportRefusesBadArguments(t *testing.T) {
	cli := etcdtest.Client(t)
	for _, o := range []*queue.ReportOptions{{Every: time.Millisecond}, {Every: -1}, {Queues: []string{"good", "bad/"}}} {
		if err := queue.Report(t.Context(), cli, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// A worker sees the head of the line, and the other workers, anyway. What it does not see it does not tell.
func TestQueueWorkersTellWhatTheySee(t *testing.T) {
	link := etcdtest.New(t, nil).Link(0)
	w := newQueueWorld(t, link.Client(), nil)
	letGo := make(chan struct{})
	held := make(chan struct{}, 8)
	hold := func(context.Context, *queue.Delivery[string]) error { held <- struct{}{}; <-letGo; return nil }
	stop := w.work(&queue.WorkOptions{Prefetch: -1, Session: &session.Options{TTL: time.Minute}}, hold)
	free := sync.OnceFunc(func() { close(letGo) })
	defer free()
	w.measured(1, "etcdkit.queue.workers")
	if age := w.value("etcdkit.queue.oldest_age"); age != 0 {
		t.Errorf("the oldest job of an empty queue waits for %v s", age)
	}
	w.push(nil)
	etcdtest.Receive(t, queueSoon, "the first job", held)
	if age := w.value("etcdkit.queue.oldest_age"); age != 0 {
		t.Errorf("a job that is in flight waits for %v s", age)
	}
	w.push(&queue.PushOptions{Delay: time.Hour})
	w.push(&queue.PushOptions{Priority: -1})
	etcdtest.Eventually(t, queueSoon, "the job that waits", func(context.Context) error {
		if age := w.value("etcdkit.queue.oldest_age"); age < 0.2 || age > queueSoon.Seconds() {
			return fmt.Errorf("it is said to wait for %v s", age)
		}
		return nil
	})
	if w.reports("etcdkit.queue.depth") {
		t.Error("a worker tells how many jobs there are, which it does not know")
	}
	if n := len(slices.DeleteFunc(points(t, "etcdkit.queue.oldest_age"), func(p point) bool { return p.attrs["etcdkit.queue.name"] != w.name })); n != 1 {
		t.Errorf("there are %d values of one queue", n)
	}
	link.Cut()
	w.reported(false, "etcdkit.queue.oldest_age", "etcdkit.queue.workers")
	link.Heal()
	w.reported(true, "etcdkit.queue.oldest_age", "etcdkit.queue.workers")
	free()
	stop()
	w.reported(false, queueGauges...)
}
