package health

import (
	"context"
	"errors"
)

// Checker is what can be well or not. *registry.Registration, *registry.View and *config.Value are Checkers.
type Checker interface {
	// Err is nil while all is well, and else says what is not. It must be safe for concurrent use and do no I/O, as it is
	// called for every probe: what is slow to find out should be looked at elsewhere, and its last result be kept for Err.
	Err() error
}

// Func is a function as a [Checker].
type Func func() error

// Err calls the function.
func (f Func) Err() error { return f() }

// Context returns a [Checker] whose error is the cause of the end of ctx, and nil while ctx goes on: for the Context of a
// session, a lock or a term. Those look at the clock, so that the answer is true also right after the machine or the process
// was suspended. A context that has ended stays so: where the next session or term takes its place, write a [Func] that looks at
// the newest one.
func Context(ctx context.Context) Checker {
	return Func(func() error {
		if ctx.Err() == nil {
			return nil
		}
		return context.Cause(ctx)
	})
}

// Only returns a [Checker] that has c's error if that matches one of targets, in the sense of [errors.Is], and else is well. It
// panics if there are no targets.
func Only(c Checker, targets ...error) Checker {
	if c == nil || len(targets) == 0 {
		panic("health: without a Checker, or errors that matter, nothing is ever wrong")
	}
	return Func(func() error {
		err := c.Err()
		for _, target := range targets {
			if errors.Is(err, target) {
				return err
			}
		}
		return nil
	})
}

// Fatal is a check whose error means that the process cannot get well by itself. Make one with [FatalIf] or [FatalFunc].
type Fatal struct{ check Checker }

// FatalIf returns a check of the errors of c that match one of targets, in the sense of [errors.Is]: those that are for good,
// as an ErrClosed is. An ErrNotCurrent or an ErrLost is not: what c is will repair itself. It panics if there are no targets.
func FatalIf(c Checker, targets ...error) Fatal { return Fatal{Only(c, targets...)} }

// FatalFunc returns a check whose every error is for good, as that of the Check of an election.Health.
func FatalFunc(check func() error) Fatal {
	if check == nil {
		panic("health: a check is nil")
	}
	return Fatal{Func(check)}
}
