package lock

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// Nobody has installed a provider here.
func TestWithoutAProviderALockIsMeasuredForNothing(t *testing.T) {
	l, fails := line{name: "a"}, errors.New("no")
	if n := testing.AllocsPerRun(1000, func() {
		for l.kind = range kind(len(kinds)) {
			ctx, a := l.ask(t.Context())
			if a.waits(ctx) != nil || l.kind.begin(ctx) != nil {
				t.Error("there is somebody to be told")
			}
			a.answered(ctx, nil, fails)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if ctx, _ := l.ask(t.Context()); ctx != t.Context() {
		t.Error("the context is another one, though nobody traces")
	}
}

func TestAnErrorIsOneOfFewOutcomes(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want outcome
	}{
		{t.Context(), nil, acquired},
		{over, nil, acquired}, // ctx bounds the wait, which was over
		{t.Context(), fmt.Errorf("lock %q: %w", "a", ErrLocked), locked},
		{over, context.Canceled, cancelled},
		{t.Context(), context.Canceled, failed}, // not the caller's
		{t.Context(), ErrReentrant, failed},
	} {
		if got := outcomeOf(c.ctx, c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, outcomes[got], outcomes[c.want])
		}
	}
}
