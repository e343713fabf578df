package config

import (
	"context"
	"fmt"
	"iter"
)

// Entry is a key as it was at a revision.
type Entry struct {
	Key      string
	Value    []byte // nil in what Keys returns
	Revision int64  // at which it was last written
	Created  int64  // revision at which it was created
	Writes   int64  // how often it was written since, as etcd counts
}

// Listing is the keys below a prefix, as of one revision, in the order of their names.
type Listing struct {
	Revision int64
	Entries  []Entry
}

// CompactedError says that etcd does not have a revision any more.
type CompactedError struct {
	Revision int64 // that was asked for
	Oldest   int64 // that can be read
}

// Error names both.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("config: revision %d was compacted, the oldest that can be read is %d", e.Revision, e.Oldest)
}

// EditKind says what a change did.
type EditKind string

const (
	// KeyCreated is a key that did not exist before.
	KeyCreated EditKind = "created"

	// KeyChanged is a key that was written again.
	KeyChanged EditKind = "changed"

	// KeyRemoved is a key that was deleted.
	KeyRemoved EditKind = "removed"
)

// Edit is a change of a key.
type Edit struct {
	Kind     EditKind
	Key      string
	Value    []byte // nil if the key was removed
	Revision int64  // of the change
	Writes   int64  // how often the key was written since it was created, as etcd counts; 0 if it was removed
}

// At returns the keys below a prefix as they were at one revision; 0 is the newest. The empty prefix is the environment.
//
// A revision that was compacted is a *[CompactedError], one that etcd has not reached rpctypes.ErrFutureRev.
func (s *Store) At(ctx context.Context, prefix string, revision int64) (Listing, error) {
	panic("not yet")
}

// Keys is as At of the newest revision, without the values.
func (s *Store) Keys(ctx context.Context, prefix string) (Listing, error) { panic("not yet") }

// Watch yields every change below a prefix from a revision on, in order, each once; 0 is from now on. The empty prefix is the
// environment. It goes on over disconnects, and ends when ctx does, or the loop. If changes cannot be had any more as etcd was
// compacted, it yields a *[CompactedError] last; any other error, as etcd's refusal, ends it too.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) iter.Seq2[Edit, error] {
	panic("not yet")
}
