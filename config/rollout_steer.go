package config

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// Pause keeps the rollout at the step where it is, until it is continued or promoted. Reports and deaths still take it back. why is kept
// as its Cause. A rollout that is paused already stays so, for the reason it was. It returns [ErrNoRollout] if it has ended.
func (r *Rollout) Pause(ctx context.Context, why string) error {
	return r.steer(ctx, func(ctx context.Context, st *stand) (bool, error) {
		if st.plan.State == Paused {
			return true, nil
		}
		rec := *st.plan
		rec.State, rec.Cause = Paused, brief(why)
		_, err := r.store.amend(ctx, r.layout, &rec, st.planAt, nil)
		r.logged(err, "rollout paused", zap.String("why", why))
		return true, err
	})
}

// Continue lets a rollout that was paused go on. The soak of its step begins anew. One that is not paused is left as it is. It returns
// [ErrNoRollout] if it has ended.
func (r *Rollout) Continue(ctx context.Context) error {
	return r.steer(ctx, func(ctx context.Context, st *stand) (bool, error) {
		if st.plan.State == Running {
			return true, nil
		}
		rec := *st.plan
		rec.State, rec.Cause = Running, ""
		_, err := r.store.amend(ctx, r.layout, &rec, st.planAt, nil)
		r.logged(err, "rollout continued")
		return true, err
	})
}

// Promote lets the rollout go on to its next step now, without waiting for reports, soak or Check, and continues it if it was paused. At the
// last step the value becomes the key's. It goes on by one step, also if answers of etcd are lost; a driver that takes the same step at
// the same time makes no second one of it.
//
// What was reported is not passed over: if an instance has refused the value or reported that it failed, the error says so, and the
// rollout is for a driver to take back. To have the value all the same, abort and publish it. It returns [ErrNoRollout] if the rollout has
// ended.
func (r *Rollout) Promote(ctx context.Context) error {
	from := -1
	return r.steer(ctx, func(ctx context.Context, st *stand) (bool, error) {
		p := st.plan
		switch {
		case from < 0:
			from = p.Step
		case p.Step > from:
			return true, nil
		}
		for _, rep := range st.reports {
			if rep.Rollout == r.id && (rep.State == Refused || rep.State == Failed) {
				return true, fmt.Errorf("config %q: not promoted: instance %q has %s it: %s", r.layout.key, rep.Instance, rep.State, rep.Reason)
			}
		}
		if st.candidateAt == 0 || sumOf(st.candidate) != p.Sum {
			return true, fmt.Errorf("config %q: not promoted: the rollout's value was deleted or changed", r.layout.key)
		}
		cmps := r.layout.proven(p.Base, st.candidateAt, st.revision, nil)
		if p.Step+1 < len(p.Steps) {
			rec := p.at(p.Step+1, r.layout.key, instances(living(st.reports)))
			rec.State, rec.Cause = Running, ""
			_, err := r.store.amend(ctx, r.layout, rec, st.planAt, cmps)
			r.logged(err, "rollout promoted to its next step", zap.Int("step", rec.Step+1))
			return true, r.moved(ctx, err)
		}
		g, err := r.store.read(ctx, r.layout)
		if err != nil {
			return true, err
		}
		switch {
		case g.planRevision != st.planAt:
			return false, nil
		case g.revisionOf() != p.Base:
			return true, r.moved(ctx, ErrConflict)
		}
		err = r.finish(ctx, g, Promoted, "", st.candidate, cmps)
		r.logged(err, "rollout promoted")
		return true, r.moved(ctx, err)
	}, Promoted)
}

// Abort takes the rollout back: its instances return to the key's value. why is kept in the history. One that was aborted already stays
// so. It returns [ErrNoRollout] if the rollout was promoted.
func (r *Rollout) Abort(ctx context.Context, why string) error {
	return r.steer(ctx, func(ctx context.Context, _ *stand) (bool, error) {
		err := r.take(ctx, why)
		r.logged(err, "rollout taken back", zap.String("why", why))
		return true, err
	}, Aborted)
}

// steer has one thing done to the rollout where it stands, and again where it stands then if others were faster, until it is done. Once
// it has ended, that is an error unless it has ended as wanted.
func (r *Rollout) steer(ctx context.Context, do func(ctx context.Context, st *stand) (done bool, err error), wanted ...RolloutState) error {
	unclear := 0
	return contend(ctx, func(ctx context.Context) (again bool, err error) {
		st, err := r.store.stand(ctx, r.layout)
		if err != nil {
			return false, err
		}
		if p := st.plan; p == nil || p.ID != r.id || p.State.Ended() {
			state, err := r.outcome(ctx, p)
			switch {
			case slices.Contains(wanted, state):
				return false, nil
			case state == "":
				return false, err
			}
			return false, fmt.Errorf("config %q: %w: it was %s", r.layout.key, ErrNoRollout, state)
		}
		done, err := do(ctx, st)
		if err == nil && !done {
			err = fmt.Errorf("config %q: %w", r.layout.key, ErrConflict)
		}
		if retry.Ambiguous(err) && !errors.Is(err, call.ErrUnreachable) {
			unclear++ // where it stands now tells whether it was done
			return unclear < triesUnclear, err
		}
		return overtaken(err), err
	})
}

// triesUnclear is how often a thing is tried of which it is not clear whether it was done.
const triesUnclear = 4

// moved explains a conflict that trying again would not mend: the key itself was changed.
func (r *Rollout) moved(ctx context.Context, err error) error {
	if !overtaken(err) {
		return err
	}
	g, failed := r.store.read(ctx, r.layout)
	if failed != nil {
		return failed
	}
	if g.plan != nil && g.plan.ID == r.id && !g.plan.State.Ended() && g.revisionOf() != g.plan.Base {
		// Not ErrConflict, which is tried again.
		return fmt.Errorf("config %q: not promoted: %s since the rollout began", r.layout.key, causeKeyChanged)
	}
	return err
}

func (r *Rollout) logged(err error, what string, more ...zap.Field) {
	if err == nil {
		r.store.logRollout(r, what, more...)
	}
}
