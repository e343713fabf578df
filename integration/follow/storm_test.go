package follow_test

import (
	"context"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// F5: every connection is reset twenty times a second while changes are made. The view may be interrupted, and it may be
// late; it is never wrong, and two seconds after the storm it is right. ETCDKIT_FOLLOW_LONG makes the storm last 30 s.
func TestAStormOfBrokenConnectionsLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	lasts := 3 * time.Second
	if os.Getenv("ETCDKIT_FOLLOW_LONG") != "" {
		lasts = 30 * time.Second
	}
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	truth := newChronicle(t, oracle, "a/")
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	s := newScribbler(oracle, "a/", seeded(t))
	stop := s.inBackground(t)
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for over := time.After(lasts); over != nil; {
		select {
		case <-every.C:
			link.Drop()
		case <-over:
			over = nil
		}
	}
	stop()
	j.holds(t, 2*time.Second, oracle, "a/")
	j.compare(t, truth.under(t, "a/", s.rev))
	t.Logf("%d connections, %d changes, %d interruptions", link.Accepted(), j.count(isChange), j.count(isStale))
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// F6: latency is not silence. A link that takes up to 300 ms each way interrupts nothing.
func TestALongWayIsNoInterruption(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	truth := newChronicle(t, oracle, "a/")
	link := c.Link(0)
	link.Delay(etcdtest.Both, 100*time.Millisecond, 300*time.Millisecond)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	s := newScribbler(oracle, "a/", seeded(t))
	stop := s.inBackground(t)
	<-time.After(3 * time.Second)
	stop()
	j.holds(t, soon, oracle, "a/")
	j.compare(t, truth.under(t, "a/", s.rev))
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions", n)
	}
}

// F1: a leader goes, for good. What its clients watched goes on through the others, without a gap.
func TestTheLossOfTheLeaderLosesNoChange(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	j := attach(t, c.Client(), follow.Prefix("a/"))
	j.synced(t)
	old, rng := c.WaitLeader(), seeded(t)
	s := newScribbler(c.Oracle(old), "a/", rng)
	s.scribble(t, 20)
	c.Stop(old)
	s = newScribbler(c.Oracle(c.WaitOtherLeader(old)), "a/", rng)
	s.scribble(t, 20)
	j.holds(t, soon, s.oracle, "a/")
	j.compare(t, learn(t, s.oracle, "a/", 1, s.rev))
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// F15: all members stop, and start again.
func TestARestartOfAllMembersLosesNoChange(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	j := attach(t, c.Client(), follow.Prefix("a/"))
	j.synced(t)
	rng := seeded(t)
	s := newScribbler(c.Oracle(0), "a/", rng)
	s.scribble(t, 20)
	c.Stop()
	c.Restart()
	s = newScribbler(c.Oracle(c.WaitLeader()), "a/", rng)
	s.scribble(t, 20)
	j.holds(t, 15*time.Second, s.oracle, "a/")
	j.compare(t, learn(t, s.oracle, "a/", 1, s.rev))
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// A frozen member's connections are all there, its kernel acknowledges what it is sent, and it never answers. Here it is a
// process of its own, stopped by a signal.
func TestAFrozenMemberIsLeft(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	c, err := etcdproc.Start(ctx, etcdproc.Config{Members: 3, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	var links etcdtest.Links
	for _, e := range c.Endpoints() {
		links = append(links, etcdtest.NewLink(t, e))
	}
	j := attach(t, links.Client(), follow.Prefix("a/"))
	j.synced(t)
	frozen := watching(t, etcdtest.Dial(t, clientv3.Config{Endpoints: c.Endpoints()}), links, j)
	if err := c.Freeze(frozen); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	others := etcdtest.Dial(t, clientv3.Config{Endpoints: []string{c.Endpoint((frozen + 1) % 3)}})
	j.wait(t, soon, "the stream is given up", func() bool { return stales(j) > 0 })
	given := time.Since(start)
	j.wait(t, soon, "another member is asked", func() bool { return j.live })
	resumed := time.Since(start)
	t.Logf("given up after %v, live again after %v", given, resumed)
	if given > 3500*time.Millisecond || resumed > 5*time.Second {
		t.Error("want about 2.5 s and 3 s at most")
	}
	put(t, others, "a/1", "1")
	j.holds(t, soon, others, "a/")
	if err := c.Thaw(frozen); err != nil {
		t.Fatal(err)
	}
	put(t, others, "a/2", "2")
	j.holds(t, soon, others, "a/")
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}
