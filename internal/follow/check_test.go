package follow

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// dueWithin returns how long it takes a check to be due, and fails the test if it is longer than most.
func dueWithin(t *testing.T, c *truthCheck, most time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-c.due():
	case <-time.After(most + time.Nanosecond):
		t.Errorf("not due within %v", most)
	}
	return time.Since(start)
}

func TestAViewIsCheckedTheLessOftenTheLargerItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, want := range map[int]time.Duration{0: time.Minute, 100: 61 * time.Second, 100_000: 1060 * time.Second} {
			c := newTruthCheck(Prefix("a"), size, 1)
			if took := dueWithin(t, c, want); took != want {
				t.Errorf("a view of %d keys is checked after %v, want %v", size, took, want)
			}
			c.stop()
		}
		if c := newTruthCheck(Keys("a", "b"), 2, 1); c.due() != nil {
			t.Error("a view of several keys is checked")
		}
		c := newTruthCheck(Prefixes("a", "b"), 2, 1)
		defer c.stop()
		if c.due() == nil {
			t.Error("a view of several prefixes is not checked")
		}
	})
}

func TestDoubtHastensTheCheckAndTakesNothingForKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTruthCheck(Prefix("a"), 100, 7)
		defer c.stop()
		if err := c.hurry(none, 100); err != nil || c.since != 7 {
			t.Errorf("without doubt: %v, known up to %d", err, c.since)
		}
		if took := dueWithin(t, c, time.Hour); took < checkEvery {
			t.Errorf("checked after %v without doubt", took)
		}

		c.arm(100)
		if err := c.hurry(grave, 100); err != nil || c.since != 0 {
			t.Errorf("in grave doubt: %v, known up to %d", err, c.since)
		}
		dueWithin(t, c, 0)

		// A new leader is a doubt that every view of every client has at once: their checks are spread.
		seen := map[time.Duration]bool{}
		for range 10 {
			c.arm(100)
			c.since = 7
			if err := c.hurry(slight, 100); err != nil || c.since != 0 {
				t.Errorf("in slight doubt: %v, known up to %d", err, c.since)
			}
			seen[dueWithin(t, c, checkSoon+100*checkPerKey)] = true
		}
		if len(seen) < 9 {
			t.Errorf("ten checks at %d different times", len(seen))
		}

		if err := newTruthCheck(Keys("a", "b"), 2, 1).hurry(grave, 2); !errors.Is(err, errDiverged) {
			t.Errorf("a view that cannot be checked, in grave doubt: %v", err)
		}
		if err := newTruthCheck(Keys("a", "b"), 2, 1).hurry(slight, 2); err != nil {
			t.Errorf("a view that cannot be checked, in slight doubt: %v", err)
		}
	})
}

// The check that runs may have been answered before there was doubt: another one follows.
func TestDoubtThatComesDuringACheckIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTruthCheck(Prefix("a"), 0, 7)
		defer c.stop()
		c.running = true
		if err := c.hurry(grave, 0); err != nil {
			t.Error(err)
		}
		if err := c.settle(verdict{right: 9}, 0); err != nil || c.since != 0 {
			t.Errorf("after the verdict: %v, known up to %d", err, c.since)
		}
		dueWithin(t, c, 0)

		c.running = true
		if err := c.settle(verdict{right: 9}, 0); err != nil || c.since != 9 {
			t.Errorf("after the second verdict: %v, known up to %d", err, c.since)
		}
		if took := dueWithin(t, c, time.Hour); took != checkEvery {
			t.Errorf("the next check is due after %v", took)
		}
		c.running = true
		if err := c.settle(verdict{}, 0); err != nil || c.since != 9 {
			t.Errorf("nothing was learned: %v, known up to %d", err, c.since)
		}
		c.running = true
		if err := c.settle(verdict{err: errDiverged}, 0); !errors.Is(err, errDiverged) {
			t.Errorf("the view is wrong: %v", err)
		}
	})
}

func TestAReadAgreesOnlyWithExactlyItsKeys(t *testing.T) {
	read := []*Entry{{Key: []byte("a"), ModRevision: 3}, {Key: []byte("b"), ModRevision: 5}}
	for name, c := range map[string]struct {
		known map[string]int64
		agree bool
	}{
		"the same":    {map[string]int64{"a": 3, "b": 5}, true},
		"one less":    {map[string]int64{"a": 3}, false},
		"one more":    {map[string]int64{"a": 3, "b": 5, "c": 6}, false},
		"another":     {map[string]int64{"a": 3, "c": 5}, false},
		"older state": {map[string]int64{"a": 3, "b": 4}, false},
		"newer state": {map[string]int64{"a": 4, "b": 5}, false},
		"nothing":     {nil, false},
	} {
		if agree(read, c.known) != c.agree {
			t.Errorf("%s: want %t", name, c.agree)
		}
	}
	if !agree(nil, nil) {
		t.Error("nothing does not agree with nothing")
	}
}
