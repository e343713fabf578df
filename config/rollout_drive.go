package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// Drive drives the rollout until it has been promoted or taken back, and returns which. It waits for the instances of each step to apply the
// value, lets them soak while Check is asked, and goes on to the next step. It takes the rollout back when
//
//   - an instance refuses the value, or reports that it failed ([Value.Report]),
//   - an instance that is to run it dies, which shows as its report going without a goodbye; or is another process after it had applied,
//   - Check returns an error or panics,
//   - the key, or the rollout's value, is changed by others.
//
// Then the error wraps [ErrAborted], says which it was, and wraps Check's own.
//
// ctx bounds the driving, not the rollout: when it ends, Drive returns its cause, and the rollout stays where it is until somebody drives it
// again. Any number of drivers may drive a rollout at once; each transition is made by one of them. A driver counts the soak from when
// it saw the last instance of the step apply, so one that takes over lets it soak anew. What happened while nobody drove is seen by the next.
//
// Drive outlives outages of etcd. It returns an error that no waiting mends, such as a permission that is missing, with the state the
// rollout was last seen in.
func (r *Rollout) Drive(ctx context.Context) (RolloutState, error) {
	d := &driver{
		r: r, l: newLookout(r.store.client, r.layout, r.id, r.since),
		waits: retry.Policy{Initial: 10 * time.Millisecond, Max: time.Second}.Backoff(),
	}
	checks, cancel := context.WithCancel(ctx)
	d.check = newChecker(checks, r, d.l.poke)
	err := d.l.look(ctx, func(now time.Time) (time.Time, bool, error) { return d.turn(ctx, now) })
	cancel()
	d.check.wait()
	o := d.l.outlook
	if err == nil {
		state, err := r.outcome(ctx, o.plan)
		if failed := d.check.failure; err != nil && failed != nil && d.took {
			err = fmt.Errorf("%w: %w", err, failed)
		}
		return state, err
	}
	if o.over() {
		return "", err
	}
	return o.plan.State, err
}

// driver is one that drives.
type driver struct {
	r     *Rollout
	l     *lookout
	check *checker

	waits interface { // between attempts that fail
		Next() time.Duration
		Reset()
	}
	generation int64
	hold       time.Time // nothing is attempted before
	pending    int64     // the rollout's record was written here at this revision: what is known is older until it shows
	took       bool      // the rollout was taken back from here
}

// turn does what is to be done now, and says when to look again.
func (d *driver) turn(ctx context.Context, now time.Time) (again time.Time, over bool, err error) {
	o := d.l.outlook
	if cause := d.check.failed(); cause != "" {
		o.complain(cause)
	}
	if d.l.generation != d.generation {
		d.generation, d.pending = d.l.generation, 0 // what was written is not there any more
	}
	n := o.next(now)
	switch {
	case n.verb == toEnd:
		return time.Time{}, true, nil
	case o.planAt < d.pending:
		return time.Time{}, false, nil
	case now.Before(d.hold):
		return d.hold, false, nil
	}
	if o.term == 0 {
		if _, err := d.term(ctx); err != nil {
			return d.failed(err)
		}
		return now, false, nil
	}
	wake := n.at
	if n.soak {
		forward := n.verb == toAdvance || n.verb == toPromote
		ready, next := d.check.ask(now, forward, n.over)
		if forward && !ready {
			return time.Time{}, false, nil // until the check has returned, which is told
		}
		if !next.IsZero() && (wake.IsZero() || next.Before(wake)) {
			wake = next
		}
	}
	if n.verb == toWait {
		return wake, false, nil
	}
	if err := d.do(ctx, n); err != nil {
		return d.failed(err)
	}
	d.waits.Reset()
	return now, false, nil
}

// do makes a transition.
func (d *driver) do(ctx context.Context, n decision) error {
	o := d.l.outlook
	r, p := d.r, o.plan
	ids := instances(o.live())
	switch n.verb {
	case toNote:
		rec := *p
		return d.amend(ctx, &rec, nil)
	case toBegin:
		rec := p.at(p.Step, r.layout.key, ids)
		return d.amend(ctx, rec, nil, zap.Int("step", rec.Step+1), zap.Int("reporting", rec.Counted))
	case toAdvance:
		if changed, err := d.term(ctx); changed || err != nil {
			return err
		}
		rec := p.at(p.Step+1, r.layout.key, ids)
		return d.amend(ctx, rec, r.layout.proven(p.Base, o.candidateAt, o.revision, o.members()),
			zap.Int("step", rec.Step+1), zap.Int("reporting", len(ids)))
	case toPromote:
		if changed, err := d.term(ctx); changed || err != nil {
			return err
		}
		g, err := r.store.read(ctx, r.layout)
		if err != nil {
			return err
		}
		if g.planRevision != o.planAt {
			return fmt.Errorf("config %q: %w", r.layout.key, ErrConflict)
		}
		cmps := r.layout.proven(p.Base, o.candidateAt, o.revision, o.members())
		if err := r.finish(ctx, g, Promoted, "", append([]byte{}, o.candidate...), cmps); err != nil {
			return err
		}
		d.pending = o.planAt + 1
		r.store.logRollout(r, "rollout promoted")
	case toAbort:
		if err := r.take(ctx, n.why); err != nil {
			return err
		}
		d.pending, d.took = o.planAt+1, true
		r.store.logRollout(r, "rollout taken back", zap.String("why", n.why))
	case toWait, toEnd:
	}
	return nil
}

// amend writes a record over the one that was seen, with who has applied.
func (d *driver) amend(ctx context.Context, rec *record, cmps []clientv3.Cmp, more ...zap.Field) error {
	o := d.l.outlook
	rec.Applied, rec.Seen = o.incarnations(), o.revision
	revision, err := d.r.store.amend(ctx, d.r.layout, rec, o.planAt, cmps)
	if err != nil {
		return err
	}
	d.pending = revision
	if len(more) > 0 {
		d.r.store.logRollout(d.r, "rollout step begins", more...)
	}
	return nil
}

// term asks for etcd's term, and reports whether it is not the one that was known: then all that soaks soaks anew.
func (d *driver) term(ctx context.Context) (changed bool, err error) {
	s := d.r.store
	resp, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.KV.Get(ctx, d.r.layout.plan(), clientv3.WithCountOnly())
	})
	if err != nil {
		return false, fmt.Errorf("config %q: %w", d.r.layout.key, err)
	}
	return d.l.outlook.sawTerm(resp.Header.GetRaftTerm(), time.Now()), nil
}

// failed decides what becomes of the driving after an attempt has failed.
func (d *driver) failed(err error) (again time.Time, over bool, _ error) {
	d.hold = time.Now().Add(d.waits.Next())
	switch {
	case overtaken(err):
		return d.hold, false, nil
	case retry.Idempotent(err) || retry.Ambiguous(err) || errors.Is(err, call.ErrUnreachable) || errors.Is(err, rpctypes.ErrNoSpace):
		if log := d.r.store.opts.Logger; log != nil {
			log.Warn("rollout cannot go on for now", zap.String("key", d.r.layout.key), zap.String("rollout", d.r.id), zap.Error(err))
		}
		return d.hold, false, nil
	}
	return time.Time{}, false, err
}
