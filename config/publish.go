package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// PublishOptions say who changes a key, why, and what it is expected to be.
type PublishOptions struct {
	// Author and Reason are kept with the version: at most MaxAuthor and MaxReason bytes of text.
	Author, Reason string

	// Expect is what the change is made on. A positive number is the key's revision (Version.Revision): if the key is at another
	// one, nothing is written and the error is a *ConflictError. [Absent] is the same for a key that must not exist. 0 is
	// whatever is there when it is read; who is overtaken between that and the write tries again, after random waits, until ctx
	// ends or a hundred times.
	Expect int64

	// IgnoreRollout writes the key though a rollout is under way, which is taken back by that: its value was tried on another base.
	IgnoreRollout bool
}

// ConflictError is an [ErrConflict] that says what a key is instead of what it was expected to be.
type ConflictError struct {
	Key      string
	Expected int64   // revision, or Absent
	Revision int64   // that the key is at; 0 if it does not exist
	By       Version // what history knows of it, without the value; the zero Version if nothing
}

// Error names both revisions, and who wrote the newer one.
func (e *ConflictError) Error() string {
	expected, is := fmt.Sprintf("revision %d", e.Expected), fmt.Sprintf("it is at revision %d", e.Revision)
	if e.Expected == Absent {
		expected = "no such key"
	}
	if e.Revision == 0 {
		is = "it does not exist"
	}
	text := fmt.Sprintf("config %q: %v: expected %s, %s", e.Key, ErrConflict, expected, is)
	if e.By.Number == 0 {
		return text
	}
	text += fmt.Sprintf(", version %d, %s", e.By.Number, e.By.Kind)
	if e.By.Author != "" {
		text += fmt.Sprintf(" by %q", e.By.Author)
	}
	return text
}

// Unwrap makes it an ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// Publish makes value, which must not be nil, what the key holds, and returns the new version.
//
// A value that is there already is not written again: the version that is current is returned, whoever made it. So a
// pipeline may publish what it has as often as it likes, and readers are not bothered.
//
// Before anything is sent it refuses a bad name, a key outside of the environment ([ErrOutside]), a value that is too large
// ([ErrTooLarge]) or that Validate does not pass ([ErrInvalid]), and an author or a reason that is too long. Then it may return
// [ErrConflict], [ErrRollout], etcd's refusal (rpctypes.ErrPermissionDenied), or an error that [retry.Ambiguous] reports.
func (s *Store) Publish(ctx context.Context, key string, value []byte, o PublishOptions) (Version, error) {
	if err := s.publishable(key, value); err != nil {
		return Version{}, err
	}
	return s.change(ctx, key, o, func(_ context.Context, _ layout, g *ledger) (entry, error) {
		if g.value != nil && bytes.Equal(g.value.Value, value) {
			return entry{}, errSame
		}
		return entry{version: Version{Kind: Published, Value: value}}, nil
	})
}

// Update makes what fn returns for the key's value the key's value: by compare-and-swap, so that no other change is lost. fn gets nil if
// the key does not exist. It is called again, on a newer value, when somebody else was faster; so it should do nothing but compute. Its error is
// returned and nothing is written; nor is it if fn returns what it was given. It must not return nil: see Delete. Otherwise it is as Publish.
func (s *Store) Update(ctx context.Context, key string, fn func(old []byte) ([]byte, error), o PublishOptions) (Version, error) {
	return s.change(ctx, key, o, func(_ context.Context, _ layout, g *ledger) (entry, error) {
		var old []byte
		if g.value != nil {
			old = append([]byte{}, g.value.Value...)
		}
		value, err := fn(old)
		if err != nil {
			return entry{}, fmt.Errorf("config %q: %w", key, err)
		}
		if g.value != nil && value != nil && bytes.Equal(g.value.Value, value) {
			return entry{}, errSame
		}
		if err := s.publishable(key, value); err != nil {
			return entry{}, err
		}
		return entry{version: Version{Kind: Published, Value: value}}, nil
	})
}

