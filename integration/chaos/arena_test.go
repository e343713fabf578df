package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// workers is how many share a line.
	workers = 5

	shortTTL = 2 * time.Second
	longTTL  = 3 * time.Second
)

// arena is a cluster, and those who work there and are hurt with it.
type arena struct {
	t       *testing.T
	cluster *etcdtest.Cluster
	sides   []*side
	tallies map[string]*tally // by kind
	rounds  int
}

// side is some workers of one kind, who share one line at a time.
type side struct {
	kind    kind
	workers []*worker
	history *history // of the present line
}

// dials are the ways to etcd: a plain client, one that tries calls again by a policy of ours, and a pool's.
var dials = []func(t *testing.T, links etcdtest.Links) *clientv3.Client{
	func(_ *testing.T, links etcdtest.Links) *clientv3.Client { return links.Client() },
	func(_ *testing.T, links etcdtest.Links) *clientv3.Client {
		return links.Dial(clientv3.Config{DialOptions: retry.DialOptions(retry.Policy{})})
	},
	func(t *testing.T, links etcdtest.Links) *clientv3.Client {
		t.Helper()
		p, err := pool.Open(t.Context(), pool.Config{Endpoints: links.Endpoints()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close(context.Background()) })
		return p.Client()
	},
}

// newArena starts a cluster and opens the clients of workers for a line of each kind; a kind may be there several times.
func newArena(t *testing.T, seed uint64, kinds ...kind) *arena {
	t.Helper()
	a := &arena{t: t, cluster: etcdtest.New(t, &etcdtest.Options{Members: 3}), tallies: map[string]*tally{}}
	a.cluster.WaitLeader()
	for n, k := range kinds {
		s := &side{kind: k}
		a.tallies[k.name] = &tally{}
		for i := range workers {
			links, ttl := a.cluster.Links(), shortTTL
			if i >= workers/2 {
				ttl = longTTL
			}
			client := dials[i%len(dials)](t, links)
			s.workers = append(s.workers, &worker{
				index: i, kind: k, client: client, links: links, locker: k.open(client, ttl),
				rng: rand.New(rand.NewPCG(seed, uint64(1+n*workers+i))),
			})
		}
		a.sides = append(a.sides, s)
	}
	t.Cleanup(a.close)
	return a
}

// close ends the sessions of all workers.
func (a *arena) close() {
	ctx, cancel := context.WithTimeout(context.Background(), unlockIn)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range a.sides {
		for _, w := range s.workers {
			all.Go(func() { w.locker.Close(ctx) })
		}
	}
	all.Wait()
}

// round has all work, in a new line each, through some episodes, and judges what happened there.
func (a *arena) round(episodes ...episode) {
	a.t.Helper()
	a.rounds++
	ctx, cancel := context.WithCancel(a.t.Context())
	var working sync.WaitGroup
	stop := sync.OnceFunc(func() { cancel(); working.Wait() })
	defer stop()
	for n, s := range a.sides {
		s.history = newHistory(fmt.Sprintf("line-%d-%d", a.rounds, n))
		for _, w := range s.workers {
			working.Go(func() { w.run(ctx, s.history) })
		}
	}
	a.calm(1)
	for _, e := range episodes {
		a.suffer(e)
		a.calm(2 * workers)
	}
	stop()
	for _, s := range a.sides {
		a.lookAt(s.history)
		a.tallies[s.kind.name].judge(s.history.record(s.kind.size))
	}
}

// calm waits until there were some more acquisitions of each kind.
func (a *arena) calm(more int) {
	a.t.Helper()
	up := time.NewTimer(recovery)
	defer up.Stop()
	for _, s := range a.sides {
		had, changed := s.history.count()
		for n := had; n < had+more; n, changed = s.history.count() {
			select {
			case <-changed:
			case <-up.C:
				a.t.Fatalf("%s: all is well, and %d acquisitions are missing after %v\n%s",
					s.kind.name, had+more-n, recovery, a.stuck(s.history))
			}
		}
	}
}

// lookAt notes what is in the register at the end.
func (a *arena) lookAt(h *history) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), soon)
	defer cancel()
	seen := access{input: input{verb: look}, worker: workers, called: h.now()}
	resp, err := a.cluster.Oracle(a.cluster.WaitLeader()).Get(ctx, h.register())
	if err != nil {
		a.t.Fatal(err)
	}
	seen.seen = registered(resp)
	h.accessed(seen)
}

// suffer has two faults happen, and takes them back.
func (a *arena) suffer(e episode) {
	a.t.Helper()
	from := make([]instant, len(a.sides))
	for i, s := range a.sides {
		from[i] = s.history.now()
	}
	a.t.Logf("after %v in this line: %v", time.Duration(from[0]).Round(time.Millisecond), e)
	storm, calm := context.WithCancel(a.t.Context())
	var storming sync.WaitGroup
	for i, wait := range []time.Duration{e.gap, e.lasts} {
		a.begin(e.faults[i], func(drop func()) {
			storming.Go(func() { again(storm, 150*time.Millisecond, drop) })
		})
		<-time.After(wait)
	}
	calm()
	storming.Wait()
	a.heal(e.reset)
	for i, s := range a.sides {
		s.history.hurt(from[i], s.history.now())
	}
}

// begin has one fault happen. What must be done again and again is given to repeat.
func (a *arena) begin(tr trouble, repeat func(func())) {
	a.t.Helper()
	leader := a.cluster.Leader()
	if leader < 0 {
		leader = tr.target % a.cluster.Size()
	}
	switch tr.fault {
	case lonelyLeader:
		a.cluster.Partition(leader)
	case leaderDown:
		a.cluster.Stop(leader)
	case allDown:
		a.cluster.Stop()
	case cutOff:
		for _, s := range a.sides {
			links := s.target(tr).links
			links.Blackhole(tr.direction)
			if tr.reset {
				links.Drop()
			}
		}
	case late:
		delay := func(links etcdtest.Links) { links.Delay(etcdtest.Both, 50*time.Millisecond, 300*time.Millisecond) }
		if tr.all {
			a.each(delay)
			return
		}
		for _, s := range a.sides {
			delay(s.target(tr).links)
		}
	case dropped:
		repeat(func() { a.each(etcdtest.Links.Drop) })
	}
}

// heal takes back every fault.
func (a *arena) heal(reset bool) {
	a.t.Helper()
	if reset {
		a.each(etcdtest.Links.Drop)
	}
	a.each(etcdtest.Links.Heal)
	a.cluster.HealPartition()
	a.cluster.Restart()
	a.cluster.WaitLeader()
}

// each does something to the paths of all workers.
func (a *arena) each(do func(etcdtest.Links)) {
	for _, s := range a.sides {
		for _, w := range s.workers {
			do(w.links)
		}
	}
}

// target is the worker that a fault hits. If it is to be the holder, somebody is waited for to hold, for a moment.
func (s *side) target(tr trouble) *worker {
	if !tr.holder {
		return s.workers[tr.target]
	}
	up := time.NewTimer(300 * time.Millisecond)
	defer up.Stop()
	for {
		_, changed := s.history.count()
		if holders := s.history.believers(); len(holders) > 0 {
			return s.workers[holders[0].worker]
		}
		select {
		case <-changed:
		case <-up.C:
			return s.workers[tr.target]
		}
	}
}

// again does something at once and then again and again, until ctx ends.
func again(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		do()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
