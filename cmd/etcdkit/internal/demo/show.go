package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/registry"
)

const (
	// patience bounds every wait for something to happen. It is long, because machines may be slow: what has to be fast
	// is measured, and judged by the checks.
	patience = 20 * time.Second

	// glance is how often a wait looks at the evidence at most. There is more of it several hundred times a second.
	glance = 10 * time.Millisecond

	// refresh is how often the line is brought up to date that tells what is being waited for.
	refresh = 100 * time.Millisecond
)

// errBroken ends a demo of which a promise did not hold: what follows would build on it.
var errBroken = errors.New("a promise did not hold")

// show is a demo that runs.
type show struct {
	printer
	*record
	dir string // for logs and data

	cluster *etcdproc.Cluster
	plain   *clientv3.Client // for what is done to etcd, and read there as evidence
	kit     *clientv3.Client // for etcdkit's part on this side
	view    *registry.View

	watchers sync.WaitGroup // those that put on record what etcd does, and what the view shows

	actors []*actor // all that were ever started
	alive  []string // ids of those that should be running, in order
	pids   []int    // of all processes that were ever started

	findings []finding
	played   int // steps

	metricsURL string                   // "" unless metrics are served
	unobserve  func() error             // ends that
	members    atomic.Pointer[[]string] // etcd's endpoints, for those who ask for metrics

	// What of the evidence is told, and how; "" is not.
	tellSaid  func(said) string
	tellWrite func(write) string
	told      evidence // what has been told already, or passed over
}

// observed reports whether metrics are served.
func (s *show) observed() bool { return s.metricsURL != "" }

// actor returns the process of an id.
func (s *show) actor(id string) *actor {
	i := slices.IndexFunc(s.actors, func(a *actor) bool { return a.id == id })
	return s.actors[i]
}

// others returns the ids of those alive without one.
func (s *show) others(id string) []string {
	return slices.DeleteFunc(slices.Clone(s.alive), func(other string) bool { return other == id })
}

// say tells what the demo does.
func (s *show) say(format string, args ...any) {
	s.line(time.Now(), you, fmt.Sprintf(format, args...))
}

// found adds a finding, and ends the demo if it is a bad one.
func (s *show) found(f finding) error {
	s.findings = append(s.findings, f)
	s.verdict(f)
	if f.err != nil {
		return errBroken
	}
	return nil
}

// prove waits until a check holds, which makes a finding. If that does not happen in time, or cannot any more, the
// finding is what the check said last. what is shown meanwhile.
func (s *show) prove(ctx context.Context, promise, what string, check func(evidence) (string, error)) error {
	var seen string
	var why error
	err := s.until(ctx, what, func(e evidence) bool {
		seen, why = check(e)
		return why == nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		why = fmt.Errorf("%w (%w)", why, err)
	}
	return s.found(finding{promise: promise, seen: seen, err: why})
}

// until waits until there is enough evidence, and tells of it as it comes. what is shown meanwhile.
func (s *show) until(ctx context.Context, what string, enough func(evidence) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not seen within %v: %s", patience, what))
	defer cancel()
	defer s.Status("")
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		known, more, failure := s.now()
		s.narrate(known)
		switch {
		case enough(known):
			return nil
		case failure != nil:
			return failure
		case s.Err() != nil:
			return s.Err()
		}
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-more:
		case <-tick.C:
			s.waiting(what)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// narrate tells what is new.
func (s *show) narrate(known evidence) {
	type sentence struct {
		at        time.Time
		who, what string
	}
	var sentences []sentence
	for _, e := range known.said[len(s.told.said):] {
		if s.tellSaid != nil {
			sentences = append(sentences, sentence{e.at, e.id, s.tellSaid(e)})
		}
	}
	for _, w := range known.writes[len(s.told.writes):] {
		if s.tellWrite != nil {
			sentences = append(sentences, sentence{w.at, etcd, s.tellWrite(w)})
		}
	}
	s.told = known
	slices.SortStableFunc(sentences, func(a, b sentence) int { return a.at.Compare(b.at) })
	for _, t := range sentences {
		if t.what != "" {
			s.line(t.at, t.who, t.what)
		}
	}
}

// start starts a process of the service.
func (s *show) start(id string) error {
	a, err := enter(id, s.observed(), s.cluster.Endpoints(), s.dir, s.record)
	if err != nil {
		return err
	}
	s.actors = append(s.actors, a)
	s.alive = append(s.alive, id)
	s.pids = append(s.pids, a.proc.PID())
	return nil
}

// kill ends a process of the service with SIGKILL.
func (s *show) kill(id string) error {
	s.alive = s.others(id)
	return s.actor(id).kill()
}

// leader returns who leads the service, to etcd.
func (s *show) leader(ctx context.Context) (reign, error) {
	var leads reign
	err := s.until(ctx, "a leader", func(e evidence) bool {
		reigns := e.writes.reigns(orders.LeaderName)
		if len(reigns) == 0 || reigns[len(reigns)-1].to != 0 {
			return false
		}
		leads = reigns[len(reigns)-1]
		return true
	})
	return leads, err
}

// put puts prices, as anybody would, and returns when it was sent and at which revision it was written.
func (s *show) put(ctx context.Context, prices string) (time.Time, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	resp, err := s.plain.Put(ctx, orders.ConfigKey, prices)
	if err != nil {
		return sent, 0, err
	}
	s.line(sent, you, "puts "+orders.ConfigKey+" "+prices)
	return sent, resp.Header.GetRevision(), nil
}

// follow has the view's changes put on record, beside what the services see.
func (s *show) follow(ctx context.Context) {
	for snapshot := range s.view.Changes(ctx) {
		e := said{id: you, at: time.Now(), Event: orders.Event{Kind: orders.Peers, Revision: snapshot.Revision}}
		for _, i := range snapshot.Instances {
			e.IDs = append(e.IDs, i.ID)
		}
		s.hear(e)
	}
}
