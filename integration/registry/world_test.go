package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// worldTTL is that of all sessions in a world.
const worldTTL = 5 * time.Second

// seeded returns the seed of a test's schedule. ETCDKIT_REGISTRY_SEED repeats a run's.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("ETCDKIT_REGISTRY_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ETCDKIT_REGISTRY_SEED: %v", err)
		}
	}
	t.Logf("ETCDKIT_REGISTRY_SEED=%d", seed)
	return seed
}

// lasts returns how long a storm lasts: ETCDKIT_REGISTRY_SECONDS, or a default.
func lasts(t *testing.T, otherwise time.Duration) time.Duration {
	t.Helper()
	v := os.Getenv("ETCDKIT_REGISTRY_SECONDS")
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("ETCDKIT_REGISTRY_SECONDS: %q", v)
	}
	return time.Duration(n) * time.Second
}

// world is a cluster of three, instances of two services that are updated all the time, views of them, and the truth. Each client
// has a way of its own to each member.
type world struct {
	t       *testing.T
	c       *etcdtest.Cluster
	truth   *chronicle
	ways    []etcdtest.Links // those of the registrants, and then those of the readers
	hosts   []*host
	readers []*reader

	turns    sync.RWMutex   // updates are made with it read-locked
	updating sync.WaitGroup // the goroutines that make them
	struck   map[string]int // by key: how often a fault has taken it away

	mu      sync.Mutex
	refused []string      // guarded by mu: the updates that were not in etcd in time
	slowest time.Duration // guarded by mu: of the updates
	updates int           // guarded by mu
}

// host is a process with instances.
type host struct {
	links     etcdtest.Links
	instances []*announced
}

// announced is one instance.
type announced struct {
	*registry.Registration
	key, addr string
	zone      string // as it was last wished for; owned by its host's updates
}

const (
	hosts   = 4
	perHost = 3
)

// newWorld starts one. Each host has two instances of svc and one of svc2; three views are of svc, one of them through a pool, and
// one is of svc2.
//
// Its etcd is slower than the harness's usual, and twice as fast as production's: on a busy machine leaders must change
// only when a test says so.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, c: etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond}), struck: map[string]int{}}
	w.truth = newChronicle(t, w.c.Oracle(w.c.WaitLeader()))
	opts := &registry.Options{Session: &session.Options{TTL: worldTTL}}
	for n := range hosts {
		h := &host{links: w.c.Links()}
		cli := h.links.Client()
		for i := range perHost {
			service := []string{"svc", "svc", "svc2"}[i]
			id, addr := fmt.Sprintf("%s-%d-%d", service, n, i), fmt.Sprintf("10.0.%d.%d:80", n, i+1)
			r := register(t, cli, registry.Instance{Service: service, ID: id, Addr: addr}, opts)
			h.instances = append(h.instances, &announced{Registration: r, key: "services/" + service + "/" + id, addr: addr})
		}
		w.hosts, w.ways = append(w.hosts, h), append(w.ways, h.links)
	}
	for n, service := range []string{"svc", "svc", "svc", "svc2"} {
		links := w.c.Links()
		var cli *clientv3.Client
		if n == 1 {
			p, err := pool.Open(t.Context(), pool.Config{Endpoints: links.Endpoints()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), soon)
				defer cancel()
				_ = p.Close(ctx) // the way to etcd may be what the test has broken
			})
			cli = p.Client()
		} else {
			cli = links.Client()
		}
		r := &reader{t: t, name: fmt.Sprintf("view %d of %s", n, service), service: service, links: links, folded: map[string]*registry.Instance{}}
		r.view = watch(t, cli, service, "")
		r.begin()
		w.readers, w.ways = append(w.readers, r), append(w.ways, links)
	}
	w.settles(soon)
	return w
}

// each calls do for every instance.
func (w *world) each(do func(*announced)) {
	for _, h := range w.hosts {
		for _, a := range h.instances {
			do(a)
		}
	}
}

// update has every host update its instances, one after the other, until stop is called. Each update is given up after patience;
// it is wished for all the same.
func (w *world) update(seed uint64, patience time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	for n, h := range w.hosts {
		rng := rand.New(rand.NewPCG(seed, uint64(n+1)))
		w.updating.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				w.updateOne(h.instances[rng.IntN(perHost)], fmt.Sprintf("zone-%d", turn), patience)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(20+rng.IntN(120)) * time.Millisecond):
				}
			}
		})
	}
	return func() { cancel(); w.updating.Wait() }
}

