package registry

import (
	"cmp"
	"slices"
	"time"
)

// Source says where a snapshot's instances come from.
type Source uint8

const (
	// Live is the source of instances that are followed: changes arrive as they happen.
	Live Source = iota + 1

	// Stale is the source of instances that were followed until the view was cut off: the last ones known.
	Stale

	// Disk is the source of instances that were read from the copy in ViewOptions.CacheDir, as etcd has not answered since the
	// view was opened.
	Disk
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
	}
	return "unknown"
}

// Snapshot is the instances of a service at one revision. It is shared by all who read it and never changes: neither
// the slice nor the instances and their metadata may be written to.
type Snapshot struct {
	// Instances are ordered by ID. One that has not changed is the same pointer in the next snapshot.
	Instances []*Instance

	// Revision is that of etcd at which these were the instances.
	Revision int64

	// Generation counts how often etcd's history was replaced by an older or a foreign one, as by a restored
	// backup. Revisions compare within one generation only.
	Generation int64

	// SyncedAt is when these were last known to be the instances, by the clock of this machine: about a second ago at
	// the most while the view is live, and otherwise when it was cut off.
	SyncedAt time.Time

	// Source says whether that is now.
	Source Source
}

// edit is what became of one instance: its newest state, or nil if it is not listed any more.
type edit struct {
	id       string
	instance *Instance
}

// merge returns the list with the edits made. Both are ordered by ID, each ID once. The list stays as it is, for
// those who hold it: a change costs one copy of the pointers.
func merge(list []*Instance, edits []edit) []*Instance {
	merged := make([]*Instance, 0, len(list)+len(edits))
	for _, e := range edits {
		at, found := slices.BinarySearchFunc(list, e.id, func(i *Instance, id string) int { return cmp.Compare(i.ID, id) })
		merged = append(merged, list[:at]...)
		list = list[at:]
		if found {
			list = list[1:]
		}
		if e.instance != nil {
			merged = append(merged, e.instance)
		}
	}
	return append(merged, list...)
}
