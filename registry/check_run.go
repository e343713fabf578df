package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

var (
	errUnprobed = errors.New("it has not passed yet")
	errHung     = errors.New("the last probe has not returned yet")
)

// runChecks puts checks, which are valid, until ctx ends, and returns when none of their probes runs any more. It calls
// report from its own goroutine: at once, with false, as nothing is healthy that has not been looked at; then whenever
// the verdict on one of the checks is another. why is nil if healthy, and else a line for each check that does not pass:
// ErrUnhealthy, and the error with which it came to that. Nothing is reported after the end of ctx, as a probe that it
// cut short says nothing. While report runs no verdict is lost, but those that report have to wait.
//
// Without checks all is healthy.
func runChecks(ctx context.Context, checks []Check, report func(healthy bool, why error)) {
	type verdict struct {
		check int
		err   error // nil if the check passes
	}
	verdicts := make(chan verdict)
	var probers sync.WaitGroup
	defer probers.Wait()
	standing := make([]error, len(checks)) // by check
	for n, c := range checks {
		standing[n] = failing(c, errUnprobed)
		probers.Go(func() {
			p := prober{check: c.resolve()}
			p.run(ctx, func(err error) {
				select {
				case verdicts <- verdict{n, err}:
				case <-ctx.Done():
				}
			})
		})
	}
	for ctx.Err() == nil {
		why := errors.Join(standing...)
		report(why == nil, why)
		select {
		case v := <-verdicts:
			standing[v.check] = failing(checks[v.check], v.err)
		case <-ctx.Done():
		}
	}
}

// failing says that a check does not pass, and why; or it is nil.
func failing(c Check, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: check %q: %w", ErrUnhealthy, c.Name, err)
}

// prober puts one check. It belongs to one goroutine.
type prober struct {
	check Check
	tally tally
	probe func(ctx context.Context) error
	late  <-chan struct{} // closed when the probe that took too long has returned; nil if there is none
}

// run probes until ctx ends, and tells of each verdict that is another than the last one.
func (p *prober) run(ctx context.Context, tell func(err error)) {
	probe, end := p.check.begin()
	defer end()
	p.probe = probe
	for wait := p.check.InitialDelay; pause(ctx, wait); {
		start := time.Now()
		err := p.ask(ctx)
		if p.tally.count(err == nil, p.check) {
			tell(err)
		}
		wait = jittered(p.check.Period) - time.Since(start)
	}
	if p.late != nil {
		<-p.late
	}
}

// ask makes one probe, unless the last one is still under way, and returns what came of it in time.
func (p *prober) ask(ctx context.Context) error {
	if p.late != nil {
		select {
		case <-p.late: // its time was over, whatever it says
			p.late = nil
		default:
			return errHung
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout)
	defer cancel()
	answer, returned := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(returned)
		answer <- p.probe(ctx)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		p.late = returned
		return fmt.Errorf("no answer within %v", p.check.Timeout)
	}
}

// tally is what the results of a check come to.
type tally struct {
	decided bool // by the first verdict
	passing bool // the verdict
	last    bool // the last result
	row     int  // how many of those there were in a row
}

// count takes one result, and reports whether the verdict is a new one.
func (t *tally) count(ok bool, c Check) bool {
	if ok != t.last {
		t.last, t.row = ok, 0
	}
	t.row++
	needed := c.FailureThreshold
	if ok {
		needed = c.SuccessThreshold
	}
	if t.row < needed || t.decided && t.passing == ok {
		return false
	}
	t.decided, t.passing = true, ok
	return true
}

// jittered is d with up to 10 % less or more.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
