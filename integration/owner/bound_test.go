package owner_test

import (
	"testing"
	"time"
)

// preempted is how long a thread that runs some step of the code under test may be kept from its processor, on a machine that
// has other things to do.
const preempted = 100 * time.Millisecond

// within waits until done is closed and fails the test if that took longer than limit. For what a timer of the test's own
// is late meanwhile, and for one step that was held up unseen, the machine is blamed and not the code: so the limits may be
// the ones that were promised.
func within(t *testing.T, limit time.Duration, what string, done <-chan struct{}) {
	t.Helper()
	const tick = 5 * time.Millisecond
	start, late := time.Now(), time.Duration(0)
	for {
		before := time.Now()
		select {
		case <-done:
			if took := time.Since(start); took > limit+late+preempted {
				t.Errorf("%s took %v, want at most %v (and the machine was late by %v)", what, took, limit, late)
			}
			return
		case <-time.After(tick):
			late += time.Since(before) - tick
		}
		if took := time.Since(start); took > limit+late+soon {
			t.Fatalf("%s: not done after %v, want it within %v", what, took, limit)
		}
	}
}

// outcome is what a call that runs beside the test returns.
type outcome struct {
	done chan struct{}
	err  error // read after done
}

// beside runs f in a goroutine of its own.
func beside(f func() error) *outcome {
	o := &outcome{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.err = f()
	}()
	return o
}

// within waits for the call's return, and fails the test if that takes longer than limit.
func (o *outcome) within(t *testing.T, limit time.Duration, what string) error {
	t.Helper()
	within(t, limit, what, o.done)
	return o.err
}
