package retry

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ErrBreakerOpen says that nothing was sent, because the [Breaker] has seen too many calls fail lately. It is [Transient].
var ErrBreakerOpen = errors.New("retry: breaker is open")

// Defaults of a Breaker's zero fields.
const (
	defaultFailures = 5
	defaultRate     = 0.5
	defaultMinCalls = 20
	defaultWindow   = 10 * time.Second
	defaultOpenFor  = 5 * time.Second
)

// breakerSlots is how many parts the window is counted in: the oldest is forgotten as a whole.
const breakerSlots = 10

// BreakerState is a state of a [Breaker].
type BreakerState uint8

const (
	// BreakerClosed lets every call through.
	BreakerClosed BreakerState = iota

	// BreakerOpen lets none through.
	BreakerOpen

	// BreakerHalfOpen lets one call through at a time, whose outcome closes the breaker or opens it again.
	BreakerHalfOpen
)

// String is the state's name in lower case.
func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("BreakerState(%d)", s)
}

// Breaker has calls that are likely to fail do so at once, instead of each waiting for its own timeouts and adding to the
// load of a cluster that is down.
//
//	closed ──── too many failures ───► open ──── OpenFor later ───► half-open
//	   ▲                                ▲                            │    │
//	   │                                └────── the probe fails ─────┘    │
//	   └───────────────────── the probe succeeds ─────────────────────────┘
//
// What counts is each attempt: as a failure if it may be worth repeating (the class of its error, or Policy.Retryable), as
// a success if it returned no error. An attempt whose caller gave up, and an error that says nothing about the health of the
// cluster (a refused permission, a compacted revision), do not count at all.
//
// The zero Breaker is ready to use. Share one by pointer among the calls that fail together (those of one client, as a
// rule), and do not copy it; it is safe for concurrent use.
type Breaker struct {
	// Failures opens the breaker when so many attempts have failed one after the other, however long that took. Default
	// 5; negative means that it does not.
	Failures int

	// Rate and MinCalls open it when, within Window, at least MinCalls attempts have ended and the share Rate of them has
	// failed. Defaults 0.5 and 20; a negative Rate means that it does not.
	Rate     float64
	MinCalls int

	// Window is the time that Rate looks at. Default 10 s.
	Window time.Duration

	// OpenFor is how long the breaker stays open before a call is let through to see. Default 5 s.
	OpenFor time.Duration

	mu      sync.Mutex // guards what is below
	state   BreakerState
	since   time.Time // when it was entered
	epoch   uint64    // counts the changes of state: an attempt from before the last one says nothing about now
	running int       // failures, one after the other
	slots   [breakerSlots]tally
	newest  int64  // number of the slot that counts now, by time
	probing bool   // half-open, and a call is under way
	reason  string // why it opened
	shown   bool   // it has been open, and metrics know of it
}

// tally is what a part of the window has seen.
type tally struct{ ended, failed int }

// attemptResult is what an attempt says about the health of what was called.
type attemptResult uint8

const (
	uncounted attemptResult = iota
	succeeded
	hasFailed
)

// Validate returns nil, or an error that names the rule that b breaks. [Policy.Validate] calls it. A nil Breaker is valid.
func (b *Breaker) Validate() error {
	switch {
	case b == nil:
		return nil
	case math.IsNaN(b.Rate) || b.Rate > 1:
		return fmt.Errorf("retry: Breaker.Rate must be at most 1, not %v: it is a share of the calls", b.Rate)
	case b.MinCalls < 0:
		return fmt.Errorf("retry: Breaker.MinCalls must not be negative, as %d is", b.MinCalls)
	case b.Window < 0:
		return fmt.Errorf("retry: Breaker.Window must not be negative, as %v is", b.Window)
	case b.OpenFor < 0:
		return fmt.Errorf("retry: Breaker.OpenFor must not be negative, as %v is", b.OpenFor)
	case b.Failures < 0 && b.Rate < 0:
		return errors.New("retry: Breaker.Failures and Breaker.Rate are both negative: nothing would ever open it")
	}
	return nil
}

// State is the state that the next call will meet.
func (b *Breaker) State() BreakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(time.Now())
	return b.state
}

