package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

var (
	errNoLeader = rpctypes.ErrNoLeader         // transient
	errTimeout  = rpctypes.ErrTimeout          // ambiguous
	errDenied   = rpctypes.ErrPermissionDenied // permanent
)

// exactly is a jitter so small that it comes to nothing.
const exactly = 1e-30

// plain is a policy without time: no timeouts, no waits.
func plain(attempts int) Policy {
	return Policy{MaxAttempts: attempts, MaxElapsed: -1, AttemptTimeout: -1, Initial: -1}
}

// script returns a function that fails with each of errs in turn, then succeeds, and the number of its calls.
func script(errs ...error) (func(context.Context) error, *int) {
	calls := new(int)
	return func(context.Context) error {
		*calls++
		if *calls <= len(errs) {
			return errs[*calls-1]
		}
		return nil
	}, calls
}

func TestATransientErrorIsTriedAgainUntilItSucceeds(t *testing.T) {
	t.Parallel()
	fn, calls := script(errNoLeader, fmt.Errorf("put: %w", errNoLeader))
	if err := Do(t.Context(), plain(5), fn); err != nil || *calls != 3 {
		t.Errorf("%d calls, %v", *calls, err)
	}
}

func TestGivingUpSaysHowOftenHowLongAndWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := script(errNoLeader, errNoLeader, errNoLeader)
		err := Do(t.Context(), Policy{MaxAttempts: 3, Jitter: exactly}, fn)
		if *calls != 3 || !errors.Is(err, errNoLeader) || !Transient(err) {
			t.Errorf("%d calls, %v", *calls, err)
		}
		if want := "retry: gave up after 3 attempts in 300ms: etcdserver: no leader"; err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
	})
}

func TestAnErrorThatIsNotToRetryComesBackAsItIs(t *testing.T) {
	t.Parallel()
	for _, want := range []error{errDenied, errors.New("unknown"), Permanent(errNoLeader), fmt.Errorf("x: %w", Permanent(errTimeout))} {
		fn, calls := script(want)
		if err := Do(t.Context(), plain(5), fn); err != want || *calls != 1 { //nolint:errorlint // not even wrapped
			t.Errorf("%d calls, %v", *calls, err)
		}
	}
}

func TestAnAmbiguousErrorIsTriedAgainOnlyIfThePolicySaysSo(t *testing.T) {
	t.Parallel()
	fn, calls := script(errTimeout)
	err := Do(t.Context(), plain(5), fn)
	if *calls != 1 || !errors.Is(err, errTimeout) || !Ambiguous(err) || !strings.Contains(err.Error(), "after 1 attempt") || !strings.Contains(err.Error(), "it may have been applied") {
		t.Errorf("%d calls, %v", *calls, err)
	}

	p := plain(5)
	p.Retryable = Idempotent
	fn, calls = script(errTimeout, context.DeadlineExceeded, errNoLeader)
	if err := Do(t.Context(), p, fn); err != nil || *calls != 4 {
		t.Errorf("%d calls, %v", *calls, err)
	}
	fn, calls = script(rpctypes.ErrNoSpace)
	if err := Do(t.Context(), p, fn); *calls != 1 || !Ambiguous(err) {
		t.Errorf("a full database: %d calls, %v", *calls, err)
	}
}

func TestAnAttemptThatMayHaveBeenAppliedIsNotForgotten(t *testing.T) {
	t.Parallel()
	p := plain(2)
	p.Retryable = Idempotent
	for _, c := range []struct {
		last error
		want outcome
	}{
		{errNoLeader, isAmbiguous},
		{errDenied, isFutile},
		{errors.New("unknown"), isFutile},
		{errTimeout, isAmbiguous},
		{Permanent(errDenied), isFinal},
	} {
		fn, _ := script(errTimeout, c.last)
		err := Do(t.Context(), p, fn)
		if got := outcomeOf(err); got != c.want || !errors.Is(err, c.last) {
			t.Errorf("%v: got %+v, want %+v", err, got, c.want)
		}
		if got := outcomeOf(fmt.Errorf("put: %w", err)); got != c.want {
			t.Errorf("%v, wrapped: got %+v, want %+v", err, got, c.want)
		}
	}
	fn, _ := script(errTimeout, errNoLeader)
	err := Do(t.Context(), p, fn)
	if !strings.Contains(err.Error(), "no leader (an earlier attempt may have been applied: etcdserver: request timed out)") {
		t.Error(err)
	}
}

func TestPermanentWinsOverTheOwnJudgementOfThePolicy(t *testing.T) {
	t.Parallel()
	p := plain(5)
	p.Retryable = func(error) bool { return true }
	want := errors.Join(errNoLeader, After(time.Hour, Permanent(errors.New("x"))))
	fn, calls := script(want)
	if err := Do(t.Context(), p, fn); err != want || *calls != 1 { //nolint:errorlint // not even wrapped
		t.Errorf("%d calls, %v", *calls, err)
	}
	if Permanent(nil) != nil || After(1, nil) != nil {
		t.Error("a nil error was marked")
	}
}

func TestWaitsGrowBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		_ = Do(t.Context(), Policy{Jitter: exactly, MaxAttempts: 4}, func(context.Context) error {
			at = append(at, time.Since(start))
			return errNoLeader
		})
		ms := time.Millisecond
		if want := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms}; fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
	})
}

func TestEachAttemptHasATimeoutThatDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		err := Do(t.Context(), Policy{Initial: -1, MaxElapsed: -1, Retryable: Idempotent}, func(ctx context.Context) error {
			start := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(start))
			return ctx.Err()
		})
		ms := time.Millisecond
		if want := []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 3000 * ms, 3000 * ms}; fmt.Sprint(took) != fmt.Sprint(want) {
			t.Errorf("attempts took %v, want %v", took, want)
		}
		if want := "retry: gave up after 5 attempts in 9.5s: context deadline exceeded"; err.Error() != want || !Ambiguous(err) {
			t.Error(err)
		}
	})
}

func TestATimedOutAttemptWithALiveCallerIsAmbiguousAndNotTriedAgainByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := Do(t.Context(), Policy{}, func(ctx context.Context) error {
			calls++
			<-ctx.Done()
			return ctx.Err()
		})
		if want := "retry: gave up after 1 attempt in 500ms, as it may have been applied: context deadline exceeded"; calls != 1 || err.Error() != want || !Ambiguous(err) || t.Context().Err() != nil {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

func TestMaxElapsedBoundsTheLastAttemptAndTheWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 500 ms, 1 s, 2 s and 3 s of attempts, and the fifth is cut at 8 s in all.
		start := time.Now()
		err := Do(t.Context(), Policy{Initial: -1, MaxElapsed: 8 * time.Second, MaxAttempts: -1, Retryable: Idempotent}, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(start); took != 8*time.Second || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "after 5 attempts in 8s") {
			t.Errorf("took %v: %v", took, err)
		}

		// A wait that would pass it is not begun.
		start = time.Now()
		fn, calls := script(errNoLeader, errNoLeader, errNoLeader, errNoLeader)
		err = Do(t.Context(), Policy{Jitter: exactly, Initial: time.Second, MaxElapsed: 3 * time.Second}, fn)
		if took := time.Since(start); took != time.Second || *calls != 2 || !errors.Is(err, errNoLeader) {
			t.Errorf("%d calls, took %v: %v", *calls, took, err)
		}
		if want := "retry: gave up after 2 attempts in 1s, as the next wait of 2s would pass the limit of 3s: etcdserver: no leader"; err.Error() != want {
			t.Error(err)
		}
	})
}

func TestWithoutBoundsItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := script(make([]error, 0)...)
		n := 0
		err := Do(t.Context(), Policy{MaxAttempts: -1, MaxElapsed: -1}, func(ctx context.Context) error {
			if n++; n <= 2000 {
				return errNoLeader
			}
			return fn(ctx)
		})
		if err != nil || *calls != 1 || n != 2001 {
			t.Errorf("%d attempts, %v", n, err)
		}
	})
}

func TestTheEndOfTheCallersContextIsNeverRetried(t *testing.T) {
	cause := errors.New("shutting down")
	always := func(error) bool { return true }
	for _, c := range []struct {
		name string
		last error // nil is that of the attempt's context
		want outcome
	}{
		{"an attempt that says so", nil, isAmbiguous},
		{"an attempt that says something else", errNoLeader, isTransient},
		{"an attempt that was refused", errDenied, isFinal},
		{"an attempt that asks for another", After(time.Second, errTimeout), isAmbiguous},
	} {
		for policy, p := range map[string]Policy{"default": {}, "always": {Retryable: always}, "once": {MaxAttempts: 1}, "at once": {Initial: -1, Retryable: always}} {
			t.Run(c.name+", "+policy, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancelCause(t.Context())
					calls, last := 0, c.last
					err := Do(ctx, p, func(ctx context.Context) error {
						calls++
						cancel(cause)
						if last == nil {
							last = fmt.Errorf("put: %w", ctx.Err())
						}
						return last
					})
					if calls != 1 || !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || !errors.Is(err, last) {
						t.Errorf("%d calls, %v", calls, err)
					}
					if got := outcomeOf(err); got != c.want {
						t.Errorf("got %+v, want %+v", got, c.want)
					}
					if want := "retry: stopped after 1 attempt in 0s: context canceled: shutting down: "; !strings.HasPrefix(err.Error(), want) {
						t.Error(err)
					}
				})
			})
		}
	}
}

func TestTheCallersContextEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		fn, calls := script(errNoLeader)
		start := time.Now()
		err := Do(ctx, Policy{Jitter: exactly}, fn)
		if took := time.Since(start); *calls != 1 || took != 50*time.Millisecond || !errors.Is(err, context.Canceled) || !errors.Is(err, errNoLeader) {
			t.Errorf("%d calls, took %v: %v", *calls, took, err)
		}
		if !Transient(err) {
			t.Error("nothing was written, and the error does not say so")
		}
		if want := "retry: stopped after 1 attempt in 50ms: context canceled: etcdserver: no leader"; err.Error() != want {
			t.Error(err)
		}
	})
}

func TestWithAContextThatHasEndedNothingIsCalled(t *testing.T) {
	t.Parallel()
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	fn, calls := script()
	err := Do(ctx, Policy{}, fn)
	if *calls != 0 || !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || outcomeOf(err) != isFinal {
		t.Errorf("%d calls, %v", *calls, err)
	}
	if want := "retry: stopped before the first attempt: context canceled: shutting down"; err.Error() != want {
		t.Error(err)
	}
}

func TestAWaitPastTheDeadlineEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		fn, calls := script(errNoLeader, errNoLeader)
		err := Do(ctx, Policy{Initial: 2 * time.Second, Jitter: exactly}, fn)
		if took := time.Since(start); *calls != 1 || took != 0 || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errNoLeader) || !Transient(err) {
			t.Errorf("%d calls, took %v: %v", *calls, took, err)
		}
		if want := "retry: gave up after 1 attempt in 0s, as the next wait of 2s would pass the deadline: etcdserver: no leader"; err.Error() != want {
			t.Error(err)
		}
	})
}

func TestAfterReplacesTheBackoffAndTheJudgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fn, calls := script(fmt.Errorf("x: %w", After(1500*time.Millisecond, errors.New("busy"))), After(-1, errDenied))
		if err := Do(t.Context(), Policy{}, fn); err != nil || *calls != 3 || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("%d calls, took %v: %v", *calls, time.Since(start), err)
		}
	})
}

func TestAnAfterThatCannotBeMetEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := errors.New("busy")
		start := time.Now()
		err := Do(t.Context(), Policy{}, func(context.Context) error { return After(10*time.Second, busy) })
		if !errors.Is(err, busy) || time.Since(start) != 0 || !strings.Contains(err.Error(), "would pass the limit of 10s: busy") {
			t.Errorf("took %v: %v", time.Since(start), err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err = Do(ctx, Policy{}, func(context.Context) error { return After(2*time.Second, busy) })
		if !errors.Is(err, busy) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("took %v: %v", time.Since(start), err)
		}

		calls := 0
		err = Do(t.Context(), Policy{MaxAttempts: 2}, func(context.Context) error { calls++; return After(time.Second, busy) })
		if calls != 2 || !errors.Is(err, busy) {
			t.Errorf("%d calls: %v", calls, err)
		}
	})
}

func TestABadPolicyIsReturnedBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	fn, calls := script()
	if err := Do(t.Context(), Policy{Multiplier: math.NaN()}, fn); err == nil || *calls != 0 {
		t.Errorf("%d calls, %v", *calls, err)
	}
}

func TestValueIsZeroOnAnError(t *testing.T) {
	t.Parallel()
	n := 0
	fn := func(context.Context) (int, error) {
		if n++; n == 1 {
			return 1, errNoLeader
		}
		return 2, nil
	}
	if v, err := Value(t.Context(), plain(2), fn); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	n = 0
	if v, err := Value(t.Context(), plain(1), fn); v != 0 || !errors.Is(err, errNoLeader) {
		t.Errorf("%d, %v", v, err)
	}
}

func TestOnePolicyServesManyGoroutines(t *testing.T) {
	t.Parallel()
	p := Policy{Initial: time.Nanosecond, Max: time.Microsecond}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				fn, calls := script(errNoLeader, errNoLeader)
				if err := Do(t.Context(), p, fn); err != nil || *calls != 3 {
					t.Errorf("%d calls, %v", *calls, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestACallThatSucceedsAtFirstAllocatesNothing(t *testing.T) {
	p := Policy{MaxElapsed: -1, AttemptTimeout: -1}
	ctx, fn := t.Context(), func(context.Context) error { return nil }
	if n := testing.AllocsPerRun(1000, func() { _ = Do(ctx, p, fn) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDo(b *testing.B) {
	ctx := b.Context()
	fn := func(context.Context) error { return nil }
	for name, p := range map[string]Policy{
		"untimed": {MaxElapsed: -1, AttemptTimeout: -1},
		"default": {},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Do(ctx, p, fn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkClassify(b *testing.B) {
	err := fmt.Errorf("put: %w", errNoLeader)
	b.ReportAllocs()
	for b.Loop() {
		if !Transient(err) {
			b.Fatal("not transient")
		}
	}
}
