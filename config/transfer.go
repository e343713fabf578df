package config

import (
	"context"
	"io"
)

// DifferenceKind says how a key differs from what it is compared to.
type DifferenceKind string

const (
	// Missing is a key that does not exist where it would be written.
	Missing DifferenceKind = "missing"

	// Differs is a key with another value.
	Differs DifferenceKind = "differs"

	// Surplus is a key that exists only where it would be deleted.
	Surplus DifferenceKind = "surplus"
)

// Difference is a key of a Store that is not as it is elsewhere: in another environment, or in a file.
type Difference struct {
	Kind     DifferenceKind
	Name     string // of the key, below the prefix
	Key      string // of this Store
	Value    []byte // nil if it is missing
	Revision int64  // 0 if it is missing

	FromKey      string // elsewhere; empty for a file
	FromValue    []byte // nil for a surplus key
	FromRevision int64  // 0 for a surplus key, and for a file
}

// Comparison is what differs, by name.
type Comparison struct {
	Differences []Difference
	Equal       int   // how many keys do not differ
	Revision    int64 // of this Store's etcd, as of which that is so

	FromRevision int64 // of the other's; 0 for a file
}

// TransferOptions of Import and Promote.
type TransferOptions struct {
	// Author and Reason are kept with each version.
	Author, Reason string

	// Prune deletes the surplus keys too.
	Prune bool

	// IgnoreRollout is that of PublishOptions.
	IgnoreRollout bool

	// DryRun has Import write nothing, and return what differs.
	DryRun bool
}

// Transfer is what came of an Import or a Promote, also of one that failed.
type Transfer struct {
	Comparison

	// Written are the new versions, without values.
	Written []Version

	// Unknown are the keys of which it is not known whether they were written: the answer was lost.
	Unknown []string
}

// Export writes the keys below a prefix, as of one revision, as text for people and for version control: YAML documents, a header and one for
// each key, in the order of their names. [Store.Import] reads it.
func (s *Store) Export(ctx context.Context, prefix string, w io.Writer) error { panic("not yet") }

// Import makes the keys below a prefix what an export says, in batched transactions, each key with its history. The empty prefix is the one that the
// export is of.
//
// All of it is read and validated before anything is sent. What is equal already is not written, so that an Import that failed in the middle is
// finished by another one. The Transfer says exactly what was written, with and without an error.
func (s *Store) Import(ctx context.Context, prefix string, r io.Reader, o TransferOptions) (Transfer, error) {
	panic("not yet")
}

// Compare returns how the keys of this Store's environment differ from those of another's: of all that are below prefix, which is
// relative to both environments, and may be empty. Both Stores must have an environment; they may be of two clusters.
func (s *Store) Compare(ctx context.Context, from *Store, prefix string) (Comparison, error) {
	panic("not yet")
}

// Promote publishes here what Compare found to differ there, and nothing else: if a key of either side has changed since, it is a *ConflictError,
// and that key is not overwritten. Surplus keys are left alone unless o.Prune is set.
//
// Keys are written in transactions of up to thirty. The Transfer says exactly what was written, with and without an error.
func (s *Store) Promote(ctx context.Context, from *Store, differences []Difference, o TransferOptions) (Transfer, error) {
	panic("not yet")
}
