package config_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

const (
	// healed is the bound of being right again when a fault is over.
	healed = 2 * time.Second

	// settled is that bound when faults come one after the other, so that the waits between attempts have grown to their most, which is 5 s;
	// and of a restored backup, which shows when etcd has answered several times that it knows less than it did.
	settled = healed + 5*time.Second
)

// episode is two faults at a time, as they will happen: one of etcd, and one of the ways to it. One reader's ways are left to the
// former.
type episode struct {
	fault  fault
	way    way
	lasts  time.Duration
	later  time.Duration // that the second begins
	target int           // of whatever there is to choose
	reset  bool          // what is held up by a black hole is lost
}

// fault is one kind of trouble in etcd. It returns when it is over, and no member is hurt any more.
type fault struct {
	name string
	do   func(*world, episode)
}

// way is one kind of trouble on the ways of some readers. It returns when it is over.
type way struct {
	name string
	do   func([]*reader, episode)
}

var faults = []fault{
	{"nothing", func(_ *world, e episode) { pass(e.lasts) }},
	{"leader stopped", func(w *world, e episode) { w.without(w.c.WaitLeader(), e.lasts) }},
	{"follower stopped", func(w *world, e episode) { w.c.WaitLeader(); w.without(w.c.Follower(), e.lasts) }},
	{"leader alone", (*world).leaderAlone},
	{"majority stopped", (*world).withoutMost},
	{"all stopped", (*world).withoutAll},
	{"compacted", (*world).compacted},
	{"process restarted", (*world).restarted},
	{"backup restored", (*world).turnedBack},
	{"database full", (*world).full},
	{"leases revoked", (*world).revoked},
	{"rolled out", (*world).rolledOut},
}

