package config

import (
	"context"
	"errors"
	"fmt"
)

// ready returns when there is something to get, or with the error that Open fails with.
func (v *Value[T]) ready(ctx context.Context) error {
	live := make(chan struct{})
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for h := range v.ear.heard.Seq(waiting) {
			if h.cut == nil {
				close(live)
				return
			}
		}
	}()
	old := false // something older was found
	err := v.following.Open(ctx, live, func(ctx context.Context) bool {
		old = v.older(ctx)
		return old
	})
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
