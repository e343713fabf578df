package election_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// Defects C11 and C12 (etcd#18163, etcd#7815): concurrency's Observe does not say that nobody leads, and closes on
// compaction.
func TestObserveYieldsTheLeaderEachChangeAndNobody(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	seen := observe(t, cli, name)
	if nobody := sees(t, seen, ""); nobody != (election.Leader{}) {
		t.Errorf("nobody is %+v", nobody)
	}
	one := elected(t, open(t, cli), name, "one")
	if l := sees(t, seen, "one"); l.Key != one.Guard().Key || l.Token != one.Guard().Token {
		t.Errorf("the leader is %+v, want %v", l, one.Guard())
	}
	next := campaigning(t, open(t, cli), name, "two", 2)
	if err := one.Proclaim(t.Context(), "one more"); err != nil {
		t.Fatal(err)
	}
	sees(t, seen, "one more") // and nothing of the one who waits
	below := elected(t, open(t, cli), name+"/below", "below")
	resign(t, one)
	sees(t, seen, "two")
	resign(t, etcdtest.Receive(t, soon, "the next one", next))
	if nobody := sees(t, seen, ""); nobody != (election.Leader{}) {
		t.Errorf("nobody is %+v", nobody)
	}
	resign(t, below)
	etcdtest.Nothing(t, 20*time.Millisecond, "a sighting", seen)
}

func TestObserveEndsWithItsContextAndWithTheLoop(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	for _, err := range election.Observe(t.Context(), cli, name) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range election.Observe(ctx, cli, name) {
		if err != nil {
			t.Error(err)
		}
		cancel()
	}
	calls.Quiet(t, 1500*time.Millisecond) // longer than from one question for progress to the next
}

func TestObserveSaysWhenItIsNotCurrentAndResumesOverACompaction(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, name := c.Client(), etcdtest.Prefix(t)+"name"
	one := elected(t, open(t, cli), name, "one")
	next := campaigning(t, open(t, cli), name, "two", 2)
	link := c.Link(0)
	seen := observe(t, link.Client(), name)
	known := sees(t, seen, "one")
	link.Cut()
	if s := etcdtest.Receive(t, soon, "the doubt", seen); s.err == nil || s.leader != known {
		t.Errorf("cut off: %+v, %v, want the last known leader and an error", s.leader, s.err)
	}
	resign(t, one)
	term := etcdtest.Receive(t, soon, "the next one", next)
	for range 10 {
		if _, err := c.Oracle(0).Put(t.Context(), name+"-noise", ""); err != nil {
			t.Fatal(err)
		}
	}
	c.Compact(0)
	link.Heal()
	for s := range seen {
		if s.err == nil {
			if s.leader.Value != "two" || s.leader.Token != term.Guard().Token {
				t.Errorf("resumed with %+v, want the new leader %v", s.leader, term.Guard())
			}
			return
		}
	}
}

func TestObserveSaysSoWhenEtcdIsNotThereAtAll(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	link.Cut()
	seen := observe(t, link.Client(), etcdtest.Prefix(t)+"name")
	if s := etcdtest.Receive(t, soon, "the first word", seen); s.err == nil || s.leader != (election.Leader{}) {
		t.Errorf("%+v, %v, want nobody and an error", s.leader, s.err)
	}
	link.Heal()
	for s := range seen {
		if s.err == nil {
			return
		}
	}
}

// A view that has lived through a restoration is no reason for those who come later to be turned away.
func TestWhoStandsAfterARestorationIsElected(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, name := c.Client(), etcdtest.Prefix(t)+"name"
	seen := observe(t, cli, name)
	sees(t, seen, "")
	backup := c.Backup()
	old := elected(t, open(t, cli), name, "before")
	for s := range seen {
		if s.leader.Value == "before" && s.err == nil {
			break
		}
	}
	c.Restore(backup)
	etcdtest.Done(t, soon, "telling the old leader", old.Context().Done())
	for s := range seen {
		if s.leader == (election.Leader{}) && s.err == nil {
			break // the view has lived through it
		}
	}
	one := elected(t, open(t, cli), name, "one")
	next := campaigning(t, open(t, cli), name, "two", 2)
	etcdtest.Nothing(t, 100*time.Millisecond, "the next one", next)
	resign(t, one)
	resign(t, etcdtest.Receive(t, soon, "the next one", next))
}

func TestAnObserverOfALostLeaderIsToldOfTheLossAndThenOfTheNext(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := open(t, cli)
	one := elected(t, s, name, "one")
	seen := observe(t, cli, name)
	sees(t, seen, "one")
	c.Revoke(s.Lease())
	sees(t, seen, "")
	if cause := context.Cause(one.Context()); cause != nil && !errors.Is(cause, session.ErrLost) {
		t.Logf("the old leader's cause: %v", cause)
	}
	two := elected(t, open(t, cli), name, "two")
	if l := sees(t, seen, "two"); l.Token <= one.Guard().Token {
		t.Errorf("token %d follows %d", l.Token, one.Guard().Token)
	}
	resign(t, two)
}
