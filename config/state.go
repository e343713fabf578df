package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/etcdkit/etcdkit/internal/follow"
)

var (
	// ErrNotCurrent says that etcd may have a newer document than the one in use.
	ErrNotCurrent = errors.New("config: not known to be current")

	// ErrRefused says that the newest document in etcd is bad.
	ErrRefused = errors.New("config: newest document refused")

	// ErrAbsent says that the key does not exist.
	ErrAbsent = errors.New("config: key does not exist")

	// ErrClosed says that the Value was closed by its owner.
	ErrClosed = errors.New("config: closed")
)

var (
	errUnread    = errors.New("etcd has not been read yet")
	errUnchecked = errors.New("a newer document is being checked")
)

// state is where a Value stands. It is a step from the state before and what was heard, and never changes.
type state[T any] struct {
	value      T     // first, so that Get loads it from where the pointer points
	revision   int64 // of the document that value is; 0 for the default, and for nothing at all
	generation int64 // of the history that revision is one of
	before     int64 // 1 if the copy on disk was of a history before the first that was followed
	rollout    string
	fallback   bool            // value is the default
	disk       time.Time       // of a value from the copy on disk: when that was last known to be current
	entries    []*follow.Entry // that value was made of

	serial int     // of what was heard that this accounts for
	doubt  error   // why value is not what the keys hold: refused, deleted, absent
	tried  content // of the newest that was looked at: what was refused, or what value is
	cut    error   // why the keys are not followed at present
	err    error   // what Err says
}

// next is the state after h was heard. A document is read once, however often h is repeated. The value is the one before, or
// one for which accept returned no error.
func (s *state[T]) next(accept func(old T, c content) (T, error), h heard) state[T] {
	n := *s
	n.cut = h.cut
	if n.contradicts(h) {
		n.before = 1
	}
	switch {
	case h.serial != s.serial:
		n.serial = h.serial
		n.take(accept, h)
	case n.doubt == nil && !h.content.absent():
		// After a restore the key may hold the very same document, in another history.
		n.generation = n.before + h.generation
	}
	return n
}

// contradicts reports whether what was heard cannot have followed the copy on disk: a backup was restored since that was written.
// What was there at the copy's revision is in it, or was written since.
func (s *state[T]) contradicts(h heard) bool {
	switch {
	case s.disk.IsZero() || h.serial == 0:
		return false
	case h.at < s.revision:
		return true
	case h.content.rollout != "": // of which there are no copies
		return false
	}
	return slices.ContainsFunc(h.content.entries, func(e *follow.Entry) bool {
		if e.ModRevision > s.revision {
			return false
		}
		at, there := slices.BinarySearchFunc(s.entries, string(e.Key), byKey)
		return !there || s.entries[at].ModRevision != e.ModRevision || !bytes.Equal(s.entries[at].Value, e.Value)
	})
}

// take reads the document, or says why the one before stays.
func (s *state[T]) take(accept func(old T, c content) (T, error), h heard) {
	s.tried = h.content
	if h.content.absent() {
		s.doubt = s.absent(h.at)
		return
	}
	value, err := accept(s.value, h.content)
	if err != nil {
		s.doubt = fmt.Errorf("%w at revision %d: %w", ErrRefused, h.content.revision, err)
		if h.content.rollout != "" {
			s.doubt = fmt.Errorf("%w at revision %d, of rollout %s: %w", ErrRefused, h.content.revision, h.content.rollout, err)
		}
		return
	}
	s.value, s.revision, s.generation, s.rollout = value, h.content.revision, s.before+h.generation, h.content.rollout
	s.entries, s.fallback, s.disk, s.doubt = h.content.entries, false, time.Time{}, nil
}

// absent says what is in use while the key does not exist, as of a revision.
func (s *state[T]) absent(at int64) error {
	switch {
	case s.fallback:
		return fmt.Errorf("%w as of revision %d; the default is in use", ErrAbsent, at)
	case s.revision == 0:
		return fmt.Errorf("%w as of revision %d", ErrAbsent, at)
	default:
		return fmt.Errorf("%w: deleted as of revision %d; the document of revision %d stays in use", ErrAbsent, at, s.revision)
	}
}

// why is what Err says of the state.
func (s *state[T]) why(key string) error {
	switch {
	case s.cut != nil && s.doubt != nil:
		return fmt.Errorf("config %q: %w; and %w: %w", key, s.doubt, ErrNotCurrent, s.cut)
	case s.cut != nil:
		return fmt.Errorf("config %q: %w: %w", key, ErrNotCurrent, s.cut)
	case s.doubt != nil:
		return fmt.Errorf("config %q: %w", key, s.doubt)
	}
	return nil
}

// source is what a Snapshot says of the state, given what Err says.
func (s *state[T]) source(err error) Source {
	switch {
	case s.fallback:
		return Default
	case !s.disk.IsZero():
		return Disk
	case err != nil:
		return Stale
	default:
		return Live
	}
}
