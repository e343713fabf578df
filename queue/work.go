package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// Defaults of the WorkOptions' zero fields.
const (
	leastPrefetch         = 16
	defaultDrainTimeout   = 30 * time.Second
	defaultBackoffInitial = time.Second
	defaultBackoffMax     = 5 * time.Minute
)

// WorkOptions of Work. The zero value, and a nil *WorkOptions, mean the defaults.
type WorkOptions struct {
	// Concurrency is how many handlers run at a time. Default 1, at most 1,000.
	Concurrency int

	// Prefetch is how many jobs may be claimed beyond those that handlers run for, so that a handler that returns finds the next at
	// hand. It is used only as far as they are begun within about a tenth of a second, by the pace of the handlers: others cannot have
	// them meanwhile, and what comes with a higher priority waits behind them. Default Concurrency, but at least 16; negative means
	// none; at most 1,000.
	Prefetch int

	// Timeout is how long a handler may take for a job; then its context ends with [context.DeadlineExceeded]. A handler that has
	// not returned 10 s later keeps its slot, but its job is put back. Default none.
	Timeout time.Duration

	// Backoff gives the waits before a job is delivered again that has failed: Initial (default 1 s), Max (default 5 minutes), Multiplier and
	// Jitter. Its other fields do not apply. An error marked by [retry.After] names the wait itself.
	Backoff retry.Policy

	// DrainTimeout is how long handlers may go on after the end of Work's context, before theirs end. Default 30 s; negative means
	// for as long as it takes.
	DrainTimeout time.Duration

	// Session is how the worker's sessions are opened. Their TTL is how long a dead worker's jobs stay with it.
	Session *session.Options
}

// slots is how many jobs a worker may have in its hands.
func (o WorkOptions) slots() int { return o.Concurrency + o.Prefetch }

// Validate returns an error that names the rule that an option breaks, as Work would.
func (o *WorkOptions) Validate() error {
	_, err := o.resolve()
	return err
}

// resolve fills in the defaults.
func (o *WorkOptions) resolve() (WorkOptions, error) {
	var d WorkOptions
	if o != nil {
		d = *o
	}
	switch {
	case d.Concurrency < 0 || d.Concurrency > mostSlots:
		return d, fmt.Errorf("queue: WorkOptions.Concurrency must be from 1 to %d, not %d", mostSlots, d.Concurrency)
	case d.Prefetch > mostSlots:
		return d, fmt.Errorf("queue: WorkOptions.Prefetch must be at most %d, not %d", mostSlots, d.Prefetch)
	case d.Timeout < 0:
		return d, fmt.Errorf("queue: WorkOptions.Timeout must not be negative, but is %v", d.Timeout)
	}
	if d.Concurrency == 0 {
		d.Concurrency = 1
	}
	if d.Prefetch == 0 {
		d.Prefetch = max(d.Concurrency, leastPrefetch)
	}
	d.Prefetch = max(d.Prefetch, 0)
	if d.DrainTimeout == 0 {
		d.DrainTimeout = defaultDrainTimeout
	}
	if d.Backoff.Initial == 0 {
		d.Backoff.Initial = defaultBackoffInitial
		if d.Backoff.Max > 0 {
			d.Backoff.Initial = min(d.Backoff.Initial, d.Backoff.Max)
		}
	}
	if d.Backoff.Max == 0 {
		d.Backoff.Max = max(defaultBackoffMax, d.Backoff.Initial)
	}
	if err := d.Backoff.Validate(); err != nil {
		return d, fmt.Errorf("queue: WorkOptions.Backoff: %w", err)
	}
	if err := d.Session.Validate(); err != nil {
		return d, fmt.Errorf("queue: WorkOptions.Session: %w", err)
	}
	return d, nil
}

