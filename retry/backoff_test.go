package retry

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestFullJitterDrawsEvenlyFromZeroToTheInterval(t *testing.T) {
	t.Parallel()
	const n = 20_000
	interval := 100 * time.Millisecond
	var sum time.Duration
	var quarters [4]int
	b := Policy{Initial: interval, Max: interval}.Backoff()
	for range n {
		d := b.Next()
		if d <= 0 || d > interval {
			t.Fatalf("wait %v is not in (0, %v]", d, interval)
		}
		sum += d
		quarters[min(int(4*d/interval), 3)]++
	}
	if mean := sum / n; mean < 48*time.Millisecond || mean > 52*time.Millisecond {
		t.Errorf("mean wait is %v, want %v", mean, interval/2)
	}
	for i, q := range quarters {
		if q < n/4*9/10 || q > n/4*11/10 {
			t.Errorf("quarter %d has %d of %d waits", i, q, n)
		}
	}
}

func TestPartialJitterLeavesTheRestOfTheIntervalFixed(t *testing.T) {
	t.Parallel()
	b := Policy{Initial: time.Second, Max: time.Second, Jitter: 0.25}.Backoff()
	for range 10_000 {
		if d := b.Next(); d <= 750*time.Millisecond || d > time.Second {
			t.Fatalf("wait %v is not in (750ms, 1s]", d)
		}
	}
}

func TestIntervalsGrowByTheMultiplierUpToMaxAndStartAgainAfterReset(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for _, c := range []struct {
		name string
		p    Policy
		want []time.Duration
	}{
		{"default", Policy{Jitter: exactly}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}},
		{"triple", Policy{Jitter: exactly, Multiplier: 3, Max: time.Second}, []time.Duration{100 * ms, 300 * ms, 900 * ms, 1000 * ms, 1000 * ms}},
		{"constant", Policy{Jitter: exactly, Multiplier: 1}, []time.Duration{100 * ms, 100 * ms, 100 * ms}},
		{"no waits", Policy{Initial: -1}, []time.Duration{0, 0, 0}},
		{"no cap", Policy{Jitter: exactly, Initial: 1 << 61, Max: -1}, []time.Duration{1 << 61, 1 << 62, math.MaxInt64, math.MaxInt64}},
	} {
		b := c.p.Backoff()
		for round := range 2 {
			for i, want := range c.want {
				if got := b.Next(); got != want {
					t.Errorf("%s, round %d: wait %d is %v, want %v", c.name, round, i, got, want)
				}
			}
			b.Reset()
		}
	}
}

func TestJitterOfTheLargestIntervalDoesNotOverflow(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{1, 0.9999999999999999, 0.5} {
		b := Policy{Initial: math.MaxInt64, Max: -1, Jitter: jitter}.Backoff()
		short := 0
		for range 1000 {
			d := b.Next()
			if d <= 0 {
				t.Fatalf("jitter %v: wait %v", jitter, d)
			}
			if float64(d) < (1-jitter/2)*math.MaxInt64 {
				short++
			}
		}
		if short < 400 || short > 600 {
			t.Errorf("jitter %v: %d of 1000 waits are in the lower half", jitter, short)
		}
	}
}

func TestAWaitWithJitterIsNeverNothing(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{1, 0.5, 1e-300} {
		b := Policy{Initial: 1, Max: 1, Jitter: jitter}.Backoff()
		for range 100 {
			if d := b.Next(); d != 1 {
				t.Fatalf("jitter %v: wait %v", jitter, d)
			}
		}
	}
}

func TestBackoffNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Policy{Jitter: exactly, MaxAttempts: 1, MaxElapsed: 1}.Backoff()
		start := time.Now()
		for range 1000 {
			if err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := 6300*time.Millisecond + 994*5*time.Second
		if got := time.Since(start); got != want {
			t.Errorf("1000 waits took %v, want %v", got, want)
		}
	})
}

func TestWaitEndsWithItsContextAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		b := Policy{Initial: time.Hour, Jitter: exactly}.Backoff()
		time.AfterFunc(time.Second, func() { cancel(cause) })
		start := time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestWaitDoesNotMoveOnWhenItsContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, initial := range []time.Duration{time.Second, -1} {
		b := Policy{Initial: initial, Jitter: exactly}.Backoff()
		for range 3 {
			if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		if got := b.Next(); got != max(initial, 0) {
			t.Errorf("the first wait is %v", got)
		}
	}
}
