// Package cause says why a context has ended.
package cause

import (
	"context"
	"errors"
	"fmt"
)

// Of is ctx.Err(), joined with the context's cause if that says more; nil while ctx has not ended.
func Of(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// Without is err except that it does not match cause, however deep that is in it: for an error that says why its caller's context
// has ended, where that would be taken for what came of the call. Err may be anything but nil.
func Without(err, cause error) error {
	if !errors.Is(err, cause) {
		return err
	}
	return &WithoutError{Err: err, cause: cause}
}

// WithoutError is an error that does not match one of those it wraps. It has no Unwrap, which would give that one back: who walks
// through errors by hand goes on with Err.
type WithoutError struct {
	Err   error
	cause error
}

func (e *WithoutError) Error() string { return e.Err.Error() }

// Is matches what is wrapped, except for the cause.
func (e *WithoutError) Is(target error) bool { return target != e.cause && errors.Is(e.Err, target) }

// As finds what is wrapped.
func (e *WithoutError) As(target any) bool { return errors.As(e.Err, target) }
