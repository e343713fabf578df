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