// admit lets an attempt through, which is to be reported with the number returned, or says why not. A nil Breaker lets
// everything through.
func (b *Breaker) admit() (epoch uint64, err error) {
	if b == nil {
		return 0, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.advance(now)
	switch b.state {
	case BreakerClosed:
	case BreakerOpen:
		left := b.openFor() - now.Sub(b.since)
		return 0, &openError{fmt.Sprintf("%v for another %v after %s", ErrBreakerOpen, round(left), b.reason)}
	case BreakerHalfOpen:
		// A probe that never comes back, because its caller panicked or hangs, does not keep others out for ever.
		if b.probing && now.Sub(b.since) < b.openFor() {
			return 0, &openError{fmt.Sprintf("%v until the probe under way succeeds, after %s", ErrBreakerOpen, b.reason)}
		}
		b.enter(BreakerHalfOpen, now)
		b.probing = true
	}
	return b.epoch, nil
}

// report takes in what came of an attempt.
func (b *Breaker) report(epoch uint64, result attemptResult, err error) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.advance(now)
	if epoch != b.epoch {
		return
	}
	if b.state == BreakerHalfOpen {
		b.probing = false
		switch result {
		case succeeded:
			b.enter(BreakerClosed, now)
		case hasFailed:
			b.reason = fmt.Sprintf("a probe failed: %v", err)
			b.enter(BreakerOpen, now)
		case uncounted: // the next call probes
		}
		return
	}
	switch result {
	case uncounted:
		return
	case succeeded:
		b.running = 0
		b.slot().ended++
		return
	case hasFailed:
		b.running++
		b.slot().ended++
		b.slot().failed++
	}
	if why := b.tooMany(); why != "" {
		b.reason = fmt.Sprintf("%s, the last: %v", why, err)
		b.enter(BreakerOpen, now)
	}
}

// tooMany says why the breaker is to open, if it is.
func (b *Breaker) tooMany() string {
	if most := orDefault(b.Failures, defaultFailures); most > 0 && b.running >= most {
		return counted(b.running, "failure") + " running"
	}
	rate := orDefault(b.Rate, defaultRate)
	if rate < 0 {
		return ""
	}
	var sum tally
	for _, t := range b.slots {
		sum.ended += t.ended
		sum.failed += t.failed
	}
	if sum.ended < orDefault(b.MinCalls, defaultMinCalls) || float64(sum.failed) < rate*float64(sum.ended) {
		return ""
	}
	return fmt.Sprintf("%d of %d calls failed within %v", sum.failed, sum.ended, b.window())
}

// advance brings the state, and the part of the window that counts, up to now.
func (b *Breaker) advance(now time.Time) {
	if b.state == BreakerOpen && now.Sub(b.since) >= b.openFor() {
		b.enter(BreakerHalfOpen, now)
	}
	if b.state != BreakerClosed {
		return
	}
	if b.since.IsZero() {
		b.since = now
	}
	number := int64(now.Sub(b.since) / max(b.window()/breakerSlots, 1))
	if number-b.newest >= breakerSlots {
		b.slots = [breakerSlots]tally{}
		b.newest = number
	}
	for b.newest < number {
		b.newest++
		*b.slot() = tally{}
	}
}

// enter begins a state, with nothing counted.
func (b *Breaker) enter(s BreakerState, now time.Time) {
	b.state, b.since = s, now
	b.epoch++
	b.running, b.newest, b.probing = 0, 0, false
	b.slots = [breakerSlots]tally{}
	if s == BreakerOpen && !b.shown {
		b.show()
	}
}

// slot is the part of the window that counts now.
func (b *Breaker) slot() *tally { return &b.slots[b.newest%breakerSlots] }

func (b *Breaker) window() time.Duration  { return orDefault(b.Window, defaultWindow) }
func (b *Breaker) openFor() time.Duration { return orDefault(b.OpenFor, defaultOpenFor) }

// openError is ErrBreakerOpen with the reason. The failure that opened the breaker is in the text only: it was another
// call's, and must not decide what this one is.
type openError struct{ text string }

func (e *openError) Error() string        { return e.text }
func (e *openError) Is(target error) bool { return target == ErrBreakerOpen }
