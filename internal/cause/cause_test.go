package cause

import (
	"context"
	"errors"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	if err := Of(t.Context()); err != nil {
		t.Errorf("a context that goes on: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Of(ctx); err != context.Canceled { //nolint:errorlint // nothing is added to it
		t.Errorf("cancelled: %v", err)
	}
	mine := errors.New("mine")
	ctx, because := context.WithCancelCause(t.Context())
	because(mine)
	if err := Of(ctx); !errors.Is(err, mine) || !errors.Is(err, context.Canceled) || err.Error() != "context canceled: mine" {
		t.Errorf("with a cause: %v", err)
	}
}
