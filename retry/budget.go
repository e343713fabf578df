package retry

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ErrBudget says that a call was not tried again because its [Budget] is spent. The error it is in wraps the last
// attempt's, which decides whether the call is [Transient] or [Ambiguous].
var ErrBudget = errors.New("retry: budget spent")

// Defaults of a Budget's zero fields.
const (
	defaultPerSecond = 10
	defaultBurst     = 100
)

// Budget bounds how often all calls that share it are tried again: when a cluster is down, repeats must not multiply what it
// is asked. It is a bucket of tokens. Every attempt but a call's first takes one; when there is none the call fails at once,
// with [ErrBudget].
//
// The zero Budget is ready to use. Share one by pointer, and do not copy it; it is safe for concurrent use.
type Budget struct {
	// PerSecond is how many tokens come back in a second. Default 10.
	PerSecond float64

	// Burst is how many tokens the bucket holds, and begins with. Default 100.
	Burst int

	mu     sync.Mutex // guards what is below
	tokens float64
	filled time.Time // when tokens was last brought up to date; zero before the first use
}

// Validate returns nil, or an error that names the rule that b breaks. [Policy.Validate] calls it. A nil Budget is valid.
func (b *Budget) Validate() error {
	switch {
	case b == nil:
		return nil
	case b.PerSecond < 0 || math.IsNaN(b.PerSecond) || math.IsInf(b.PerSecond, 0):
		return fmt.Errorf("retry: Budget.PerSecond must be a number of tokens, not %v", b.PerSecond)
	case b.Burst < 0:
		return fmt.Errorf("retry: Budget.Burst must not be negative, as %d is", b.Burst)
	}
	return nil
}

// take takes a token, and reports whether there was one. A nil Budget has no end.
func (b *Budget) take() bool {
	if b == nil {
		return true
	}
	perSecond, burst := b.PerSecond, float64(b.Burst)
	if perSecond == 0 {
		perSecond = defaultPerSecond
	}
	if burst == 0 {
		burst = defaultBurst
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.filled.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.filled).Seconds()*perSecond)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
