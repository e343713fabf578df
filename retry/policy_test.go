package retry

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestABadPolicyIsAnErrorThatNamesTheRule(t *testing.T) {
	t.Parallel()
	for rule, p := range map[string]Policy{
		"Multiplier must be a finite number":      {Multiplier: math.NaN()},
		"Multiplier must be a finite number ":     {Multiplier: math.Inf(1)},
		"Multiplier must be at least 1, not 0.5":  {Multiplier: 0.5},
		"Jitter must be a number":                 {Jitter: math.NaN()},
		"Jitter must be between 0 and 1, not 1.5": {Jitter: 1.5},
		"Jitter must be between 0 and 1, not -1":  {Jitter: -1},
		"Multiplier must be at least 1, not -2":   {Multiplier: -2},
		"MaxElapsed (1s) must not be below Polic": {ConnectTimeout: 2 * time.Second, MaxElapsed: time.Second},
		"Max (1s) must not be below":              {Initial: 2 * time.Second, Max: time.Second},
		"ReadTimeout (1s) must not be below":      {AttemptTimeout: 2 * time.Second, ReadTimeout: time.Second},
		"Max (1s) must not be below Policy.Initi": {Initial: math.MaxInt64, Max: time.Second, MaxAttempts: -1},
	} {
		err := p.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "retry: Policy.") || !strings.Contains(err.Error(), strings.TrimSpace(rule)) {
			t.Errorf("%+v: got %v, want %q", p, err, rule)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: Backoff did not panic", p)
				}
			}()
			p.Backoff()
		}()
	}
}

func TestAZeroFieldIsItsDefaultAndANegativeOneIsNone(t *testing.T) {
	t.Parallel()
	zero := Policy{}.resolve()
	if zero.Retryable == nil || !zero.Retryable(errNoLeader) || zero.Retryable(errTimeout) {
		t.Error("the default of Retryable is not Transient")
	}
	want := Policy{
		MaxAttempts: 5, MaxElapsed: 10 * time.Second, ConnectTimeout: time.Second, ReadTimeout: 3 * time.Second, AttemptTimeout: 500 * time.Millisecond,
		Initial: 100 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2, Jitter: 1,
	}
	if !equal(zero, want) {
		t.Errorf("defaults are %+v", zero)
	}

	none := Policy{MaxAttempts: -1, MaxElapsed: -1, ConnectTimeout: -1, ReadTimeout: -1, AttemptTimeout: -1, Initial: -1, Max: -1}
	if err := none.Validate(); err != nil {
		t.Error(err)
	}
	if none = none.resolve(); !equal(none, Policy{Multiplier: 2, Jitter: 1}) {
		t.Errorf("none is %+v", none)
	}
}

func TestADefaultGivesWayToAFieldThatIsSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, want Policy }{
		{Policy{Max: 50 * time.Millisecond}, Policy{Initial: 50 * time.Millisecond, Max: 50 * time.Millisecond}},
		{Policy{Initial: time.Minute}, Policy{Initial: time.Minute, Max: time.Minute}},
		{Policy{Initial: time.Second}, Policy{Initial: time.Second, Max: 5 * time.Second}},
		{Policy{Max: -1}, Policy{Initial: 100 * time.Millisecond}},
		{Policy{Initial: -1}, Policy{Max: 5 * time.Second}},
	} {
		got := c.set.resolve()
		if err := c.set.Validate(); err != nil || got.Initial != c.want.Initial || got.Max != c.want.Max {
			t.Errorf("%+v became %v, %v (%v)", c.set, got.Initial, got.Max, err)
		}
	}
	if got := (Policy{MaxElapsed: 50 * time.Millisecond}).resolve(); got.ConnectTimeout != 50*time.Millisecond {
		t.Errorf("50ms bound connecting to %v", got.ConnectTimeout)
	}
	for _, c := range []struct{ set, want Policy }{
		{Policy{ReadTimeout: 50 * time.Millisecond}, Policy{AttemptTimeout: 50 * time.Millisecond, ReadTimeout: 50 * time.Millisecond}},
		{Policy{AttemptTimeout: time.Minute}, Policy{AttemptTimeout: time.Minute, ReadTimeout: time.Minute}},
	} {
		got := c.set.resolve()
		if err := c.set.Validate(); err != nil || got.AttemptTimeout != c.want.AttemptTimeout || got.ReadTimeout != c.want.ReadTimeout {
			t.Errorf("%+v became %v, %v (%v)", c.set, got.AttemptTimeout, got.ReadTimeout, err)
		}
	}
}

func TestTheTimeoutOfAnAttemptDoublesUpToReadTimeout(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for _, c := range []struct {
		name string
		p    Policy
		want []time.Duration
	}{
		{"default", Policy{}, []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 3000 * ms, 3000 * ms}},
		{"no cap", Policy{ReadTimeout: -1}, []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms}},
		{"none", Policy{AttemptTimeout: -1}, []time.Duration{0, 0}},
		{"flat", Policy{AttemptTimeout: 3 * time.Second}, []time.Duration{3000 * ms, 3000 * ms}},
	} {
		p := c.p.resolve()
		for i, want := range c.want {
			if got := p.timeout(i + 1); got != want {
				t.Errorf("%s: attempt %d has %v, want %v", c.name, i+1, got, want)
			}
		}
	}
	p := Policy{ReadTimeout: -1}.resolve()
	if got := p.timeout(math.MaxInt); got < 0 || got < math.MaxInt64/4 {
		t.Errorf("the timeout overflows to %v", got)
	}
}

// equal compares all but the function.
func equal(a, b Policy) bool {
	return a.MaxAttempts == b.MaxAttempts && a.MaxElapsed == b.MaxElapsed && a.ReadTimeout == b.ReadTimeout &&
		a.ConnectTimeout == b.ConnectTimeout && a.AttemptTimeout == b.AttemptTimeout && a.Initial == b.Initial && a.Max == b.Max &&
		a.Multiplier == b.Multiplier && a.Jitter == b.Jitter
}
