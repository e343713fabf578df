package config

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	// ErrAborted says that a rollout was taken back. The error that wraps it has the cause.
	ErrAborted = errors.New("config: rollout taken back")

	// ErrNoRollout says that the rollout is not under way, or not any more.
	ErrNoRollout = errors.New("config: no such rollout under way")
)

const (
	defaultCheckEvery  = 10 * time.Second
	defaultCheckWithin = 10 * time.Second
)

// Plan says in which steps a value is rolled out, and what takes it back.
type Plan struct {
	// Steps are the parts of the instances that run the value one after the other, each those before it too. At least one; a percentage
	// is never below one before it. After the last one the value becomes the key's, for all.
	Steps []Step

	// Check is asked while a step soaks, and once more when it has: an error rate, a latency. An error, or a panic, takes the rollout
	// back. Every driver asks its own; one that has none goes by the reports alone. It is called in a goroutine of its own, one call at a
	// time, with a ctx that ends after CheckWithin or with the Drive, which waits for it. Default none.
	Check func(ctx context.Context) error

	// CheckEvery is how long after the beginning of a call of Check the next one begins. Default 10 s.
	CheckEvery time.Duration

	// CheckWithin bounds a call of Check. Default 10 s.
	CheckWithin time.Duration

	// Author and Reason are kept with the version that comes of it: at most MaxAuthor and MaxReason bytes.
	Author, Reason string

	// Expect is as in [PublishOptions].
	Expect int64
}

// Rollout is a hold on a rollout, to drive it or to watch it. What it stands at is in etcd alone: any number of them may be held of one
// rollout, by any number of processes, and be driven at once. It needs no closing. It is safe for concurrent use.
type Rollout struct {
	store  *Store
	layout layout
	id     string
	since  int64 // the rollout's record is known to have been written at this revision
	check  func(ctx context.Context) error
	every  time.Duration // between calls of check
	within time.Duration // for a call of check
}

// ID tells the rollout from others, as in [Version].
func (r *Rollout) ID() string { return r.id }

// Key is the key whose value is rolled out.
func (r *Rollout) Key() string { return r.layout.key }

// Rollout begins to give the instances that read key a new value, by a plan. The key itself keeps its value until the rollout is
// promoted; until then nothing else can be published under it. Rollout does not wait: the first step's instances begin to
// apply the value at once, and [Rollout.Drive] takes it from there.
//
// Who takes part is who reports: a [Value] with an Identity. A step by percent that finds nobody to count begins when somebody reports.
//
// It refuses what Publish refuses, and a plan that cannot be followed. It returns [ErrRollout] if a rollout is under way, and
// [ErrConflict] if the key is not as expected. After an error that [retry.Ambiguous] reports the rollout may have begun: see Resume.
func (s *Store) Rollout(ctx context.Context, key string, value []byte, plan Plan) (*Rollout, error) {
	l, err := s.layout(key)
	if err == nil {
		err = plan.check(key)
	}
	if err == nil {
		err = s.publishable(key, value)
	}
	if err != nil {
		return nil, err
	}
	rec := plan.record(value)
	r := &Rollout{store: s, layout: l, id: rec.ID, check: plan.Check, every: rec.CheckEvery, within: rec.CheckWithin}
	err = contend(ctx, func(ctx context.Context) (again bool, err error) {
		g, err := s.read(ctx, l)
		switch {
		case err != nil:
			return errors.Is(err, ErrConflict), err
		case g.plan != nil && g.plan.ID == r.id: // begun by an attempt whose answer was lost, and already driven by others
			r.since = g.planRevision
			return false, nil
		}
		if err := s.expect(ctx, l, g, plan.Expect); err != nil {
			return false, err
		}
		if err := g.rollout(key); err != nil {
			return false, err
		}
		// Reports from now on count, also those from before the rollout begins: they are of another one.
		reports, _, err := s.reports(ctx, l)
		if err != nil {
			return false, err
		}
		first := *rec
		first.Base, first.Seen, first.Started = g.revisionOf(), g.revision, time.Now().UTC().Truncate(time.Millisecond)
		first.count(key, instances(living(reports)))
		r.since, err = s.amend(ctx, l, &first, g.planRevision,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(l.key), "=", first.Base)},
			clientv3.OpPut(l.candidate(), string(value)))
		return errors.Is(err, ErrConflict), err
	})
	if err != nil {
		return nil, err
	}
	s.logRollout(r, "rollout begins")
	return r, nil
}

