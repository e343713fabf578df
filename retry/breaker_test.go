package retry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type ctxT = context.Context

// once makes one attempt that ends with err, and reports whether it was let through.
func once(t *testing.T, b *Breaker, err error) (through bool, got error) {
	t.Helper()
	p := plain(1)
	p.Breaker = b
	got = Do(t.Context(), p, func(ctxT) error { through = true; return err })
	return through, got
}

func TestABreakerOpensAfterFiveFailuresRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{}
		for range 4 {
			once(t, b, errTimeout)
			<-time.After(time.Minute) // however long that takes
		}
		once(t, b, nil)
		for range 4 {
			once(t, b, errNoLeader)
		}
		if s := b.State(); s != BreakerClosed {
			t.Fatalf("%v after four failures running, twice", s)
		}
		once(t, b, errTimeout)
		if s := b.State(); s != BreakerOpen {
			t.Fatalf("%v after five", s)
		}
		through, err := once(t, b, nil)
		if through || !errors.Is(err, ErrBreakerOpen) || !Transient(err) || Ambiguous(err) || errors.Is(err, errTimeout) {
			t.Errorf("let through: %t; %v", through, err)
		}
		want := "retry: breaker is open for another 5s after 5 failures running, the last: etcdserver: request timed out"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
	})
}

func TestABreakerOpensAtItsRateWithinItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{}
		for range 9 {
			once(t, b, nil)
			once(t, b, errTimeout)
		}
		once(t, b, nil)
		if s := b.State(); s != BreakerClosed {
			t.Fatalf("%v after 9 failures in 19 calls: too few calls to tell", s)
		}
		once(t, b, errTimeout)
		if s := b.State(); s != BreakerOpen {
			t.Fatalf("%v after 10 failures in 20 calls", s)
		}
		_, err := once(t, b, nil)
		if err == nil || !strings.Contains(err.Error(), "10 of 20 calls failed within 10s") {
			t.Error(err)
		}
	})
}

func TestABreakerForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{}
		for range 30 { // half of them fail, but never 20 within ten seconds
			once(t, b, nil)
			once(t, b, errTimeout)
			<-time.After(1200 * time.Millisecond)
		}
		if s := b.State(); s != BreakerClosed {
			t.Fatalf("%v after 2 calls in 1.2 s", s)
		}
		<-time.After(time.Hour)
		for range 9 {
			once(t, b, errTimeout)
			once(t, b, nil)
		}
		if s := b.State(); s != BreakerClosed {
			t.Fatalf("%v after an hour and 18 calls", s)
		}
	})
}

func TestWhatSaysNothingAboutTheClusterDoesNotCount(t *testing.T) {
	t.Parallel()
	b := &Breaker{Failures: 1}
	for range 30 {
		once(t, b, errDenied)
		once(t, b, Permanent(errTimeout))
		once(t, b, errors.New("the caller's own"))
		ctx, cancel := context.WithCancel(t.Context())
		p := plain(1)
		p.Breaker = b
		_ = Do(ctx, p, func(ctx ctxT) error { cancel(); return ctx.Err() })
	}
	if s := b.State(); s != BreakerClosed {
		t.Errorf("%v", s)
	}
	if once(t, b, context.DeadlineExceeded); b.State() != BreakerOpen {
		t.Error("an attempt that ran into its own timeout does count")
	}
}

func TestAnErrorThatThePolicyRepeatsCounts(t *testing.T) {
	t.Parallel()
	own := errors.New("busy")
	p := plain(5)
	p.Breaker = &Breaker{}
	p.Retryable = func(err error) bool { return errors.Is(err, own) }
	if err := Do(t.Context(), p, func(ctxT) error { return own }); !errors.Is(err, own) || p.Breaker.State() != BreakerOpen {
		t.Errorf("%v: %v", p.Breaker.State(), err)
	}
}

