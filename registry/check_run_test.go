package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

// report is one call of report, and when it came.
type report struct {
	healthy bool
	why     error
	at      time.Duration
}

// checking runs checks in a synctest bubble.
type checking struct {
	start time.Time
	end   context.CancelFunc
	done  chan struct{}

	mu      sync.Mutex
	reports []report // guarded by mu
}

func startChecks(t *testing.T, checks ...Check) *checking {
	t.Helper()
	if err := validateChecks(checks); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	c := &checking{start: time.Now(), end: end, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		runChecks(ctx, checks, func(healthy bool, why error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.reports = append(c.reports, report{healthy, why, time.Since(c.start)})
		})
	}()
	return c
}

// after lets the checks run until d after their start, and returns the last report.
func (c *checking) after(d time.Duration) report {
	<-time.After(time.Until(c.start.Add(d)))
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports[len(c.reports)-1]
}

// stop ends the checks, and returns how long that took.
func (c *checking) stop() time.Duration {
	at := time.Now()
	c.end()
	<-c.done
	return time.Since(at)
}

// wantReports compares the reports, as "up" or "down" each.
func (c *checking) wantReports(t *testing.T, want string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var got []string
	for _, r := range c.reports {
		if r.healthy != (r.why == nil) || !r.healthy && !errors.Is(r.why, ErrUnhealthy) {
			t.Errorf("healthy is %t, because of %v", r.healthy, r.why)
		}
		got = append(got, map[bool]string{true: "up", false: "down"}[r.healthy])
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("the reports are %q, want %q", s, want)
	}
}

// script answers probes with a letter each, "." for a pass, and then with the last one again.
func script(answers string) func(context.Context) error {
	var n atomic.Int64
	return func(context.Context) error {
		if i := int(n.Add(1)) - 1; answers[min(i, len(answers)-1)] != '.' {
			return errDown
		}
		return nil
	}
}

func TestAnInstanceIsNotHealthyUntilAllItsChecksHavePassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t,
			Check{Name: "one", Probe: passes},
			Check{Name: "two", Probe: script("x."), SuccessThreshold: 3},
			Check{Name: "three", Probe: passes, InitialDelay: 5 * time.Second})
		defer c.stop()
		if r := c.after(4 * time.Second); r.healthy || !errors.Is(r.why, errUnprobed) ||
			strings.Contains(r.why.Error(), `"one"`) || !strings.Contains(r.why.Error(), `"two"`) || !strings.Contains(r.why.Error(), `"three"`) {
			t.Errorf("after the first probes: %+v", r)
		}
		if r := c.after(6 * time.Second); r.healthy || strings.Contains(r.why.Error(), `"three"`) {
			t.Errorf("after the delay: %+v", r)
		}
		if r := c.after(26 * time.Second); r.healthy {
			t.Errorf("after two of three passes: %+v", r)
		}
		if r := c.after(34 * time.Second); !r.healthy {
			t.Errorf("after three passes: %+v", r)
		}
		c.wantReports(t, "down down down up")
	})
}

func TestAnInstanceThatNeverPassesSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t, Check{Name: "one", Probe: script("x")})
		defer c.stop()
		if r := c.after(time.Hour); r.healthy || !errors.Is(r.why, errDown) {
			t.Errorf("got %+v", r)
		}
		c.wantReports(t, "down down")
	})
}

func TestOneFailureNeverFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t,
			Check{Name: "default", Probe: script(".xx.x.xx.x.x.xx.")},
			Check{Name: "least", Probe: script(".x.x.x.x.x."), FailureThreshold: 2})
		defer c.stop()
		c.after(10 * time.Minute)
		c.wantReports(t, "down down up")
	})
}

func TestFailuresInARowTakeAnInstanceOutAndSuccessesBackIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t, Check{Name: "one", Probe: script(".xxxx.x..x...xxx."), SuccessThreshold: 2, FailureThreshold: 3})
		defer c.stop()
		// The first pass is one of two; four failures decide; the two passes in a row bring it back; three failures again.
		c.after(10 * time.Minute)
		c.wantReports(t, "down down up down up")
		for _, r := range c.reports {
			if !r.healthy && !errors.Is(r.why, errUnprobed) && !errors.Is(r.why, errDown) {
				t.Errorf("it is out because of %v", r.why)
			}
		}
	})
}

func TestAnInstanceIsBackOnlyWhenAllItsChecksPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t, Check{Name: "one", Probe: script(".xxxxx.")}, Check{Name: "two", Probe: script(".xxxxxxxxxx.")})
		defer c.stop()
		c.after(10 * time.Minute)
		c.wantReports(t, "down down up down down down up")
		if why := c.reports[5].why.Error(); strings.Contains(why, `"one"`) || !strings.Contains(why, `"two"`) {
			t.Errorf("with one of two back: %s", why)
		}
	})
}

