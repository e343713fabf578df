package config

import "time"

// Snapshot is a value and where it comes from.
type Snapshot[T any] struct {
	// Value is what Get returned at that time. It is shared, as that is.
	Value T

	// Revision is etcd's revision of the document that Value is, the key's ModRevision. 0 for the default.
	Revision int64

	// Generation counts how often etcd's history was replaced by an older or a foreign one, as by a restored
	// backup. Revisions compare within one generation only.
	Generation int64

	// SyncedAt is when it was last known what the key holds, by the clock of this machine: about a second ago at the
	// most while the key is followed, and otherwise when the Value was cut off.
	SyncedAt time.Time

	// Source is Live, Stale or Default.
	Source Source
}

// Source says where a value comes from and how far it can be relied on. [Value.Err] has the reason.
type Source uint8

const (
	// Live is the source of a value that is the newest document in etcd.
	Live Source = iota + 1

	// Stale is the source of the last good document while etcd may have a newer one, or has none: cut off, refused
	// or deleted.
	Stale

	// Default is the source of the default in Options.
	Default
)

// String names the source.
func (s Source) String() string {
	switch s {
	case Live:
		return "live"
	case Stale:
		return "stale"
	case Default:
		return "default"
	}
	return "unknown"
}
