package config_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// Rollouts under random schedules of reports, deaths, restarts, errors, newcomers, and drivers that come and go. What happened is read
// from etcd's history: nobody outside the plan was ever given the value, no death or error of who had it ends in a promotion, and
// without any the end is a promotion.
func TestRandomRollouts(t *testing.T) {
	t.Parallel()
	seconds := 5
	if text := os.Getenv("ETCDKIT_ROLLOUT_SECONDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		seconds = n
	}
	seed := rand.Uint64()
	if text := os.Getenv("ETCDKIT_ROLLOUT_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("ETCDKIT_ROLLOUT_SEED=%d", seed)
	clients := []*clientv3.Client{etcdtest.Client(t), etcdtest.Client(t), etcdtest.Client(t)}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var mu sync.Mutex
	ends := map[string]int{}
	var lanes sync.WaitGroup
	for lane := range uint64(8) {
		lanes.Go(func() {
			rng := rand.New(rand.NewPCG(seed, lane))
			for round := 0; time.Now().Before(end) && !t.Failed(); round++ {
				w := &fleet{
					t: t, rng: rng, clients: clients, key: fmt.Sprintf("%slimits", etcdtest.Prefix(t)),
					calm: rng.IntN(3) == 0, name: fmt.Sprintf("lane %d, round %d", lane, round),
				}
				how := w.play()
				mu.Lock()
				ends[how]++
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	t.Logf("%v", ends)
}

// fleet is one rollout with its instances and drivers.
type fleet struct {
	t       *testing.T
	rng     *rand.Rand
	clients []*clientv3.Client
	key     string
	name    string
	calm    bool // nothing bad happens

	instances []*instance
	drivers   []*driven
}

func (w *fleet) client() *clientv3.Client { return w.clients[w.rng.IntN(len(w.clients))] }

// play plays a rollout to its end, and returns how that was.
func (w *fleet) play() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := w.client().Put(ctx, w.key, "old"); err != nil {
		w.t.Error(err)
		return "error"
	}
	defer func() {
		for _, d := range w.drivers {
			d.stop()
			<-d.done
		}
		for _, i := range w.instances {
			i.stop()
			<-i.done
		}
	}()
	for range 1 + w.rng.IntN(5) {
		w.newcomer()
	}
	s, err := config.NewStore(w.client(), nil)
	if err != nil {
		w.t.Error(err)
		return "error"
	}
	r, err := s.Rollout(ctx, w.key, []byte("new"), w.plan())
	if err != nil {
		w.t.Error(err)
		return "error"
	}
	w.driver(r)
	for until := time.Now().Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond); time.Now().Before(until); {
		w.something(r)
		timer := time.NewTimer(time.Duration(w.rng.IntN(150)) * time.Millisecond)
		<-timer.C
	}
	// Now all is well: somebody of each zone is there, and somebody drives.
	for _, zone := range []string{"a", "b"} {
		w.instances = append(w.instances, w.join("last-"+zone, zone))
	}
	last := w.driver(r)
	select {
	case <-last.done:
	case <-ctx.Done():
		w.t.Errorf("%s: the rollout does not end", w.name)
		return "error"
	}
	return w.judge(r)
}

func (w *fleet) plan() config.Plan {
	p := config.Plan{}
	percent := 0.0
	for range 1 + w.rng.IntN(3) {
		if w.rng.IntN(3) == 0 {
			p.Steps = append(p.Steps, config.Step{Labels: map[string]string{"zone": string(rune('a' + w.rng.IntN(2)))}})
			continue
		}
		percent = min(100, percent+1+float64(w.rng.IntN(60)))
		p.Steps = append(p.Steps, config.Step{Percent: percent, Soak: time.Duration(w.rng.IntN(1500)) * time.Millisecond})
	}
	return p
}

func (w *fleet) join(id, zone string) *instance {
	return join(w.t, w.client(), w.key, id, labelled(map[string]string{"zone": zone}))
}

func (w *fleet) newcomer() {
	w.instances = append(w.instances, w.join(fmt.Sprintf("i-%d", len(w.instances)), string(rune('a'+w.rng.IntN(2)))))
}

// driver adds one that drives.
func (w *fleet) driver(r *config.Rollout) *driven {
	ctx, cancel := context.WithCancel(context.Background())
	d := &driven{stop: cancel, done: make(chan struct{})}
	s, err := config.NewStore(w.client(), nil)
	if err != nil {
		w.t.Error(err)
	}
	again, err := s.Resume(ctx, w.key, nil)
	if err != nil {
		if !errors.Is(err, config.ErrNoRollout) {
			w.t.Error(err)
		}
		again = r
	}
	go func() {
		defer close(d.done)
		d.state, d.err = again.Drive(ctx)
	}()
	w.drivers = append(w.drivers, d)
	return d
}

// something happens.
func (w *fleet) something(r *config.Rollout) {
	i := w.instances[w.rng.IntN(len(w.instances))]
	i.mu.Lock()
	over := i.over
	i.mu.Unlock()
	bad := !w.calm && w.rng.IntN(12) == 0
	switch dice := w.rng.IntN(10); {
	case bad && over:
		i.again()
	case bad && dice < 3:
		i.die()
	case bad && dice < 6:
		i.again()
	case bad && dice < 8:
		i.say(config.Failed, "500s") // of the key's own document, or of the rollout's
	case bad:
		i.die()
		i.again()
	case dice < 1 && over:
		i.again()
	case dice < 1:
		i.leave()
	case dice < 2 && len(w.instances) < 8:
		w.newcomer()
	case dice < 4:
		d := w.drivers[w.rng.IntN(len(w.drivers))]
		d.stop()
		if w.rng.IntN(2) == 0 {
			<-d.done
		}
	case dice < 6 && len(w.drivers) < 12:
		w.driver(r)
	}
}

// judge reads what happened, and holds the end against it.
func (w *fleet) judge(r *config.Rollout) string {
	var (
		p        *plan // the newest so far
		open     *plan // the newest that had not ended: who read it may report a moment after the end
		ended    int64
		included = map[string]bool{}
		running  = map[string]config.Report{} // all reports, as of the event
		bad      []string
	)
	for _, e := range course(w.t, w.clients[0], w.key) {
		at := e.Kv.ModRevision
		switch {
		case e.plan != nil:
			before := p
			p = e.plan
			if p.State == config.Promoted || p.State == config.Aborted {
				ended = at
				continue
			}
			open = p
			// A step is no larger than it was asked for, of those who reported when it began.
			s := p.Steps[p.Step]
			if s.Percent > 0 && before != nil && p.Threshold != before.Threshold {
				in := 0
				for id, rep := range running {
					if rep.State != config.Left && hash(w.key, id) <= p.Threshold {
						in++
					}
				}
				live := 0
				for _, rep := range running {
					if rep.State != config.Left {
						live++
					}
				}
				// Between what the driver saw and the write somebody may have joined or left.
				if most := int(math.Ceil(s.Percent*float64(live+1)/100)) + 1; in > most {
					w.t.Errorf("%s: at revision %d %d of %d are in a step of %v percent", w.name, at, in, live, s.Percent)
				}
			}
			for id, rep := range running {
				if p.includes(w.key, id, rep.Labels) {
					included[id] = true
				} else if included[id] {
					w.t.Errorf("%s: at revision %d %s is out again", w.name, at, id)
				}
			}
		case e.id == "":
		case e.report == nil:
			delete(running, e.id)
			if ended == 0 && e.before.State != config.Left && p != nil && (e.before.Rollout == r.ID() || p.includes(w.key, e.id, e.before.Labels)) {
				bad = append(bad, fmt.Sprintf("%d: %s died", at, e.id))
			}
		default:
			running[e.id] = *e.report
			if open != nil && open.includes(w.key, e.id, e.report.Labels) {
				included[e.id] = true
			}
			if e.report.Rollout != "" && !included[e.id] {
				w.t.Errorf("%s: at revision %d %s runs the value and was never in the plan", w.name, at, e.id)
			}
			if ended > 0 {
				continue
			}
			if e.report.Rollout == r.ID() && (e.report.State == config.Failed || e.report.State == config.Refused) {
				bad = append(bad, fmt.Sprintf("%d: %s %s", at, e.id, e.report.State))
			}
			if e.before != nil && e.before.State == config.Applied && e.before.Rollout == r.ID() && e.before.Incarnation != e.report.Incarnation {
				bad = append(bad, fmt.Sprintf("%d: %s restarted", at, e.id))
			}
		}
	}
	switch {
	case ended == 0:
		w.t.Errorf("%s: it has not ended: %+v", w.name, p)
	case p.State == config.Promoted && len(bad) > 0:
		w.t.Errorf("%s: promoted at revision %d although %q", w.name, ended, bad)
	case p.State == config.Aborted && len(bad) == 0:
		w.t.Errorf("%s: taken back at revision %d for nothing: %s", w.name, ended, p.Cause)
	}
	versions, err := must[*config.Store](w.t)(config.NewStore(w.clients[0], nil)).History(context.Background(), w.key, 0)
	if n := len(slices.DeleteFunc(versions, func(v config.Version) bool { return v.Rollout != r.ID() })); err != nil || n != 1 {
		w.t.Errorf("%s: %d versions are of the rollout; %v", w.name, n, err)
	}
	return string(p.State)
}
