package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// stormEpisode is one fault of etcd and one of the ways to it, as they will happen.
type stormEpisode struct {
	fault  stormFault
	way    stormWay
	lasts  time.Duration
	target int           // of whatever there is to choose
	reset  bool          // what a black hole holds up is lost
	calm   time.Duration // thereafter
}

func (e stormEpisode) String() string {
	return fmt.Sprintf("%s, and %s, for %v, of %d (%t), and %v of calm", e.fault.name, e.way.name, e.lasts, e.target, e.reset, e.calm)
}

// stormFault is trouble in etcd. It returns when it is over, and no member is hurt any more.
type stormFault struct {
	name string
	do   func(*storm, stormEpisode)
}

// stormWay is trouble on the ways of one worker, or of all. It begins when it is called, and what it returns ends it.
type stormWay struct {
	name string
	do   func(*storm, stormEpisode) (end func())
}

var stormFaults = []stormFault{
	{"nothing", func(_ *storm, e stormEpisode) { stormPass(e.lasts) }},
	{"leader stopped", func(s *storm, e stormEpisode) { s.without(s.cluster.WaitLeader(), e.lasts) }},
	{"follower stopped", func(s *storm, e stormEpisode) { s.cluster.WaitLeader(); s.without(s.cluster.Follower(), e.lasts) }},
	{"leader alone", (*storm).leaderAlone},
	{"all stopped", (*storm).allStopped},
	{"lease revoked", (*storm).revoked},
	{"compacted", (*storm).compacted},
	{"worker key deleted", (*storm).workerDeleted},
	{"claims deleted", (*storm).claimsDeleted},
	{"a process killed", (*storm).processKilled},
	{"a process frozen", (*storm).processFrozen},
}

var stormWays = []stormWay{
	{"open", func(*storm, stormEpisode) func() { return func() {} }},
	{"a worker mute", func(s *storm, e stormEpisode) func() { return s.mute(e, etcdtest.Both) }},
	{"a worker unheard", func(s *storm, e stormEpisode) func() { return s.mute(e, etcdtest.Requests) }},
	{"a worker deaf", func(s *storm, e stormEpisode) func() { return s.mute(e, etcdtest.Responses) }},
	{"a worker cut", (*storm).cut},
	{"all dropped", (*storm).dropped},
	{"a member mute", (*storm).memberMute},
	{"late", (*storm).late},
}

// stormSchedule draws episodes from a seed for ever: all faults in turn, and all ways, each in an order of chance.
type stormSchedule struct {
	rng    *rand.Rand
	faults []stormFault
	ways   []stormWay
}

func newStormSchedule(seed uint64) *stormSchedule {
	return &stormSchedule{rng: rand.New(rand.NewPCG(seed, 0))}
}

// next draws one.
func (s *stormSchedule) next() stormEpisode {
	return stormEpisode{
		fault: stormDraw(s.rng, &s.faults, stormFaults), way: stormDraw(s.rng, &s.ways, stormWays),
		lasts: time.Duration(200+s.rng.IntN(600)) * time.Millisecond, target: s.rng.IntN(1 << 16), reset: s.rng.IntN(2) == 0,
		calm: time.Duration(200+s.rng.IntN(500)) * time.Millisecond,
	}
}

