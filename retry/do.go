package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// Do calls fn until it returns nil, p gives up or ctx ends, and returns nil or an error that wraps the
// last one of fn.
//
// fn gets a context of its own for each attempt, which ends with the attempt's timeout, with p's
// MaxElapsed and with ctx; fn must return when it ends, for Do does not abandon it. ctx bounds the
// whole call.
// An attempt that ran into its own timeout is ambiguous ([context.DeadlineExceeded] with a live
// caller): it is tried again only if p.Retryable says so, as [Idempotent] does.
//
// Errors:
//   - fn's own, as it is, when it is not one to retry and the outcome is certain;
//   - fn's last one with the number of attempts and the time taken, when p gave up or the outcome is
//     not certain;
//   - one that matches [ErrBreakerOpen] or [ErrBudget] when p's breaker or budget had it give up;
//   - one that matches ctx.Err() and context.Cause(ctx), and fn's last one, when ctx has ended, or
//     would have ended before the next attempt (then it matches context.DeadlineExceeded at once,
//     instead of after a wait for nothing);
//   - the error of p.Validate, before fn is called.
//
// [Transient] and [Ambiguous] work on all of them, and count every attempt: if one may have been
// applied, the error is Ambiguous even though the last attempt was refused.
//
// Do is safe for concurrent use. With neither timeouts nor a MaxElapsed it allocates nothing until fn fails.
func Do(ctx context.Context, p Policy, fn func(ctx context.Context) error) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p = p.resolve()
	c := call{policy: p, start: time.Now()}
	return c.do(ctx, fn)
}

// call is one Do under way.
type call struct {
	policy Policy // resolved
	method string // what the call is to metrics and traces; may be empty

	// ready, if not nil, is waited for before each attempt. Its time is neither the attempt's nor MaxElapsed's.
	ready func(ctx context.Context) error

	start      time.Time
	attempts   int
	spared     int // of them, that do not count
	leaderless leaderless
	waits      *Backoff // made at the first failure: most calls need none
	last       error    // the last attempt's
	doubt      error    // an earlier attempt's that may have been applied
}

func (c *call) do(ctx context.Context, fn func(ctx context.Context) error) error {
	p := &c.policy
	for {
		if ctx.Err() != nil {
			return c.stopped(ctx)
		}
		admitted, open := p.Breaker.admit()
		if open != nil {
			return c.rejected(open)
		}
		c.attempts++
		err := c.prepare(ctx)
		if err == nil {
			err = try(ctx, p.timeout(c.attempts-c.spared), p.remaining(c.start), fn)
		}
		if err == nil {
			p.Breaker.report(admitted, succeeded, nil)
			return nil
		}
		// ctx first: an error of an attempt whose caller has gone says nothing about etcd.
		if ctx.Err() != nil {
			p.Breaker.report(admitted, uncounted, err)
			c.takeIn(err)
			return c.stopped(ctx)
		}
		wait, again := verdict(err, p.Retryable)
		if (again || Idempotent(err)) && !tokenRefused(err) {
			p.Breaker.report(admitted, hasFailed, err)
		} else {
			p.Breaker.report(admitted, uncounted, err)
		}
		wait, final := c.next(ctx, err, wait, again)
		c.observe(ctx, err, wait, final)
		if final != nil {
			return final
		}
		sleep(ctx, wait)
	}
}

// prepare waits until the attempt can begin.
func (c *call) prepare(ctx context.Context) error {
	if c.ready == nil {
		return nil
	}
	began := time.Now()
	err := c.ready(ctx)
	c.start = c.start.Add(time.Since(began))
	return err
}