func (w *world) updateOne(a *announced, zone string, patience time.Duration) {
	w.turns.RLock()
	defer w.turns.RUnlock()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	start := time.Now()
	err := a.Update(ctx, func(i *registry.Instance) {
		i.Zone = zone
		a.zone = zone
	})
	took := time.Since(start)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updates++
	w.slowest = max(w.slowest, took)
	if err != nil {
		w.refused = append(w.refused, fmt.Sprintf("%s after %v: %v", a.key, took, err))
	}
}

// settles pauses the updates and fails the test unless within the given time all is as it should be: every instance is announced,
// by one key which says what was wished for last; every view is what etcd holds, and so is the sum of its differences.
func (w *world) settles(within time.Duration) {
	w.t.Helper()
	start := time.Now()
	w.turns.Lock()
	defer w.turns.Unlock()
	member := w.healthy()
	etcdtest.Eventually(w.t, within, "all is well again", func(ctx context.Context) error {
		if err := w.wellByItself(); err != nil {
			return err // which costs etcd nothing
		}
		there, _, err := w.truth.read(ctx, w.c.Oracle(member))
		if err != nil {
			return err
		}
		return w.well(there)
	})
	if d := time.Since(start); d > time.Second {
		w.t.Logf("all was well again after %v", d)
	}
}

// wellByItself tells whether any instance or view knows by itself that it is not well.
func (w *world) wellByItself() error {
	var errs []error
	w.each(func(a *announced) { errs = append(errs, a.Err()) })
	for _, r := range w.readers {
		errs = append(errs, r.view.Err())
	}
	return errors.Join(errs...)
}

// well tells what is not as it should be.
func (w *world) well(there content) error {
	var errs []error
	w.each(func(a *announced) {
		if o, is := there[a.key]; !is || o.Addr != a.addr || o.Zone != a.zone {
			errs = append(errs, fmt.Errorf("%s is %v in etcd, want zone %q", a.key, o, a.zone))
		}
	})
	if len(there) != hosts*perHost {
		errs = append(errs, fmt.Errorf("%d keys of %d instances", len(there), hosts*perHost))
	}
	for _, r := range w.readers {
		if err := r.well(there); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
	}
	return errors.Join(errs...)
}

// healthy returns a member that a majority is with. Faults hurt one at a time, and those are over when this is asked.
func (w *world) healthy() int {
	w.t.Helper()
	return w.c.WaitLeader()
}

// toll is what the faults have cost.
type toll struct{ deletes, moves, stales int }

// judge ends the world and holds everything that was seen against what happened. Nothing but what a fault has struck may ever have
// been deleted.
func (w *world) judge() toll {
	w.t.Helper()
	_, at := w.truth.now(w.c.Oracle(w.healthy()))
	events := w.truth.until(at)
	var y toll
	gone, leases := map[string]int{}, map[string]int64{}
	for _, ev := range events {
		key := string(ev.Kv.Key)
		if ev.Type == clientv3.EventTypeDelete {
			y.deletes++
			if gone[key]++; gone[key] > w.struck[key] {
				w.t.Errorf("%s was gone at revision %d", key, ev.Kv.ModRevision)
			}
			continue
		}
		if before, is := leases[key]; is && before != ev.Kv.Lease {
			y.moves++
		}
		leases[key] = ev.Kv.Lease
	}
	addrs := map[string]string{}
	w.each(func(a *announced) { addrs[a.key] = a.addr })
	for _, r := range w.readers {
		y.stales += r.judge(events, addrs, w.struck)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%d events, %d deletions, %d moves to another lease, %d times stale; %d updates, %d not in time, the slowest %v",
		len(events), y.deletes, y.moves, y.stales, w.updates, len(w.refused), w.slowest)
	return y
}

// reader is a view, and all that it has published.
type reader struct {
	t       *testing.T
	name    string
	service string
	links   etcdtest.Links
	view    *registry.View

	mu        sync.Mutex
	snapshots []registry.Snapshot           // guarded by mu
	folded    map[string]*registry.Instance // guarded by mu: the sum of the differences
	removed   map[string]int                // guarded by mu: by ID
}