// Delete deletes the key. Its history stays, and the deletion is a version of it. A key that does not exist is [ErrAbsent]. Otherwise it
// is as Publish.
func (s *Store) Delete(ctx context.Context, key string, o PublishOptions) (Version, error) {
	return s.change(ctx, key, o, func(_ context.Context, _ layout, g *ledger) (entry, error) {
		if g.value == nil {
			return entry{}, fmt.Errorf("config %q: %w as of revision %d", key, ErrAbsent, g.revision)
		}
		return entry{version: Version{Kind: Deleted}}, nil
	})
}

// Rollback makes the key again what it was as of a version: its value is published anew, as the next version. If the key was gone as of
// that version it is deleted. It loses nothing: what it replaces stays in the history, and can be rolled back to.
// [ErrNoVersion] names the oldest version that is kept. Otherwise it is as Publish.
func (s *Store) Rollback(ctx context.Context, key string, version int64, o PublishOptions) (Version, error) {
	return s.change(ctx, key, o, func(ctx context.Context, l layout, g *ledger) (entry, error) {
		old, err := s.record(ctx, l, g, version)
		switch {
		case err != nil:
			return entry{}, err
		case old.Omitted || old.Kind == Malformed:
			return entry{}, fmt.Errorf("config %q: %w: the value of version %d was not kept", key, ErrNoVersion, version)
		case old.Gone() && g.value == nil, g.value != nil && !old.Gone() && bytes.Equal(g.value.Value, old.Value):
			return entry{}, errSame
		}
		if !old.Gone() {
			if err := s.validate(key, old.Value); err != nil {
				return entry{}, err
			}
		}
		return entry{version: Version{Kind: RolledBack, Of: version, Value: old.Value}}, nil
	})
}

var (
	// errSame says that the key is already what it is to be.
	errSame = errors.New("config: the same")

	errNil    = errors.New("the value is nil; to delete a key, use Delete")
	errExpect = errors.New("config: PublishOptions.Expect must be a revision, 0 or Absent")
)

// publishable checks a value, before anything is sent.
func (s *Store) publishable(key string, value []byte) error {
	if _, err := s.layout(key); err != nil {
		return err
	}
	if value == nil {
		return fmt.Errorf("config %q: %w", key, errNil)
	}
	return s.validate(key, value)
}

// change makes the next version of a key from what it is, and again from what it is then if others were faster.
func (s *Store) change(ctx context.Context, key string, o PublishOptions,
	next func(ctx context.Context, l layout, g *ledger) (entry, error),
) (v Version, err error) {
	l, err := s.layout(key)
	if err == nil {
		err = checkNotes(o.Author, o.Reason)
	}
	if err == nil && o.Expect < Absent {
		err = errExpect
	}
	if err != nil {
		return Version{}, err
	}
	err = contend(ctx, func(ctx context.Context) (again bool, err error) {
		g, err := s.read(ctx, l)
		if err != nil {
			return errors.Is(err, ErrConflict), err
		}
		if err := s.expect(ctx, l, g, o.Expect); err != nil {
			return false, err
		}
		if !o.IgnoreRollout {
			if err := g.rollout(key); err != nil {
				return false, err
			}
		}
		e, err := next(ctx, l, g)
		if errors.Is(err, errSame) {
			v, err = s.current(ctx, l, g)
			return errors.Is(err, ErrConflict), err
		}
		if err != nil {
			return false, err
		}
		e.version.Author, e.version.Reason = o.Author, o.Reason
		v, err = s.write(ctx, l, g, e)
		return errors.Is(err, ErrConflict), err
	})
	return v, err
}

// expect returns a ConflictError if a key is not what it is expected to be.
func (s *Store) expect(ctx context.Context, l layout, g *ledger, expected int64) error {
	is := g.revisionOf()
	if expected == 0 || expected == is || expected == Absent && is == 0 {
		return nil
	}
	e := &ConflictError{Key: l.key, Expected: expected, Revision: is}
	if by, err := s.current(ctx, l, g); err == nil { // it is only for the text
		by.Value = nil
		e.By = by
	}
	return e
}