// next takes in the failure of an attempt, and returns the wait before the next one, or the error that the call ends with.
// wait is what the error asks for; negative is the backoff's.
func (c *call) next(ctx context.Context, err error, wait time.Duration, again bool) (time.Duration, error) {
	p := &c.policy
	c.takeIn(err)
	switch {
	case !again && Ambiguous(err):
		return 0, c.gaveUp("it may have been applied", nil)
	case !again && c.doubt != nil && !IsPermanent(err):
		return 0, c.gaveUp("", nil)
	case !again:
		return 0, err
	}

	if wait < 0 {
		wait = c.draw(err)
	}
	if p.MaxAttempts > 0 && c.attempts-c.spared >= p.MaxAttempts {
		return 0, c.gaveUp("", nil)
	}
	if p.MaxElapsed > 0 && wait >= p.MaxElapsed-time.Since(c.start) {
		failed := c.gaveUp(fmt.Sprintf("the next wait of %v would pass the limit of %v", round(wait), p.MaxElapsed), nil)
		failed.late = true
		return 0, failed
	}
	if deadline, ok := ctx.Deadline(); ok && wait >= time.Until(deadline) {
		return 0, c.gaveUp(fmt.Sprintf("the next wait of %v would pass the deadline", round(wait)), context.DeadlineExceeded)
	}
	if !p.Budget.take() {
		return 0, c.gaveUp("the budget for repeats is spent", ErrBudget)
	}
	return wait, nil
}

// draw returns the wait before the next attempt where err does not ask for one.
func (c *call) draw(err error) time.Duration {
	noLeader := c.method != "" && isNoLeader(err)
	if noLeader && c.policy.MaxAttempts != 1 && c.leaderless.spares() {
		c.spared++
		return c.leaderless.wait()
	}
	if c.waits == nil {
		c.waits = c.policy.backoff()
	}
	wait := c.waits.Next()
	if noLeader {
		wait = max(wait, c.leaderless.wait())
	}
	return wait
}

// takeIn remembers the failure of an attempt.
func (c *call) takeIn(err error) {
	if Ambiguous(c.last) {
		c.doubt = c.last
	}
	if Ambiguous(err) {
		c.doubt = nil // err itself says so
	}
	c.last = err
}

// gaveUp is the error of a call that is not tried again.
func (c *call) gaveUp(why string, stop error) *gaveUpError {
	elapsed := time.Since(c.start)
	return &gaveUpError{
		attempts: c.attempts, elapsed: elapsed, late: c.policy.MaxElapsed > 0 && elapsed >= c.policy.MaxElapsed,
		why: why, stop: stop, last: c.last, doubt: c.doubt,
	}
}

// stopped is the error of a call whose context has ended.
func (c *call) stopped(ctx context.Context) error {
	return c.gaveUp("", cause.Of(ctx))
}

// rejected is the error of a call that the breaker holds back.
func (c *call) rejected(open error) error {
	if c.attempts == 0 {
		return open
	}
	return c.gaveUp(strings.TrimPrefix(open.Error(), "retry: "), ErrBreakerOpen)
}

// Value is [Do] for a function that returns a value. On an error the value is the zero T.
func Value[T any](ctx context.Context, p Policy, fn func(ctx context.Context) (T, error)) (T, error) {
	var v T
	err := Do(ctx, p, func(ctx context.Context) error {
		var err error
		v, err = fn(ctx)
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// try makes one attempt under the smaller of the two timeouts; a negative one is none.
func try(ctx context.Context, timeout, remaining time.Duration, fn func(context.Context) error) error {
	if remaining >= 0 && (timeout == 0 || remaining < timeout) {
		timeout = remaining
	} else if timeout == 0 {
		return fn(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return fn(ctx)
}

// remaining is what is left of MaxElapsed, at least zero, or negative if there is no such bound.
func (p *Policy) remaining(start time.Time) time.Duration {
	if p.MaxElapsed == 0 {
		return -1
	}
	return max(p.MaxElapsed-time.Since(start), 0)
}

// verdict says whether to try again after err, and how long to wait: negative means by the backoff.
func verdict(err error, retryable func(error) bool) (wait time.Duration, again bool) {
	if IsPermanent(err) {
		return 0, false
	}
	if after, ok := errors.AsType[*afterError](err); ok {
		return max(after.wait, 0), true
	}
	return -1, retryable(err)
}