// begin takes in what the view publishes, until the test ends.
func (r *reader) begin() {
	r.removed = map[string]int{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	var work sync.WaitGroup
	work.Go(func() {
		for s := range r.view.Changes(ctx) {
			r.mu.Lock()
			r.snapshots = append(r.snapshots, s)
			r.mu.Unlock()
		}
	})
	work.Go(func() {
		for d := range r.view.Diffs(ctx) {
			r.fold(d)
		}
	})
	r.t.Cleanup(func() { cancel(); work.Wait() })
}

// fold adds a difference to what is known: it has to follow from that.
func (r *reader) fold(d registry.Diff) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range d.Added {
		if was := r.folded[i.ID]; was != nil {
			r.t.Errorf("%s: %s was added twice", r.name, i.ID)
		}
		r.folded[i.ID] = i
	}
	for _, c := range d.Changed {
		if r.folded[c.After.ID] != c.Before {
			r.t.Errorf("%s: %s changed from what it was not", r.name, c.After.ID)
		}
		if reflect.DeepEqual(c.Before, c.After) {
			r.t.Errorf("%s: %s changed into what it was: %+v", r.name, c.After.ID, *c.After)
		}
		r.folded[c.After.ID] = c.After
	}
	for _, gone := range d.Removed {
		if r.folded[gone.Instance.ID] != gone.Instance {
			r.t.Errorf("%s: %s was removed as what it was not", r.name, gone.Instance.ID)
		}
		delete(r.folded, gone.Instance.ID)
		r.removed[gone.Instance.ID]++
	}
}

// prefix is that of the service's keys.
func (r *reader) prefix() string { return "services/" + r.service + "/" }

// well tells in what the view differs from what there is.
func (r *reader) well(there content) error {
	s := r.view.Snapshot()
	if err := r.view.Err(); err != nil || s.Source != registry.Live {
		return fmt.Errorf("%s: %w", s.Source, err)
	}
	if d := differ(instances(s, false), there.under(r.prefix())); d != "" {
		return errors.New("not what there is:" + d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := map[string]*registry.Instance{}
	for _, i := range s.Instances {
		sum[i.ID] = i
	}
	if !maps.Equal(sum, r.folded) {
		return fmt.Errorf("the sum of its differences has %d instances, and it has %d, or others", len(r.folded), len(sum))
	}
	return nil
}

// instances is what a snapshot's say, by ID; without those that are held, if so wished.
func instances(s registry.Snapshot, withoutHeld bool) map[string]string {
	all := map[string]string{}
	for _, i := range s.Instances {
		all[i.ID] = told{Addr: i.Addr, Zone: i.Zone, State: i.State.String(), Weight: i.Weight}.says()
	}
	if withoutHeld {
		for _, i := range s.Held {
			delete(all, i.ID)
		}
	}
	return all
}

// judge holds all snapshots against what happened: each is what etcd held at its revision, but for those it says are held. It
// returns how often the view was stale.
func (r *reader) judge(events []*clientv3.Event, addrs map[string]string, struck map[string]int) (stales int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.removed {
		if n > struck[r.prefix()+id] {
			r.t.Errorf("%s: %s was removed %d times", r.name, id, n)
		}
	}
	there, next := content{}, 0
	var last registry.Snapshot
	for _, s := range r.snapshots {
		if len(s.Instances) == 0 {
			r.t.Errorf("%s: empty at revision %d, %s", r.name, s.Revision, s.Source)
		}
		if s.Generation != 0 {
			r.t.Errorf("%s: generation %d: this is one history", r.name, s.Generation)
			return stales
		}
		if s.Revision < last.Revision {
			r.t.Errorf("%s: revision %d came after %d", r.name, s.Revision, last.Revision)
			return stales
		}
		for _, i := range s.Instances {
			if addr := addrs[r.prefix()+i.ID]; addr != i.Addr || i.Service != r.service {
				r.t.Errorf("%s: lists %+v, which was never registered so", r.name, *i)
			}
		}
		for ; next < len(events) && events[next].Kv.ModRevision <= s.Revision; next++ {
			there.happen(r.t, events[next])
		}
		if d := differ(instances(s, true), there.under(r.prefix())); d != "" {
			r.t.Errorf("%s: at revision %d, %s, with %d held, it is not what etcd held:%s", r.name, s.Revision, s.Source, len(s.Held), d)
			return stales
		}
		if s.Source == registry.Stale && last.Source == registry.Live {
			stales++
		}
		last = s
	}
	return stales
}

// pass lets time pass while something is wrong, or while nothing is.
func pass(d time.Duration) { <-time.After(d) }

// strike notes that a fault takes keys away: all that hang on a lease, or that have a name.
func (w *world) strike(which func(key string, o told) bool) {
	w.t.Helper()
	there, _ := w.truth.now(w.c.Oracle(w.healthy()))
	for key, o := range there {
		if strings.HasPrefix(key, "services/") && which(key, o) {
			w.struck[key]++
		}
	}
}
