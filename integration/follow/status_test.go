package follow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// proven waits until a view is proven current after a moment.
func proven(t *testing.T, j *judge, after time.Time) {
	t.Helper()
	etcdtest.Eventually(t, soon, "the view is proven current", func(context.Context) error {
		if at := j.follower.Status().ProvenAt; !at.After(after) {
			return fmt.Errorf("last %v before", after.Sub(at))
		}
		return nil
	})
}

// An idle view is proven current once a second, at the newest revision, though nothing happens under its own prefix.
func TestAnIdleViewIsProvenCurrentAgainAndAgain(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	j := attach(t, etcdtest.Client(t), follow.Prefix(prefix+"a/"))
	j.synced(t)
	for range 3 {
		rev := put(t, oracle, prefix+"b", "")
		start := time.Now()
		proven(t, j, start)
		if took := time.Since(start); took > 2500*time.Millisecond {
			t.Errorf("proven after %v, want about once a second", took)
		}
		if s := j.follower.Status(); s.Err != nil || s.Revision < rev {
			t.Errorf("proven at revision %d (%v), and etcd had been at %d", s.Revision, s.Err, rev)
		}
	}
	if n := j.count(isChange); n != 1 {
		t.Errorf("%d changes, and nothing changed", n)
	}
}

func TestAViewThatIsCutOffSaysSo(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Cut()
	j := attach(t, link.Client(), follow.Prefix("a/"))
	if s := j.follower.Status(); s.Err == nil || !s.ProvenAt.IsZero() || s.Revision != 0 {
		t.Errorf("before the first attempt: %+v", s)
	}
	j.wait(t, soon, "the first attempt fails", func() bool { return stales(j) > 0 })
	if s := j.follower.Status(); !errors.Is(s.Err, call.ErrUnreachable) || !s.ProvenAt.IsZero() {
		t.Errorf("cut off from the start: %+v", s)
	}
	link.Heal()
	j.synced(t)
	proven(t, j, time.Now())

	link.Cut()
	cut := time.Now()
	j.wait(t, soon, "the view notices", func() bool { return stales(j) > 0 })
	s := j.follower.Status()
	if s.Err == nil {
		t.Error("cut off, and the status has no error")
	}
	if s.ProvenAt.After(cut) {
		t.Errorf("proven %v after it was cut off", s.ProvenAt.Sub(cut))
	}
	rev := put(t, c.Oracle(0), "a/1", "1")
	link.Heal()
	j.holds(t, soon, c.Oracle(0), "a/")
	if s := j.follower.Status(); s.Err != nil || s.Revision < rev || !s.ProvenAt.After(cut) {
		t.Errorf("after the resync: %+v", s)
	}
}

// What is proven is that the view lacked nothing at that time. That time is never later than when etcd was asked:
// an event says nothing about what is still on its way.
func TestAViewIsNeverProvenAtATimeWhenItLackedSomething(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	link.Delay(etcdtest.Responses, 800*time.Millisecond, 800*time.Millisecond)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		rev := put(t, c.Oracle(0), "a/1", "1")
		written, early := time.Now(), time.Duration(0)
		etcdtest.Eventually(t, soon, "the change is seen", func(context.Context) error {
			at := j.follower.Status().ProvenAt // before it is looked whether it is seen
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.last.Revision >= rev {
				return nil
			}
			early = max(early, at.Sub(written))
			return errors.New("it is not")
		})
		if early > 0 {
			t.Fatalf("proven %v after a change that it had not seen", early)
		}
	}
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions", n)
	}
}

func TestAnObserverThatComesToAViewInTroubleIsToldWhy(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Cut()
	cli := link.Client()
	early := attach(t, cli, follow.Prefix("a/"))
	early.wait(t, soon, "the first attempt fails", func() bool { return stales(early) == 1 })
	late := attach(t, cli, follow.Prefix("a/"))
	late.wait(t, time.Second, "it is told", func() bool { return stales(late) == 1 })
	link.Heal()
	early.synced(t)
	late.synced(t)

	link.Cut()
	early.wait(t, soon, "the view notices", func() bool { return stales(early) > 0 })
	later := attach(t, cli, follow.Prefix("a/"))
	later.wait(t, time.Second, "it is told what is known, and that it is stale", func() bool {
		return len(later.calls) == 2 && later.calls[0].change.Initial && later.calls[1].stale != nil
	})
}

// slow is an observer that can be stopped in the midst of being told of a change.
type slow struct {
	stop    chan chan struct{} // holds what the next call of Changed waits for
	stopped chan struct{}      // is sent to when it does
	stale   chan struct{}      // closed at the first call of Stale
	once    sync.Once
}

func (s *slow) Changed(follow.Change) {
	select {
	case release := <-s.stop:
		s.stopped <- struct{}{}
		<-release
	default:
	}
}
func (s *slow) Stale(error) { s.once.Do(func() { close(s.stale) }) }
func (s *slow) Live()       {}

// What observers are just being told is not proven before they were told: neither what a watch has brought nor what is read after an
// interruption.
func TestAStatusSaysNoMoreThanObserversWereTold(t *testing.T) {
	t.Parallel()
	for name, rng := range map[string]follow.Range{
		"one prefix": follow.Prefix("a/"), "several": follow.Prefixes("a/", "b/"), "keys": follow.Keys("a/1", "b/1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			link, oracle := c.Link(0), c.Oracle(0)
			obs := &slow{stop: make(chan chan struct{}, 1), stopped: make(chan struct{}), stale: make(chan struct{})}
			j := &judge{follower: follow.Attach(link.Client(), rng, obs)}
			defer j.follower.Close()
			told := func(what string, happen func()) {
				t.Helper()
				release := make(chan struct{})
				obs.stop <- release
				before := time.Now()
				happen()
				etcdtest.Done(t, soon, what, obs.stopped)
				s := j.follower.Status()
				if s.ProvenAt.After(before) {
					t.Errorf("%s: proven %v after it began, and it is yet to be told", what, s.ProvenAt.Sub(before))
				}
				close(release)
				proven(t, j, time.Now())
			}
			proven(t, j, time.Now())
			for range 3 { // as a question may be under way
				told("a change", func() { put(t, oracle, "a/1", "1") })
			}
			link.Cut()
			etcdtest.Done(t, soon, "the view is stale", obs.stale)
			cut := j.follower.Status().ProvenAt
			told("an interruption", func() {
				put(t, oracle, "a/1", "2")
				link.Heal()
			})
			if at := j.follower.Status().ProvenBefore; !at.Equal(cut) {
				t.Errorf("proven at %v before the interruption ended, and at %v as it began", at, cut)
			}
		})
	}
}
