package config

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// ready returns when there is something to get, or with the error that Open fails with.
func (v *Value[T]) ready(ctx context.Context) error {
	old := false // something older was found
	err := v.following.Open(ctx, v.ear.keys.live, func(ctx context.Context) bool {
		old = v.older(ctx)
		return old
	})
	if err == nil && !old {
		err = v.joined(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrNotCurrent, err)
		}
		return err
	}
	newest := v.ear.heard.Get().serial
	for s := range v.current.Seq(ctx) {
		switch {
		case s.serial < newest: // what was heard is still being looked at
		case s.cut != nil && !old: // what is known is known by a view that others opened, and that was cut off since
		case s.serial == 0 && s.disk.IsZero(): // nothing was looked at yet
		case s.revision > 0 || s.fallback && s.cut == nil:
			return nil
		case errors.Is(s.doubt, ErrRefused):
			return s.doubt
		}
	}
	return v.overdue(ctx)
}

// joined returns when the Value is one of the instances that rollouts know, if it has an Identity: so that it begins with what it is to
// run. That etcd takes no report, as when it is full, holds up nobody; that this user may not make one is an error.
func (v *Value[T]) joined(ctx context.Context) error {
	r := v.speech.reporter
	if r == nil {
		return nil
	}
	err := v.rollouts.Open(ctx, v.ear.rollout.live, func(context.Context) bool { return true })
	if err != nil {
		return fmt.Errorf("its rollouts: %w", err)
	}
	select {
	case <-r.tried:
		if errors.Is(r.failed, rpctypes.ErrPermissionDenied) {
			return fmt.Errorf("its report %q: %w", r.key, r.failed)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// overdue says what Open was waiting for when ctx ended.
func (v *Value[T]) overdue(ctx context.Context) error {
	s := v.current.Ptr()
	why := s.doubt
	if why == nil {
		why = fmt.Errorf("%w: %w", ErrNotCurrent, s.cut)
	}
	return fmt.Errorf("%w: %w", why, context.Cause(ctx))
}

// older has the value be what a single member knows, if that is newer than the copy on disk, and reports whether
// there is a value now, or will be.
//
// A member without a leader may be far behind, and that it knows of no document says nothing: a default for an etcd that
// cannot be asked would be a guess.
func (v *Value[T]) older(ctx context.Context) bool {
	kept := v.current.Ptr()
	entries, at, err := v.following.Serializable(ctx)
	if err == nil && len(entries) > 0 && contentOf(entries).revision >= kept.revision {
		v.ear.start(entries, at)
		return true
	}
	return !kept.disk.IsZero() || v.ear.knows()
}