// Resume returns a hold on the rollout of key that is under way, whoever began it. check is as Plan.Check, with the times of the plan; nil
// means none. It returns [ErrNoRollout] if none is under way.
func (s *Store) Resume(ctx context.Context, key string, check func(ctx context.Context) error) (*Rollout, error) {
	l, err := s.layout(key)
	if err != nil {
		return nil, err
	}
	st, err := s.stand(ctx, l)
	switch {
	case err != nil:
		return nil, err
	case st.plan == nil:
		return nil, fmt.Errorf("config %q: %w", key, ErrNoRollout)
	case st.plan.State.Ended():
		return nil, fmt.Errorf("config %q: %w: the last one was %s", key, ErrNoRollout, st.plan.State)
	}
	return &Rollout{
		store: s, layout: l, id: st.plan.ID, since: st.planAt,
		check: check, every: cmp.Or(max(0, st.plan.CheckEvery), defaultCheckEvery), within: cmp.Or(max(0, st.plan.CheckWithin), defaultCheckWithin),
	}, nil
}

// record is the plan as it is written, before anything is known of etcd.
func (p *Plan) record(value []byte) *record {
	return &record{
		ID: rand.Text(), State: Running, Steps: p.Steps, Author: p.Author, Reason: p.Reason, Sum: sumOf(value),
		CheckEvery: cmp.Or(max(0, p.CheckEvery), defaultCheckEvery), CheckWithin: cmp.Or(max(0, p.CheckWithin), defaultCheckWithin),
	}
}

// maxSteps and maxLabels bound what is written for every instance to read.
const (
	maxSteps  = 100
	maxLabels = 100
)

// check refuses a plan that cannot be followed.
func (p *Plan) check(key string) error {
	refused := func(format string, args ...any) error {
		return fmt.Errorf("config %q: plan refused: %s", key, fmt.Sprintf(format, args...))
	}
	switch {
	case len(p.Steps) == 0:
		return refused("it has no steps; to give all the value at once, publish it")
	case len(p.Steps) > maxSteps:
		return refused("it has %d steps, at most %d", len(p.Steps), maxSteps)
	case p.CheckEvery < 0 || p.CheckWithin < 0:
		return refused("a negative time")
	case p.Expect < Absent:
		return errExpect
	}
	percent := 0.0
	for i, s := range p.Steps {
		switch {
		case s.Percent == 0 && len(s.Labels) == 0:
			return refused("step %d has neither a percentage nor labels", i+1)
		case s.Percent != 0 && len(s.Labels) > 0:
			return refused("step %d has a percentage and labels", i+1)
		case len(s.Labels) > maxLabels:
			return refused("step %d has %d labels, at most %d", i+1, len(s.Labels), maxLabels)
		case len(s.Labels) == 0 && !(s.Percent > 0 && s.Percent <= 100): // nor is it NaN
			return refused("step %d: %v percent; above 0 and at most 100", i+1, s.Percent)
		case s.Percent != 0 && s.Percent < percent:
			return refused("step %d: %v percent after %v: who runs the value keeps it", i+1, s.Percent, percent)
		case s.Soak < 0 || s.MinReports < 0:
			return refused("step %d: a negative number", i+1)
		}
		percent = max(percent, s.Percent)
	}
	return checkNotes(p.Author, p.Reason)
}