// stormDraw takes the next card of a deck, which is made anew when it is used up.
func stormDraw[T any](rng *rand.Rand, deck *[]T, all []T) T {
	if len(*deck) == 0 {
		*deck = append(*deck, all...)
		rng.Shuffle(len(*deck), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
	}
	card := (*deck)[0]
	*deck = (*deck)[1:]
	return card
}

// stormPass lets time pass while something is wrong, or while nothing is.
func stormPass(d time.Duration) { <-time.After(d) }

// happens has an episode come and go.
func (s *storm) happens(e stormEpisode) {
	s.t.Helper()
	end := e.way.do(s, e)
	defer end() // also if this fails
	e.fault.do(s, e)
}

// target is one of the workers' ways to etcd.
func (s *storm) target(e stormEpisode) etcdtest.Links {
	return s.ways[e.target%len(s.ways)]
}

// everywhere does something to all ways.
func (s *storm) everywhere(do func(etcdtest.Links)) {
	for _, links := range s.ways {
		do(links)
	}
	for _, p := range s.producers {
		do(p.links)
	}
}

func (s *storm) without(member int, lasts time.Duration) {
	s.t.Helper()
	s.cluster.Stop(member)
	stormPass(lasts)
	s.cluster.Restart(member)
}

func (s *storm) allStopped(e stormEpisode) {
	s.t.Helper()
	s.cluster.Stop()
	stormPass(e.lasts)
	s.cluster.Restart()
}

func (s *storm) leaderAlone(e stormEpisode) {
	s.t.Helper()
	leader := s.cluster.WaitLeader()
	s.cluster.Partition(leader)
	s.cluster.WaitOtherLeader(leader)
	stormPass(e.lasts)
	s.cluster.HealPartition()
}

// revoked ends the session of a worker behind its back.
func (s *storm) revoked(e stormEpisode) {
	s.t.Helper()
	s.oracle("revoking a worker's lease", func(ctx context.Context, oracle *clientv3.Client) error {
		resp, err := oracle.Get(ctx, s.root+"line/workers/", clientv3.WithPrefix())
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		kv := resp.Kvs[e.target%len(resp.Kvs)]
		s.strangers.end(string(kv.Key[len(s.root+"line/workers/"):]))
		_, err = oracle.Revoke(ctx, clientv3.LeaseID(kv.Lease))
		return err
	})
	stormPass(e.lasts / 2)
}

// workerDeleted deletes a worker's key, which its session knows nothing of.
func (s *storm) workerDeleted(e stormEpisode) {
	s.t.Helper()
	s.oracle("deleting a worker's key", func(ctx context.Context, oracle *clientv3.Client) error {
		resp, err := oracle.Get(ctx, s.root+"line/workers/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		kv := resp.Kvs[e.target%len(resp.Kvs)]
		s.strangers.end(string(kv.Key[len(s.root+"line/workers/"):]))
		_, err = oracle.Delete(ctx, string(kv.Key))
		return err
	})
	stormPass(e.lasts / 2)
}

// claimsDeleted deletes some claims, as somebody may who means well.
func (s *storm) claimsDeleted(e stormEpisode) {
	s.t.Helper()
	s.oracle("deleting claims", func(ctx context.Context, oracle *clientv3.Client) error {
		resp, err := oracle.Get(ctx, s.root+"line/claims/", clientv3.WithPrefix(), clientv3.WithLimit(100))
		if err != nil {
			return err
		}
		for n, kv := range resp.Kvs {
			if (n+e.target)%7 > 0 {
				continue
			}
			s.record.tamper(kv.CreateRevision)
			_, err := oracle.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision)).
				Then(clientv3.OpDelete(string(kv.Key))).Commit()
			if err != nil {
				return err
			}
		}
		return nil
	})
	stormPass(e.lasts / 2)
}

// processKilled kills a worker with SIGKILL, and has another take its place.
func (s *storm) processKilled(e stormEpisode) {
	s.t.Helper()
	s.processes[e.target%len(s.processes)].kill()
	stormPass(e.lasts / 2)
}

// stormAsleep is for how long, at the most, a worker is frozen.
const stormAsleep = 2 * stormTTL

// processFrozen stops a worker with SIGSTOP, for less than its TTL or for more, while other things happen.
func (s *storm) processFrozen(e stormEpisode) {
	s.t.Helper()
	s.processes[e.target%len(s.processes)].freeze(e.lasts + time.Duration(e.target%1000)*(stormAsleep-time.Second)/1000)
	stormPass(e.lasts / 2)
}

// compacted drops the history that a worker would go on from.
func (s *storm) compacted(e stormEpisode) {
	s.t.Helper()
	links := s.target(e)
	links.Cut()
	defer links.Heal()
	stormPass(e.lasts)
	s.cluster.WaitLeader()
	if seen := s.trail.seen.Load(); seen > s.compact {
		s.compact = s.cluster.Compact(seen)
	}
}

func (s *storm) mute(e stormEpisode, d etcdtest.Direction) func() {
	links := s.target(e)
	links.Blackhole(d)
	return func() {
		if e.reset {
			links.Drop()
		}
		links.Heal()
	}
}

func (s *storm) cut(e stormEpisode) func() {
	links := s.target(e)
	links.Cut()
	return links.Heal
}

// dropped resets every connection, now and when it ends.
func (s *storm) dropped(stormEpisode) func() {
	s.everywhere(etcdtest.Links.Drop)
	return func() { s.everywhere(etcdtest.Links.Drop) }
}

// memberMute lets nothing pass between one member and everybody.
func (s *storm) memberMute(e stormEpisode) func() {
	s.everywhere(func(ls etcdtest.Links) { ls[e.target%3].Blackhole(etcdtest.Both) })
	return func() {
		s.everywhere(func(ls etcdtest.Links) {
			if e.reset {
				ls[e.target%3].Drop()
			}
			ls[e.target%3].Heal()
		})
	}
}

func (s *storm) late(stormEpisode) func() {
	s.everywhere(func(ls etcdtest.Links) { ls.Delay(etcdtest.Both, 10*time.Millisecond, 100*time.Millisecond) })
	return func() { s.everywhere(etcdtest.Links.Heal) }
}
