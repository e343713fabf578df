package benchcli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// stalled is after how long without an operation that ends a cluster is taken to be away.
const stalled = 10 * time.Second

// operation does once what is measured, and says how long it took; 0 if there was nothing to measure this time. ctx ends when
// everything is to end at once. until ends with ctx, and also when no further operation is to begin: who waits for others gives up.
type operation func(ctx, until context.Context) (time.Duration, error)

// measurement is something that can be measured.
type measurement struct {
	name      string
	operation string // in words
	least     int    // workers
	// prepare returns the operation of each worker, and what undoes the preparation.
	prepare func(ctx context.Context, b *bench, workers int) (work []operation, undo func(ctx context.Context), err error)
}

// measurements are all that there are.
var measurements = []measurement{
	{"put", "one put: what the cluster itself takes", 1, preparePuts},
	{"lock", "a lock that nobody else wants, acquired and released", 1, prepareLocks},
	{"hand-over", "from a release until the next in line holds the lock", 2, prepareHandOver},
	{"watch", "from a put until a config.Value has it", 1, prepareWatches},
	{"batch", fmt.Sprintf("%d puts by a batch.Writer, until all are in etcd", rows), 1, prepareBatches},
}

// meter is one measurement while it is made.
type meter struct {
	*plan
	stop func() // begins the end

	mu    sync.Mutex // guards what follows
	times []time.Duration
	turn  time.Time // of the next one
}

// measure makes a measurement. What was measured is returned also if an error cut it short.
func (b *bench) measure(ctx context.Context, m measurement) (r result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := max(b.clients, m.least)
	r = result{measurement: m, workers: workers}
	b.Errs.Status(m.name + ": preparing")
	work, undo, err := m.prepare(ctx, b, workers)
	defer func() {
		b.Errs.Status("")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
		defer cancel()
		undo(ctx)
	}()
	if err != nil {
		return r, cut(ctx, err)
	}

	until, stop := context.WithCancel(ctx)
	defer stop()
	began := time.Now()
	t := &meter{plan: b.plan, stop: stop, turn: began}
	if b.count == 0 {
		timer := time.AfterFunc(b.duration, stop)
		defer timer.Stop()
	}
	var working sync.WaitGroup
	for _, op := range work {
		working.Go(func() {
			if err := t.work(ctx, until, op); err != nil {
				cancel(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); working.Wait() }()
	b.attend(t, m, began, done, cancel)
	r.took, r.times = time.Since(began), t.times
	return r, cut(ctx, nil)
}

// cut is what cut a measurement short, or err.
func cut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// attend shows how far a measurement has come, until it is done, and ends one that comes no further.
func (b *bench) attend(t *meter, m measurement, began time.Time, done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := 0, began
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			n := t.done()
			if n != last {
				last, since = n, now
			}
			if now.Sub(since) > stalled+t.interval() {
				cancel(fmt.Errorf("nothing was done for %v", stalled))
			}
			progress := fmt.Sprintf("%s: %s", m.name, cli.Plural(n, "operation", "operations"))
			if b.count > 0 {
				progress += fmt.Sprintf(" of %d", b.count)
			} else if left := b.duration - now.Sub(began); left > 0 {
				progress += fmt.Sprintf(", %.1f s left", left.Seconds())
			}
			b.Errs.Status(progress)
		}
	}
}

// work does an operation again and again.
func (t *meter) work(ctx, until context.Context, op operation) error {
	for t.begin(until) {
		took, err := op(ctx, until)
		switch {
		case ctx.Err() != nil, err != nil && until.Err() != nil && errors.Is(err, until.Err()):
			return nil //nolint:nilerr // somebody else knows why
		case err != nil:
			return err
		}
		t.add(took)
	}
	return nil
}

// begin waits until another operation may begin, and reports whether it may.
func (t *meter) begin(until context.Context) bool {
	t.mu.Lock()
	now := time.Now()
	wait := t.turn.Sub(now)
	if wait < 0 { // what a slow cluster has missed is not made up for in a burst
		t.turn = now
	}
	t.turn = t.turn.Add(t.interval())
	t.mu.Unlock()
	if t.rate > 0 && wait > 0 {
		select {
		case <-until.Done():
		case <-time.After(wait):
		}
	}
	return until.Err() == nil
}

// interval is the time from one operation to the next.
func (t *meter) interval() time.Duration {
	if t.rate == 0 {
		return 0
	}
	return time.Second / time.Duration(t.rate)
}

// add takes how long an operation took, and begins the end after as many as were wanted.
func (t *meter) add(took time.Duration) {
	if took == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count > 0 && len(t.times) >= t.count {
		return // of those that were under way
	}
	if t.times = append(t.times, took); len(t.times) == t.count {
		t.stop()
	}
}

// done is how many operations were measured.
func (t *meter) done() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.times)
}
