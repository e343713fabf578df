package follow_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// Faults come at random, and changes are made meanwhile: at every step of the view, before, during and after, what it says is
// what etcd held at that revision, and it is one history. ETCDKIT_FOLLOW_LONG makes it last two minutes.
func TestWhateverHappensTheViewIsWhatEtcdHeld(t *testing.T) {
	t.Parallel()
	lasts := 6 * time.Second
	if os.Getenv("ETCDKIT_FOLLOW_LONG") != "" {
		lasts = 2 * time.Minute
	}
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) {
			t.Parallel()
			rng := seeded(t)
			c := etcdtest.New(t, &etcdtest.Options{Members: members})
			c.WaitLeader()
			oracle := c.Oracle(0) // which is spared
			truth := newChronicle(t, oracle, "a/")
			links := c.Links()
			j := attach(t, links.Client(), follow.Prefix("a/"))
			j.synced(t)
			s := newScribbler(oracle, "a/", rng)
			stop := s.inBackground(t)
			for end := time.Now().Add(lasts); time.Now().Before(end); {
				fault(c, links, rng)
			}
			stop()
			links.Heal()
			s.scribble(t, 1)
			j.holds(t, 15*time.Second, oracle, "a/")
			j.compare(t, truth.under(t, "a/", s.rev))
			if g := j.generation(); g != 0 {
				t.Errorf("generation %d: this is one history", g)
			}
			t.Logf("%d changes, %d of them after an interruption", j.count(isChange), j.count(isResync))
		})
	}
}

// fault makes one, lets it be for a while, and takes it back.
func fault(c *etcdtest.Cluster, links etcdtest.Links, rng *rand.Rand) {
	link := links[rng.IntN(len(links))]
	direction := etcdtest.Direction(rng.IntN(3))
	switch n := rng.IntN(12); {
	case n < 3:
		links.Drop()
	case n < 5:
		links.Cut()
	case n < 7:
		link.Blackhole(direction)
	case n < 8:
		links.Blackhole(direction)
	case n < 9:
		links.Delay(direction, 0, 200*time.Millisecond)
	case n < 11:
		c.Compact(0)
	case len(links) > 1:
		// Not of the writer's own member: which of its changes were made would not be known.
		member := 1 + rng.IntN(len(links)-1)
		if c.Leader() == member {
			return
		}
		c.Stop(member)
		defer c.Restart(member)
	}
	while := time.Duration(rng.IntN(400)) * time.Millisecond
	if rng.IntN(4) == 0 {
		while = time.Duration(rng.IntN(3500)) * time.Millisecond // long enough for the view to notice
	}
	<-time.After(while)
	if rng.IntN(2) == 0 {
		links.Drop() // what is held up is lost
	}
	links.Heal()
	<-time.After(time.Duration(rng.IntN(300)) * time.Millisecond)
}
