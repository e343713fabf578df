package cause

import (
	"context"
	"errors"
	"fmt"
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

type mark struct{ error }

func TestWithout(t *testing.T) {
	t.Parallel()
	lost, other := errors.New("lost"), errors.New("other")
	deep := fmt.Errorf("call: %w", errors.Join(mark{other}, fmt.Errorf("%w: %w", context.Canceled, lost), other))
	err := fmt.Errorf("outside: %w", Without(deep, lost))
	if errors.Is(err, lost) {
		t.Errorf("%q matches what it is to be without", err)
	}
	if !errors.Is(err, context.Canceled) || !errors.Is(err, other) {
		t.Errorf("%q has lost more than its cause", err)
	}
	if _, ok := errors.AsType[mark](err); !ok {
		t.Errorf("%q: what it wraps is not found by type", err)
	}
	if err.Error() != "outside: "+deep.Error() {
		t.Errorf("%q: another text", err)
	}
	if Without(other, lost) != other { //nolint:errorlint // the very same
		t.Error("an error without the cause has changed")
	}
}