// Otherwise all that a deploy has started at once would ask their database at once, for ever.
func TestProbesOfManyInstancesDoNotStayInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 10 * time.Second
		var times []time.Time
		c := startChecks(t, Check{Name: "one", Period: period, Probe: func(ctx context.Context) error {
			times = append(times, time.Now()) // one probe at a time
			<-time.After(500 * time.Millisecond)
			return nil
		}})
		c.after(time.Hour)
		c.stop()
		least, most := time.Hour, time.Duration(0)
		for n := range times[1:] {
			d := times[n+1].Sub(times[n])
			least, most = min(least, d), max(most, d)
		}
		if least < period*9/10 || most > period*11/10 || most-least < period/10 {
			t.Errorf("%d probes were %v to %v apart", len(times), least, most)
		}
	})
}

func TestAProbeHasItsTimeoutAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gave time.Duration
		c := startChecks(t, Check{Name: "slow", Timeout: 3 * time.Second, Probe: func(ctx context.Context) error {
			start := time.Now()
			<-ctx.Done()
			gave = time.Since(start)
			return nil // it has the answer, too late
		}})
		defer c.stop()
		if r := c.after(time.Minute); r.healthy || !strings.Contains(r.why.Error(), "no answer within 3s") && !errors.Is(r.why, context.DeadlineExceeded) {
			t.Errorf("got %+v", r)
		}
		if gave != 3*time.Second {
			t.Errorf("it was given %v", gave)
		}
		c.wantReports(t, "down down")
	})
}

func TestAProbeThatIgnoresItsContextFailsAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls, running, most atomic.Int64
		hangs := func(context.Context) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if calls.Add(1) == 2 {
				<-release
			}
			return nil
		}
		c := startChecks(t, Check{Name: "hangs", Probe: hangs}, Check{Name: "other", Probe: script("xxx."), FailureThreshold: 3})
		defer c.stop()
		if r := c.after(25 * time.Second); r.healthy {
			t.Errorf("with the other one failing: %+v", r)
		}
		r := c.after(time.Minute)
		if r.healthy || !errors.Is(r.why, errHung) || strings.Contains(r.why.Error(), "other") {
			t.Errorf("while it hangs: %+v", r)
		}
		if calls.Load() != 2 {
			t.Errorf("it was called %d times", calls.Load())
		}
		close(release)
		if r := c.after(2 * time.Minute); !r.healthy {
			t.Errorf("once it has returned: %+v", r)
		}
		if most.Load() != 1 {
			t.Errorf("%d probes ran at a time", most.Load())
		}
	})
}

func TestTheEndCutsProbesShortAndReportsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probing := make(chan struct{}, 1)
		var hang atomic.Bool
		c := startChecks(t, Check{Name: "one", FailureThreshold: 2, Probe: func(ctx context.Context) error {
			if !hang.Load() {
				return nil
			}
			probing <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}}, Check{Name: "delayed", Probe: passes, InitialDelay: time.Hour})
		c.after(time.Second)
		hang.Store(true)
		<-probing
		if took := c.stop(); took > 0 {
			t.Errorf("it took %v", took)
		}
		c.wantReports(t, "down down")
	})
}

// Whoever has ended the checks may take away what the probes use.
func TestTheEndWaitsForAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = time.Minute
		ended := false
		c := startChecks(t, Check{
			Name: "slow",
			open: func() (func(context.Context) error, func()) {
				return func(context.Context) error { <-time.After(late); return nil }, func() { ended = true }
			},
		})
		c.after(3 * time.Second)
		if ended {
			t.Error("what the probe uses was taken away under its hands")
		}
		if took := c.stop(); took != late-3*time.Second || !ended {
			t.Errorf("it took %v, and what the probe kept is given back: %t", took, ended)
		}
	})
}

func TestReportsComeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks []Check
		for n := range 10 {
			checks = append(checks, Check{Name: fmt.Sprint(n), Probe: script("xxx...")})
		}
		ctx, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		var running atomic.Int64
		last := false
		runChecks(ctx, checks, func(healthy bool, _ error) {
			if running.Add(1) > 1 {
				t.Error("two reports at a time")
			}
			<-time.After(time.Minute)
			running.Add(-1)
			last = healthy
		})
		if !last {
			t.Error("a verdict was lost")
		}
	})
}

func TestWithoutChecksAllIsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChecks(t)
		c.after(time.Second)
		c.stop()
		c.wantReports(t, "up")
	})
}
