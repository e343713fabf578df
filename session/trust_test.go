package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/boottime"
)

// unwatched returns a session that nothing renews and no timer ends, as if the process were suspended: only a look at
// the clock can tell that trust is over.
func unwatched(left time.Duration) *Session {
	s := &Session{window: window{ttl: 10 * time.Second, margin: time.Second}}
	inner, end := context.WithCancelCause(context.Background())
	s.ctx, s.end = &trusted{Context: inner, session: s}, end
	s.until.Store(int64(boottime.Now().Add(left)))
	return s
}

func TestTheFirstLookAtTheContextAfterASuspensionIsTrue(t *testing.T) {
	s := unwatched(-time.Nanosecond)
	derived, cancel := context.WithCancel(s.Context())
	defer cancel()
	told := make(chan struct{})
	context.AfterFunc(s.Context(), func() { close(told) })
	if s.Context().Err() == nil {
		t.Fatal("the window is over, but Err is nil")
	}
	select {
	case <-s.Context().Done():
	default:
		t.Error("Err is true, but Done is open")
	}
	cause := context.Cause(s.Context())
	if !errors.Is(cause, ErrLost) || !errors.Is(cause, fence.ErrLost) || !strings.Contains(cause.Error(), "expired") {
		t.Errorf("the cause is %v, want one that says expired", cause)
	}
	if derived.Err() == nil || !errors.Is(context.Cause(derived), ErrLost) {
		t.Errorf("a derived context has not ended: %v", context.Cause(derived))
	}
	<-told
	if _, err := s.Live(context.Background()); !errors.Is(err, ErrLost) {
		t.Errorf("Live: %v, want ErrLost", err)
	}
	if s.Go(func(context.Context) {}) {
		t.Error("Go runs something under a session that is over")
	}
	if until := s.TrustedUntil(); until.After(time.Now()) {
		t.Errorf("trusted for %v more", time.Until(until))
	}
}

func TestWithinTheWindowTheContextLives(t *testing.T) {
	s := unwatched(time.Hour)
	if err := s.Context().Err(); err != nil {
		t.Errorf("%v: %v", err, context.Cause(s.Context()))
	}
	if live, err := s.Live(context.Background()); live != s || err != nil {
		t.Errorf("Live: %p, %v, want itself", live, err)
	}
	if left := time.Until(s.TrustedUntil()); left < 59*time.Minute || left > time.Hour {
		t.Errorf("trusted for %v, want an hour", left)
	}
}

func TestTheCauseOfTheEndIsTheFirstOne(t *testing.T) {
	s := unwatched(-time.Nanosecond)
	s.expire(errors.New("connection refused"))
	s.end(ErrClosed)
	if cause := context.Cause(s.Context()); !strings.Contains(cause.Error(), "unreachable") || !strings.Contains(cause.Error(), "refused") {
		t.Errorf("the cause is %v, want why it could not be renewed", cause)
	}
}

func TestKeysAreUsedByOneAtATime(t *testing.T) {
	s := &Session{lease: 0x2a}
	first, free := s.Key("a/")
	second, _ := s.Key("b/")
	if first != "a/2a-1" || second != "b/2a-2" {
		t.Errorf("keys %q and %q", first, second)
	}
	free()
	free() // again changes nothing
	third, _ := s.Key("c/")
	fourth, _ := s.Key("d/")
	if third != "c/2a-1" || fourth != "d/2a-3" {
		t.Errorf("after the first was given back: %q and %q", third, fourth)
	}
}
