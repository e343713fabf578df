package registry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// ejections leaves instances out that fail, each for a time.
type ejections struct {
	after     int32 // failures running; negative for never
	first     time.Duration
	longest   time.Duration
	isFailure func(error) bool

	turn atomic.Uint64 // goes on with each ejection and with the end of each: tables of an earlier turn are old

	mu    sync.Mutex
	ready int // guarded by mu: instances, by the last table
	out   int // guarded by mu: of them, those that are ejected
}

func newEjections(o *PickOptions) *ejections {
	return &ejections{after: int32(min(o.EjectAfter, 1<<30)), first: o.EjectFor, longest: o.EjectMax, isFailure: o.IsFailure}
}

// isFailure is the default of PickOptions.IsFailure.
func isFailure(err error) bool {
	return !errors.Is(err, context.Canceled) && grpcstatus.Code(err) != codes.Canceled
}

// report takes in how a pick has ended.
func (e *ejections) report(s *seat, err error) {
	m := s.member
	// An ejection is for all that was picked before it. What of that ends later, as with calls that hang until their
	// timeout, must not eject the instance again, nor speak for it, when it is back.
	if e.after < 0 || s.term != m.term.Load() {
		return
	}
	if err == nil {
		if m.running.Load() != 0 { // else all would write to what all read
			m.running.Store(0)
		}
		return
	}
	if e.isFailure(err) && m.running.Add(1) >= e.after {
		e.eject(s)
	}
}

// eject leaves an instance out, unless half of them are already; then its next failure tries again.
func (e *ejections) eject(s *seat) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := s.member
	if s.term != m.term.Load() || 2*(e.out+1) > e.ready {
		return
	}
	now := time.Now()
	switch {
	case m.length == 0 || now.Sub(m.until) >= m.length:
		m.length = e.first
	case m.length > e.longest/2:
		m.length = e.longest
	default:
		m.length *= 2
	}
	m.out, m.until = true, now.Add(m.length)
	m.running.Store(0)
	m.term.Add(1)
	e.out++
	e.turn.Add(1)
	// A picker needs no closing: what is left of it holds nothing but memory, until the timer fires.
	time.AfterFunc(m.length, func() { e.turn.Add(1) })
}

// usable returns those of the ready members that are not ejected, in their order, after it has ended the ejections whose
// time is over, and as many more as there are above half: of those, the ones that would end first.
func (e *ejections) usable(ready []*member) []*member {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	var out []*member
	for _, m := range ready {
		if m.out && !now.Before(m.until) {
			m.out = false
		}
		if m.out {
			out = append(out, m)
		}
	}
	if over := len(out) - len(ready)/2; over > 0 {
		slices.SortStableFunc(out, func(a, b *member) int { return a.until.Compare(b.until) })
		for _, m := range out[:over] {
			m.out, m.until = false, now
		}
		out = out[over:]
	}
	e.ready, e.out = len(ready), len(out)
	if len(out) == 0 {
		return ready
	}
	return slices.DeleteFunc(ready, func(m *member) bool { return m.out })
}
