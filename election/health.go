package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/boottime"
)

// defaultTolerance is how long a Health gives lead to return.
const defaultTolerance = 10 * time.Second

// Health tells a liveness probe of a process whose work has not noticed that it does not lead any more. Put it into the
// [Options] of one Run or of several, and let the probe call Check. The zero Health is ready to use. It is safe for concurrent
// use.
type Health struct {
	tolerance time.Duration // 0 for the default

	mu   sync.Mutex
	runs map[*leading]struct{} // guarded by mu: the lead functions that run
}

// NewHealth returns a Health that gives lead a time of its own to return. 0 means the default, 10 s, and a negative one none.
func NewHealth(tolerance time.Duration) *Health { return &Health{tolerance: tolerance} }

// Check returns nil, unless a lead function still runs at least as long after the end of its term as is tolerated: then an error
// that names the election, how the term ended, and how long ago. A term ends so when it is lost ([fence.ErrLost]) or resigned
// under a lead that does not return ([ErrDrainTimeout]), and not when lead itself has given it up.
//
// It does no I/O. It looks at the clock that the terms look at, so that the first Check after a suspension is already true; the
// time that is tolerated begins with it then.
func (h *Health) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	tolerance := max(h.tolerance, 0)
	if h.tolerance == 0 {
		tolerance = defaultTolerance
	}
	var errs []error
	for l := range h.runs {
		l.look()
		if since := boottime.Now().Sub(l.over); l.cause != nil && since >= tolerance {
			errs = append(errs, fmt.Errorf("election %q: lead still runs, %v after the end of its term: %w",
				l.term.name, since.Round(time.Millisecond), l.cause))
		}
	}
	return errors.Join(errs...)
}

// leading is one lead function that runs.
type leading struct {
	health *Health // nil for none
	term   *Term

	// guarded by health.mu
	over  boottime.Instant // when the term was seen to be over
	cause error            // why it is; nil while it goes on, or if lead has given it up
}

// begin notes that lead runs, until the function that it returns is called.
func (h *Health) begin(t *Term) (l *leading, end func()) {
	l = &leading{health: h, term: t}
	if h == nil {
		return l, func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.runs == nil {
		h.runs = map[*leading]struct{}{}
	}
	h.runs[l] = struct{}{}
	stop := context.AfterFunc(t.Context(), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		l.look()
	})
	return l, func() {
		stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.runs, l)
	}
}

// look sees whether the term has been lost. The caller holds the lock.
func (l *leading) look() {
	if l.term.Context().Err() == nil {
		return
	}
	if cause := context.Cause(l.term.Context()); errors.Is(cause, fence.ErrLost) {
		l.ended(cause)
	}
}

// ended notes the end of the term, once. The caller holds the lock.
func (l *leading) ended(cause error) {
	if l.cause == nil {
		l.over, l.cause = boottime.Now(), cause
	}
}

// drained notes that the term is resigned while lead runs.
func (l *leading) drained() {
	if l.health == nil {
		return
	}
	l.health.mu.Lock()
	defer l.health.mu.Unlock()
	l.ended(ErrDrainTimeout)
}
