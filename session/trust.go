package session

import (
	"context"
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

// trusted is a session's context. The timer that ends it does not run while the machine is suspended, or the
// process stopped; so every look at Err compares the clock too. Contexts derived from it are cancelled in
// the same moment.
type trusted struct {
	context.Context
	session *Session
}

// Err is the context's, after a look at the clock.
func (t *trusted) Err() error {
	if err := t.Context.Err(); err != nil {
		return err
	}
	if t.session.remaining() <= 0 {
		t.session.expire(nil)
	}
	return t.Context.Err()
}

// remaining is how much trust is left, negative once it has ended.
func (s *Session) remaining() time.Duration {
	return boottime.Instant(s.until.Load()).Sub(boottime.Now())
}

// expire ends the session because its window is over; last is the error of the last renewal, if it failed.
func (s *Session) expire(last error) {
	if last == nil {
		s.end(fmt.Errorf("%w: expired: no renewal was acknowledged within the TTL of %v", ErrLost, s.window.ttl))
		return
	}
	s.end(fmt.Errorf("%w: unreachable: no renewal was acknowledged within the TTL of %v: %w", ErrLost, s.window.ttl, last))
}
