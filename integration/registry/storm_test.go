package registry_test

import (
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// episode is one fault as it will happen.
type episode struct {
	fault  fault
	lasts  time.Duration
	target int  // of whatever there is to choose
	reset  bool // what is held up by a black hole is lost
}

// fault is one kind of trouble. It returns when it is over, and no member is hurt any more.
type fault struct {
	name string
	do   func(*world, episode)
}

var faults = []fault{
	{"leader stopped", func(w *world, e episode) { w.without(w.c.WaitLeader(), e.lasts) }},
	{"follower stopped", func(w *world, e episode) { w.c.WaitLeader(); w.without(w.c.Follower(), e.lasts) }},
	{"leader alone", (*world).leaderAlone},
	{"majority stopped", (*world).withoutMost},
	{"dropped", (*world).dropped},
	{"late", (*world).late},
	{"reader mute", (*world).readerMute},
	{"member mute", (*world).memberMute},
	{"compacted", (*world).compacted},
	{"revoked", (*world).revoked},
	{"deleted", (*world).deleted},
}

// without stops a member for a while.
func (w *world) without(member int, lasts time.Duration) {
	w.t.Helper()
	w.truth.from(w.c.Oracle((member + 1) % 3))
	w.c.Stop(member)
	pass(lasts)
	w.c.Restart(member)
}

// withoutMost stops two members for a while: nobody can write.
func (w *world) withoutMost(e episode) {
	w.t.Helper()
	w.c.WaitLeader()
	left := e.target % 3
	w.truth.from(w.c.Oracle(left))
	w.c.Stop((left+1)%3, (left+2)%3)
	pass(e.lasts)
	w.c.Restart()
}

// leaderAlone cuts the leader off from the other members; clients reach all of them.
func (w *world) leaderAlone(e episode) {
	w.t.Helper()
	leader := w.c.WaitLeader()
	w.truth.from(w.c.Oracle((leader + 1) % 3))
	w.c.Partition(leader)
	w.c.WaitOtherLeader(leader)
	pass(e.lasts)
	w.c.HealPartition()
}

// dropped resets every connection twenty times a second.
func (w *world) dropped(e episode) {
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for over := time.After(e.lasts); ; {
		select {
		case <-every.C:
			for _, ls := range w.ways {
				ls.Drop()
			}
		case <-over:
			return
		}
	}
}

// late makes every way long.
func (w *world) late(e episode) {
	for _, ls := range w.ways {
		ls.Delay(etcdtest.Both, 50*time.Millisecond, 300*time.Millisecond)
	}
	pass(e.lasts)
	for _, ls := range w.ways {
		ls.Heal()
	}
}

// readerMute lets nothing pass to and from a reader, for long enough to be noticed.
func (w *world) readerMute(e episode) {
	ls := w.readers[e.target%len(w.readers)].links
	ls.Blackhole(etcdtest.Both)
	pass(2*time.Second + e.lasts)
	if e.reset {
		ls.Drop()
	}
	ls.Heal()
}

// memberMute lets nothing pass between one member and everybody.
func (w *world) memberMute(e episode) {
	for _, ls := range w.ways {
		ls[e.target%3].Blackhole(etcdtest.Both)
	}
	pass(2*time.Second + e.lasts)
	for _, ls := range w.ways {
		if e.reset {
			ls[e.target%3].Drop()
		}
		ls[e.target%3].Heal()
	}
}

// compacted cuts a reader off, and drops the history that it would go on from.
func (w *world) compacted(e episode) {
	w.t.Helper()
	r := w.readers[e.target%len(w.readers)]
	r.links.Cut()
	awaits(w.t, soon, r.view, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	pass(e.lasts)
	_, at := w.truth.now(w.c.Oracle(w.healthy()))
	w.c.Compact(at)
	r.links.Heal()
}

// revoked ends the lease of a host's instances behind its back.
func (w *world) revoked(e episode) {
	w.t.Helper()
	lease := get(w.t, w.c.Oracle(w.healthy()), w.hosts[e.target%hosts].instances[0].key).Lease
	w.strike(func(_ string, o told) bool { return o.lease == lease })
	w.c.Revoke(clientv3.LeaseID(lease))
	pass(e.lasts / 4)
}

// deleted deletes an instance's key behind its back.
func (w *world) deleted(e episode) {
	w.t.Helper()
	key := w.hosts[e.target%hosts].instances[e.target/hosts%perHost].key
	w.strike(func(k string, _ told) bool { return k == key })
	w.c.Delete(key)
	pass(e.lasts / 4)
}

// schedule draws episodes for ever: all faults in turn, in an order of chance.
type schedule struct {
	rng  *rand.Rand
	deck []fault
}

func (s *schedule) next() episode {
	if len(s.deck) == 0 {
		s.deck = append(s.deck, faults...)
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	e := episode{
		fault: s.deck[0], lasts: time.Duration(200+s.rng.IntN(1000)) * time.Millisecond,
		target: s.rng.IntN(1 << 16), reset: s.rng.IntN(2) == 0,
	}
	s.deck = s.deck[1:]
	return e
}

// F1 to F9 in turn, and everything that every view publishes meanwhile held against what happened: ETCDKIT_REGISTRY_SECONDS is
// for how long (10), ETCDKIT_REGISTRY_SEED repeats the schedule.
func TestWhateverHappensToEtcdViewsListWhatThereIs(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	w := newWorld(t)
	s := &schedule{rng: rand.New(rand.NewPCG(seed, 0))}
	stop := w.update(seed, 300*time.Millisecond)
	episodes := 0
	for end := time.Now().Add(lasts(t, 10*time.Second)); time.Now().Before(end) && !t.Failed(); episodes++ {
		e := s.next()
		t.Logf("%d: %s for %v, of %d", episodes, e.fault.name, e.lasts, e.target)
		e.fault.do(w, e)
		w.settles(worldTTL + 2*time.Second)
	}
	stop()
	w.settles(worldTTL + 2*time.Second)
	w.judge()
	t.Logf("seed %d: %d episodes", seed, episodes)
}

// F5: every connection is reset twenty times a second while instances are updated, for ETCDKIT_REGISTRY_SECONDS (2). Two seconds
// later everything is right; nothing was lost, and nobody came twice.
func TestAStormOfBrokenConnectionsLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	w := newWorld(t)
	stop := w.update(seed, 300*time.Millisecond)
	w.dropped(episode{lasts: lasts(t, 2*time.Second)})
	w.settles(2 * time.Second)
	stop()
	if y := w.judge(); y.moves > 0 {
		t.Errorf("%d moves to another lease, and no lease was lost", y.moves)
	}
	for _, r := range w.readers {
		made := 0
		for _, l := range r.links {
			made += l.Accepted()
		}
		if made < 10 {
			t.Errorf("%s made %d connections: this was no storm", r.name, made)
		}
	}
}