var ways = []way{
	{"open", func([]*reader, episode) {}},
	{"dropped", dropped},
	{"late", late},
	{"cut", cut},
	{"mute", mute},
	{"one member mute", memberMute},
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

// withoutAll stops all members for a while.
func (w *world) withoutAll(e episode) {
	w.t.Helper()
	w.truth.stop()
	w.c.Stop()
	pass(e.lasts)
	w.c.Restart()
	w.truth.from(w.c.Oracle(e.target % 3))
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

// spared is the reader whose ways the other fault leaves alone.
func (w *world) spared(e episode) *reader { return w.readers[e.target%len(w.readers)] }

// compacted cuts a reader off, and drops the history that it would go on from.
func (w *world) compacted(e episode) {
	w.t.Helper()
	r := w.spared(e)
	r.links.Cut()
	for _, f := range r.values {
		becomes(w.t, f.v, config.ErrNotCurrent)
	}
	pass(e.lasts)
	w.quietly(func() {
		member := w.healthy()
		w.truth.now(w.c.Oracle(member))
		w.c.Compact(0)
	})
	r.links.Heal()
}

// restarted ends the process that keeps copies, and starts it again while it is cut off.
func (w *world) restarted(e episode) {
	w.t.Helper()
	for _, r := range w.readers {
		if r.opts.CacheDir == "" {
			continue
		}
		r.links.Heal()
		r.close()
		r.links.Cut()
		r.open()
		for n, f := range r.values {
			before, now := r.over[len(r.over)-len(r.values)+n].v.Snapshot(), f.v.Snapshot()
			if now.Value != before.Value || now.Revision != before.Revision || now.Source != config.Disk {
				w.t.Errorf("%s: it was at %+v, and starts with %+v", f.name, before, now)
			}
		}
		pass(e.lasts)
		r.links.Heal()
	}
}

// turnedBack restores a backup, after a while in which more has happened.
func (w *world) turnedBack(e episode) {
	w.t.Helper()
	w.truth.stop()
	b := w.c.Backup()
	w.truth.from(w.c.Oracle(e.target % 3))
	pass(e.lasts)
	w.quietly(func() {
		w.truth.now(w.c.Oracle(w.healthy()))
		w.truth.stop()
		w.c.Restore(b)
		w.truth.restored(w.c.Oracle(w.healthy()))
	})
}

// full has etcd refuse all that is put.
func (w *world) full(e episode) {
	w.t.Helper()
	w.c.FillUp()
	pass(e.lasts)
	w.c.FreeUp()
}

// revoked ends the leases of all reports behind their instances' backs.
func (w *world) revoked(e episode) {
	w.t.Helper()
	leases := map[int64]bool{}
	for key, kv := range w.truth.now(w.c.Oracle(w.healthy())) {
		if strings.Contains(key, "//report/") && !leases[kv.Lease] {
			leases[kv.Lease] = true
			_, err := w.c.Oracle(w.healthy()).Revoke(w.t.Context(), clientv3.LeaseID(kv.Lease))
			if err != nil {
				w.t.Logf("revoking: %v", err) // it may have expired
			}
		}
	}
	pass(e.lasts / 4)
}

// rolledOut gives the first document's next to the canary alone, and then to everybody or to nobody.
func (w *world) rolledOut(e episode) {
	w.t.Helper()
	w.rolling.Store(true)
	defer w.rolling.Store(false)
	key := documents[0]
	next := w.next(key, []string{"good", "good", "bad"}[e.target%3])
	id := fmt.Sprintf("r%d", next.N)
	write := func(ops ...clientv3.Op) {
		w.t.Helper()
		etcdtest.Eventually(w.t, soon, "the plan is written", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_, err := w.c.Oracle(w.healthy()).Txn(ctx).Then(ops...).Commit()
			return err
		})
	}
	w.quietly(func() { // who writes has seen that this one is left alone
		write(clientv3.OpPut(beside(key)+"rollout/plan", planText(id, "running")), clientv3.OpPut(beside(key)+"rollout/value", next.text()))
	})
	pass(e.lasts)
	if e.reset {
		write(clientv3.OpPut(beside(key)+"rollout/plan", planText(id, "aborted")), clientv3.OpDelete(beside(key)+"rollout/value"))
		return
	}
	write(clientv3.OpPut(key, next.text()), clientv3.OpPut(beside(key)+"rollout/plan", planText(id, "promoted")), clientv3.OpDelete(beside(key)+"rollout/value"))
}

// dropped resets every connection twenty times a second.
func dropped(readers []*reader, e episode) {
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for over := time.After(e.lasts); ; {
		select {
		case <-every.C:
			for _, r := range readers {
				r.links.Drop()
			}
		case <-over:
			return
		}
	}
}

// late makes every way long.
func late(readers []*reader, e episode) {
	for _, r := range readers {
		r.links.Delay(etcdtest.Both, 50*time.Millisecond, 300*time.Millisecond)
	}
	pass(e.lasts)
	for _, r := range readers {
		r.links.Heal()
	}
}

// cut has every endpoint refuse a reader.
func cut(readers []*reader, e episode) {
	links := readers[e.target%len(readers)].links
	links.Cut()
	pass(e.lasts)
	links.Heal()
}

// mute lets nothing pass to and from a reader, for long enough to be noticed.
func mute(readers []*reader, e episode) {
	links := readers[e.target%len(readers)].links
	links.Blackhole(etcdtest.Both)
	pass(2*time.Second + e.lasts)
	if e.reset {
		links.Drop()
	}
	links.Heal()
}

// memberMute lets nothing pass between one member and everybody.
func memberMute(readers []*reader, e episode) {
	for _, r := range readers {
		r.links[e.target%3].Blackhole(etcdtest.Both)
	}
	pass(2*time.Second + e.lasts)
	for _, r := range readers {
		if e.reset {
			r.links[e.target%3].Drop()
		}
		r.links[e.target%3].Heal()
	}
}

// schedule draws episodes for ever: all faults in turn, and all ways, each in an order of chance.
type schedule struct {
	rng    *rand.Rand
	faults []fault
	ways   []way
}

func (s *schedule) next() episode {
	e := episode{
		fault: draw(s.rng, &s.faults, faults), way: draw(s.rng, &s.ways, ways),
		lasts: time.Duration(200+s.rng.IntN(800)) * time.Millisecond, later: time.Duration(s.rng.IntN(500)) * time.Millisecond,
		target: s.rng.IntN(1 << 16), reset: s.rng.IntN(2) == 0,
	}
	return e
}

// draw takes the next card of a deck, which is made anew when it is used up.
func draw[T any](rng *rand.Rand, deck *[]T, all []T) T {
	if len(*deck) == 0 {
		*deck = append(*deck, all...)
		rng.Shuffle(len(*deck), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
	}
	card := (*deck)[0]
	*deck = (*deck)[1:]
	return card
}

// happens has an episode come and go.
func (w *world) happens(e episode) {
	w.t.Helper()
	var others []*reader
	for _, r := range w.readers {
		if r != w.spared(e) && (r.opts.CacheDir == "" || e.fault.name != "process restarted") {
			others = append(others, r)
		}
	}
	var beside sync.WaitGroup
	defer beside.Wait() // also if this fails
	beside.Go(func() {
		if e.reset {
			pass(e.later)
		}
		e.way.do(others, e)
	})
	if !e.reset {
		pass(e.later)
	}
	e.fault.do(w, e)
}

// F1 to F13 and F15, two at a time, and everything that every Value says meanwhile held against what happened:
// ETCDKIT_CONFIG_SECONDS is for how long (6), ETCDKIT_CONFIG_SEED repeats the schedule.
func TestWhateverHappensToEtcdNobodyRunsWhatWasNeverThere(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	w := newWorld(t)
	s := &schedule{rng: rand.New(rand.NewPCG(seed, 0))}
	stop := w.write(seed)
	episodes := 0
	for end := time.Now().Add(lasts(t, 6*time.Second)); time.Now().Before(end) && !t.Failed(); episodes++ {
		e := s.next()
		t.Logf("%d: %s, and %s, for %v and %v later, of %d (%t)", episodes, e.fault.name, e.way.name, e.lasts, e.later, e.target, e.reset)
		w.happens(e)
		w.settles(settled)
	}
	stop()
	for _, key := range documents {
		put(t, w.c.Oracle(w.healthy()), key, w.next(key, "good").text())
	}
	w.settles(settled)
	w.judge()
	t.Logf("seed %d: %d episodes", seed, episodes)
}

// F5: every connection is reset twenty times a second while documents change, for ETCDKIT_CONFIG_SECONDS (2). Two seconds later
// everybody has what etcd has; nothing was told twice.
func TestAStormOfBrokenConnectionsIsOverWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	w := newWorld(t)
	stop := w.write(seed)
	dropped(w.readers, episode{lasts: lasts(t, 2*time.Second)})
	w.settles(healed)
	stop()
	w.judge()
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