// Work claims jobs and calls handle for each, until ctx ends. Any number of processes may work on a queue, and of
// goroutines in one.
//
// What handle returns decides: nil acknowledges, unless the handler has called [Delivery.Ack] or [Delivery.Nack] itself; an error has the
// job delivered again after a wait, Options.MaxAttempts times in all, and then made a dead letter; an error marked by [retry.Permanent]
// makes it one at once. So does an item that cannot be decoded, without a call. A panic counts as an error.
//
// handle's context has the values of ctx, but does not end with it. It ends when the job is no longer the worker's, with
// [fence.ErrLost] as its cause; then what handle returns is of no matter, and the job is delivered again, perhaps beside
// a handler that goes on. It carries the trace of the push, if there was one, and where the application traces a span of the handler's run.
//
// When ctx ends no more jobs are claimed, those that were claimed and not begun are given back, and Work returns when the handlers
// have, or rather have been given DrainTimeout and have returned after their contexts have ended. Then it returns nil: an error
// is one of the arguments. What etcd's absence does to it is waiting; a lost session is followed by another.
func (q *Queue[T]) Work(ctx context.Context, opts *WorkOptions, handle func(ctx context.Context, d *Delivery[T]) error) error {
	if q.invalid != nil {
		return q.invalid
	}
	if handle == nil {
		return fmt.Errorf("queue %q: no handler", q.name)
	}
	o, err := opts.resolve()
	if err != nil {
		return err
	}
	t := &trade{
		client: q.client, keys: q.keys, opts: o, maxAttempts: q.opts.MaxAttempts, producer: q.producer, log: q.log,
		values:   context.WithoutCancel(ctx),
		measures: q.measures,
		handle:   func(ctx context.Context, c *claim) error { return q.deliver(ctx, c, handle) },
	}
	t.workOn(ctx)
	return nil
}

// workOn works through one session after the other, until ctx ends.
func (t *trade) workOn(ctx context.Context) {
	waits := retry.Policy{}.Backoff()
	for ctx.Err() == nil {
		since := time.Now()
		if err := t.work(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("worker lost, beginning anew", zap.Error(err))
		}
		if time.Since(since) > settledAfter {
			waits.Reset()
		}
		_ = waits.Wait(ctx) // the end of which is looked at
	}
}

// settledAfter is how long a session lasts for the next one to be opened without a long wait.
const settledAfter = 5 * time.Second

// work is one session's worth of work.
func (t *trade) work(ctx context.Context) error {
	s, err := session.Open(ctx, t.client, t.opts.Session)
	if err != nil {
		return err
	}
	// A lease that cannot be revoked expires by itself, and the claims with it.
	defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
	sh, err := t.begin(ctx, s)
	if err != nil {
		return err
	}
	return sh.run(ctx)
}

// stuckAfter is how long after its Timeout a handler may go on before its job is put back under it.
const stuckAfter = 10 * time.Second

// handler calls the user's for one job after the other.
func (s *shift) handler() {
	for c := range s.ready {
		if s.stopped.Load() {
			c.release()
		} else {
			s.one(c)
		}
		s.mu.Lock()
		s.inHand--
		s.pace.done(time.Now())
		s.mu.Unlock()
		s.hire.give()
	}
}

// one has one job done.
func (s *shift) one(c *claim) {
	if c.ctx.Err() != nil {
		return // lost before it was begun
	}
	switch {
	case c.broken != nil:
		c.record.Item = c.value
		s.bury(c, c.broken)
	case s.maxAttempts > 0 && c.attempt > s.maxAttempts:
		c.attempt = c.record.Attempts
		s.bury(c, fmt.Errorf("attempts used up: %s", c.record.Err)) //nolint:err113 // told to people only
	default:
		if s.opts.Timeout > 0 {
			stuck := time.AfterFunc(s.opts.Timeout+stuckAfter, func() { s.conclude(c, errStuck) })
			defer stuck.Stop()
		}
		ctx, r := s.measures.begin(c)
		s.conclude(c, s.handle(ctx, c))
		s.measures.end(ctx, c, r)
	}
}

var errStuck = errors.New("queue: the handler has not returned after its timeout")

// conclude does what a handler's result asks for.
func (s *shift) conclude(c *claim, err error) {
	wait, asked := retry.Asked(err)
	switch {
	case err == nil:
		c.ack()
	case c.ctx.Err() != nil && errors.Is(context.Cause(c.ctx), errDrained):
		c.release()
	case c.ctx.Err() != nil: // lost, or settled by the handler
	case retry.IsPermanent(err) || s.maxAttempts > 0 && c.attempt >= s.maxAttempts:
		s.bury(c, err)
	default:
		if !asked {
			wait = s.backoff(c.attempt)
		}
		s.log.Info("job failed, to be delivered again", zap.String("id", c.id()), zap.Int("attempt", c.attempt),
			zap.Duration("wait", wait), zap.Error(err))
		c.nack(wait, err.Error())
	}
}

// bury makes a job a dead letter, and says so.
func (s *shift) bury(c *claim, why error) {
	s.log.Warn("dead letter", zap.String("id", c.id()), zap.Int("attempts", c.attempt), zap.Error(why))
	c.die(why.Error())
}

// backoff is the wait after so many attempts.
func (s *shift) backoff(attempts int) time.Duration {
	const enough = 100 // attempts, after which no wait grows
	waits := s.opts.Backoff.Backoff()
	wait := waits.Next()
	for range min(attempts, enough) - 1 {
		wait = waits.Next()
	}
	return wait
}
