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
	// most while the key is followed, and otherwise when the Value was cut off, or when the copy on disk was last current. The zero
	// time if that is not known.
	SyncedAt time.Time

	// Source is Live, Stale, Disk or Default.
	Source Source

	// Rollout is the ID of the rollout whose value this is, ahead of the others; empty for the key's own document. Taken back, the
	// key's document is in use again, which has an older revision.
	Rollout string
}

// Age is how long ago it was last known that this is what etcd has. It is negative if that was never known.
func (s Snapshot[T]) Age() time.Duration {
	if s.SyncedAt.IsZero() {
		return -1
	}
	return max(0, time.Since(s.SyncedAt))
}

// Source says where a value comes from and how far it can be relied on. [Value.Err] has the reason.
type Source uint8

const (
	// Live is the source of a value that is the newest document in etcd.
	Live Source = iota + 1

	// Stale is the source of the last good document while etcd may have a newer one, or has none: cut off, refused
	// or deleted; also of one that a single member knew when a majority could not be asked.
	Stale

	// Disk is the source of a document from the copy in Options.CacheDir, for which etcd has had no good one since.
	Disk

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
	case Disk:
		return "disk"
	case Default:
		return "default"
	}
	return "unknown"
}
