package registry_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// through holds a fault against a world, during updates that have the given patience: it must cost no key and no lease. It
// returns the world once all is right again, which has to be so within the given time.
func through(t *testing.T, patience, within time.Duration, do func(w *world, seed uint64)) *world {
	t.Helper()
	seed := seeded(t)
	w := newWorld(t)
	stop := w.update(seed, patience)
	do(w, seed)
	w.settles(within)
	stop()
	if y := w.judge(); y.deletes > 0 || y.moves > 0 {
		t.Errorf("%d deletions and %d moves to another lease: no lease was to be lost", y.deletes, y.moves)
	}
	return w
}

// inTime fails the test if any update was not in etcd in time.
func (w *world) inTime() {
	w.t.Helper()
	for _, r := range w.refused {
		w.t.Errorf("not updated: %s", r)
	}
}

// F1: the leader goes and comes back, and so does the next one. Nobody disappears, and leases go on.
func TestTheLossOfALeaderCostsNoInstance(t *testing.T) {
	t.Parallel()
	through(t, 2*time.Second, worldTTL+2*time.Second, func(w *world, _ uint64) {
		for range 2 {
			w.without(w.c.WaitLeader(), time.Second)
		}
	})
}

// F2: of the loss of a follower nobody who has two seconds notices anything.
func TestTheLossOfAFollowerIsNoticedByNobody(t *testing.T) { // not beside other tests: it takes times
	through(t, 2*time.Second, worldTTL, func(w *world, _ uint64) {
		for range 2 {
			w.c.WaitLeader()
			w.without(w.c.Follower(), time.Second)
		}
	}).inTime()
}

// F4: one of three members is silent for longer than the TTL. Sessions survive, updates go through the others, and views
// do so within three seconds.
func TestASilentMemberCostsNoInstance(t *testing.T) { // not beside other tests: it takes times
	through(t, 5*time.Second, worldTTL, func(w *world, seed uint64) {
		member := int(seed % 3)
		for _, ls := range w.ways {
			ls[member].Blackhole(etcdtest.Both)
		}
		start := time.Now()
		w.settles(worldTTL) // with the member silent
		t.Logf("all is well through the other two after %v", time.Since(start))
		pass(worldTTL + time.Second - time.Since(start))
		w.settles(worldTTL)
		for _, ls := range w.ways {
			ls[member].Drop()
			ls[member].Heal()
		}
	}).inTime()
}

// F6: a long way, of 100 to 300 ms each way, is no outage.
func TestALongWayCostsNoInstance(t *testing.T) {
	t.Parallel()
	through(t, 2*time.Second, worldTTL, func(w *world, _ uint64) {
		for _, ls := range w.ways {
			ls.Delay(etcdtest.Both, 100*time.Millisecond, 300*time.Millisecond)
		}
		pass(worldTTL)
		w.settles(worldTTL) // while the way is long
		for _, ls := range w.ways {
			ls.Heal()
		}
	})
}

// F15: members are restarted one after the other, as an upgrade does. Nobody disappears, and no view is ever empty.
func TestARollingRestartCostsNoInstance(t *testing.T) {
	t.Parallel()
	through(t, 2*time.Second, worldTTL+2*time.Second, func(w *world, seed uint64) {
		for _, member := range rand.New(rand.NewPCG(seed, 0)).Perm(3) {
			w.without(member, 300*time.Millisecond)
			w.c.WaitLeader()
		}
	})
}

// F3: whoever dies while etcd is away is gone within its TTL and two seconds of etcd's return, and nobody else is.
func TestWhoeverDiesWhileEtcdIsAwayIsGoneSoonAfterItsReturn(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	opts := &registry.Options{Session: &session.Options{TTL: worldTTL}}
	dies := c.Links()
	register(t, dies.Client(), mail("dies"), opts)
	register(t, c.Client(), mail("lives"), opts)
	v := watch(t, c.Client(), "mail", "")
	sees(t, soon, v, "dies", "lives")
	c.Stop()
	dies.Cut()
	awaits(t, soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale && len(s.Instances) == 2 })
	pass(worldTTL + time.Second)
	if s := v.Snapshot(); len(s.Instances) != 2 {
		t.Errorf("etcd is away, and listed are %v", list(s))
	}
	c.Restart()
	start := time.Now()
	awaits(t, worldTTL+2*time.Second, v, "live", func(s registry.Snapshot) bool { return s.Source == registry.Live })
	live := time.Since(start)
	sees(t, worldTTL+2*time.Second-live, v, "lives")
	t.Logf("live %v after the return, and who died was gone after %v", live, time.Since(start))
	etcdtest.WaitKeys(t, soon, c.Client(), "services/", 1)
}