func TestAHalfOpenBreakerLetsOneProbeThroughWhoseOutcomeDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{Failures: 1, OpenFor: 2 * time.Second}
		once(t, b, errTimeout)
		<-time.After(2*time.Second - 1)
		if through, _ := once(t, b, nil); through {
			t.Error("let through before its time")
		}
		<-time.After(1)
		if s := b.State(); s != BreakerHalfOpen {
			t.Fatalf("%v after OpenFor", s)
		}
		probe := make(chan error)
		p := plain(1)
		p.Breaker = b
		over := make(chan error)
		go func() { over <- Do(t.Context(), p, func(ctxT) error { return <-probe }) }()
		synctest.Wait()
		through, err := once(t, b, nil)
		if through || !errors.Is(err, ErrBreakerOpen) || !strings.Contains(err.Error(), "until the probe under way succeeds, after 1 failure running") {
			t.Errorf("beside the probe: let through: %t; %v", through, err)
		}
		probe <- errNoLeader
		<-over
		if _, err := once(t, b, nil); b.State() != BreakerOpen || !strings.Contains(err.Error(), "for another 2s after a probe failed: etcdserver: no leader") {
			t.Errorf("%v after a probe that failed: %v", b.State(), err)
		}
		<-time.After(2 * time.Second)
		once(t, b, errDenied) // says nothing, so the next one probes
		if s := b.State(); s != BreakerHalfOpen {
			t.Errorf("%v after a probe that says nothing", s)
		}
		if through, _ := once(t, b, nil); !through || b.State() != BreakerClosed {
			t.Errorf("let through: %t; %v after a probe that succeeded", through, b.State())
		}
	})
}

// The caller's function panics, or never returns.
func TestAProbeThatNeverComesBackDoesNotKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{Failures: 1, OpenFor: time.Second}
		once(t, b, errTimeout)
		<-time.After(time.Second)
		p := plain(1)
		p.Breaker = b
		func() {
			defer func() { _ = recover() }()
			_ = Do(t.Context(), p, func(ctxT) error { panic("a defect") })
		}()
		if through, _ := once(t, b, nil); through {
			t.Error("let through beside the probe")
		}
		<-time.After(time.Second)
		if through, err := once(t, b, nil); !through || b.State() != BreakerClosed {
			t.Errorf("%v: %v", b.State(), err)
		}
	})
}

// A call that began before the breaker opened comes back when it is half-open: it says nothing about now.
func TestAnAttemptFromBeforeDoesNotDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{Failures: 1, OpenFor: time.Second}
		p := plain(1)
		p.Breaker = b
		late, over := make(chan error), make(chan error)
		go func() { over <- Do(t.Context(), p, func(ctxT) error { return <-late }) }()
		synctest.Wait()
		once(t, b, errTimeout)
		<-time.After(time.Second)
		if s := b.State(); s != BreakerHalfOpen {
			t.Fatal(s)
		}
		late <- nil
		<-over
		if s := b.State(); s != BreakerHalfOpen {
			t.Errorf("%v after the success of an old call", s)
		}
	})
}

// The breaker opens while a call is on its way from attempt to attempt: that ends it.
func TestABreakerThatOpensEndsTheCallsUnderWay(t *testing.T) {
	t.Parallel()
	p := plain(10)
	p.Breaker = &Breaker{Failures: 3}
	calls := 0
	err := Do(t.Context(), p, func(ctxT) error { calls++; return errNoLeader })
	if calls != 3 || !errors.Is(err, ErrBreakerOpen) || !errors.Is(err, errNoLeader) || !Transient(err) {
		t.Errorf("%d calls, %v", calls, err)
	}
	if !strings.HasPrefix(err.Error(), "retry: gave up after 3 attempts in ") || !strings.Contains(err.Error(), ", as breaker is open for another 5s after 3 failures running") {
		t.Error(err)
	}
}

func TestABreakerOfManyCallersLetsOneProbeThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Breaker{OpenFor: time.Second}
		p := plain(1)
		p.Breaker = b
		var (
			callers sync.WaitGroup
			reached atomic.Int64
		)
		wave := func(n int) int64 {
			reached.Store(0)
			for range n {
				callers.Go(func() {
					_ = Do(t.Context(), p, func(ctxT) error {
						reached.Add(1)
						<-time.After(time.Millisecond)
						return errTimeout
					})
				})
			}
			callers.Wait()
			return reached.Load()
		}
		if n := wave(100); n != 100 {
			t.Errorf("%d of the first hundred got through", n)
		}
		for range 5 {
			if n := wave(100); n != 0 {
				t.Errorf("%d got through an open breaker", n)
			}
			<-time.After(time.Second)
			if n := wave(100); n != 1 {
				t.Errorf("%d probes", n)
			}
		}
	})
}
