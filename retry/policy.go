package retry

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Defaults of a Policy's zero fields.
const (
	defaultMaxAttempts    = 5
	defaultMaxElapsed     = 10 * time.Second
	defaultConnectTimeout = time.Second
	defaultReadTimeout    = 3 * time.Second
	defaultAttemptTimeout = 500 * time.Millisecond
	defaultInitial        = 100 * time.Millisecond
	defaultMax            = 5 * time.Second
	defaultMultiplier     = 2
	defaultJitter         = 1
)

// Policy says how often and how long a call is tried, and after which errors it is tried again.
//
// The zero Policy is ready to use. A zero field means its default, and a negative bound, timeout or wait means none.
// Where one field bounds another, a default gives way to a field that is set (Policy{Max: 50 * time.Millisecond} waits
// 50 ms, not the default Initial of 100 ms); two set fields that contradict each other are an error.
//
// A Policy is plain data: it may be copied, and used by any number of goroutines at once as long as
// Retryable may. Copies share the Budget and the Breaker.
type Policy struct {
	// MaxAttempts is how often the function is called in all, the first time included. Default 5. With [DialOptions], and
	// unless it is 1, it does not count, up to 16 times a call, that the same member alone says at once that it has no leader.
	MaxAttempts int

	// MaxElapsed bounds the whole call: all attempts and the waits between them. The last attempt's
	// context ends with it, and a wait that would reach past it is not begun. Default 10 s.
	MaxElapsed time.Duration

	// ConnectTimeout bounds the wait for a connection, before anything is sent. It is for those who know about connections
	// ([DialOptions], package pool); Do does not. Default 1 s.
	ConnectTimeout time.Duration

	// ReadTimeout is what the timeout of an attempt grows to; with [DialOptions] it also bounds all of a call that comes
	// after connecting. Default 3 s.
	ReadTimeout time.Duration

	// AttemptTimeout bounds the first attempt, and doubles with every attempt up to ReadTimeout. It
	// starts small because the client spreads calls over the endpoints: the next attempt meets another
	// one, and need not wait for a member that hangs. It grows because a cluster that is merely slow
	// must be reached in the end. Default 500 ms; negative means that attempts have no timeout at all,
	// whatever ReadTimeout is.
	AttemptTimeout time.Duration

	// Initial and Max are the first interval between attempts and the largest. Defaults 100 ms and 5 s.
	Initial, Max time.Duration

	// Multiplier is what an interval grows by; 1 keeps it as it is. Default 2.
	Multiplier float64

	// Jitter is the share of an interval that is random: a wait is drawn evenly from
	// ((1-Jitter) x interval, interval]. Default 1, full jitter: callers that failed together come
	// back spread over the whole interval.
	Jitter float64

	// Retryable says after which errors a call is tried again. Default [Transient]; use [Idempotent]
	// for reads and for writes that may be repeated. It is not asked about an error marked by
	// [Permanent] or [After], nor once the caller's context has ended.
	Retryable func(error) bool

	// Budget, if not nil, is what repeats are paid from.
	Budget *Budget

	// Breaker, if not nil, is asked before each attempt and told what came of it.
	Breaker *Breaker
}

// Validate returns nil, or an error that names the rule p breaks. [Do] and [Value] call it first;
// constructors that take a Policy call it so that a bad one shows at once.
func (p Policy) Validate() error {
	switch {
	case math.IsNaN(p.Multiplier) || math.IsInf(p.Multiplier, 1):
		return errors.New("retry: Policy.Multiplier must be a finite number")
	case p.Multiplier != 0 && p.Multiplier < 1:
		return fmt.Errorf("retry: Policy.Multiplier must be at least 1, not %v: intervals never shrink", p.Multiplier)
	case math.IsNaN(p.Jitter):
		return errors.New("retry: Policy.Jitter must be a number")
	case p.Jitter < 0 || p.Jitter > 1:
		return fmt.Errorf("retry: Policy.Jitter must be between 0 and 1, not %v: it is a share of the interval", p.Jitter)
	case p.Initial > 0 && p.Max > 0 && p.Max < p.Initial:
		return fmt.Errorf("retry: Policy.Max (%v) must not be below Policy.Initial (%v)", p.Max, p.Initial)
	case p.AttemptTimeout > 0 && p.ReadTimeout > 0 && p.ReadTimeout < p.AttemptTimeout:
		return fmt.Errorf("retry: Policy.ReadTimeout (%v) must not be below Policy.AttemptTimeout (%v)", p.ReadTimeout, p.AttemptTimeout)
	case p.ConnectTimeout > 0 && p.MaxElapsed > 0 && p.MaxElapsed < p.ConnectTimeout:
		return fmt.Errorf("retry: Policy.MaxElapsed (%v) must not be below Policy.ConnectTimeout (%v)", p.MaxElapsed, p.ConnectTimeout)
	}
	if err := p.Budget.Validate(); err != nil {
		return err
	}
	return p.Breaker.Validate()
}

// Effective returns p with its defaults filled in, and with zero where there is no bound, timeout or wait. It is for
// reading what holds; p is valid.
func (p Policy) Effective() Policy { return p.resolve() }

// resolve fills in the defaults and turns "negative means none" into "zero means none", so that the
// code which runs a policy has one case to look at. p is valid.
func (p Policy) resolve() Policy {
	p.MaxAttempts = or(p.MaxAttempts, defaultMaxAttempts)
	p.ConnectTimeout, p.MaxElapsed = orderedOr(p.ConnectTimeout, p.MaxElapsed, defaultConnectTimeout, defaultMaxElapsed)
	p.AttemptTimeout, p.ReadTimeout = orderedOr(p.AttemptTimeout, p.ReadTimeout, defaultAttemptTimeout, defaultReadTimeout)
	p.Initial, p.Max = orderedOr(p.Initial, p.Max, defaultInitial, defaultMax)
	p.Multiplier = orDefault(p.Multiplier, defaultMultiplier)
	p.Jitter = orDefault(p.Jitter, defaultJitter)
	if p.Retryable == nil {
		p.Retryable = Transient
	}
	return p
}

// or is v, the default for zero, and zero for none.
func or[T int | time.Duration](v, def T) T { return max(orDefault(v, def), 0) }

// orDefault is v, or the default for zero.
func orDefault[T int | float64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// orderedOr is or for two fields of which the first may not exceed the second: a default gives way to
// a field that is set.
func orderedOr(lo, hi, defLo, defHi time.Duration) (time.Duration, time.Duration) {
	switch {
	case lo == 0 && hi > 0:
		defLo = min(defLo, hi)
	case hi == 0 && lo > 0:
		defHi = max(defHi, lo)
	}
	return or(lo, defLo), or(hi, defHi)
}

// timeout is the timeout of the given attempt, counted from 1; zero means none. p is resolved.
func (p *Policy) timeout(attempt int) time.Duration {
	d := p.AttemptTimeout
	if d == 0 {
		return 0
	}
	for range attempt - 1 {
		if p.ReadTimeout > 0 && d >= p.ReadTimeout || d > math.MaxInt64/2 {
			break
		}
		d *= 2
	}
	if p.ReadTimeout > 0 {
		d = min(d, p.ReadTimeout)
	}
	return d
}
