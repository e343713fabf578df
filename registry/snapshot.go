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

	// Held are those of Instances that etcd has no more, ordered by ID: see [ViewOptions.HoldOnMassLoss]. The last ones of a
	// service are among them until a linearizable read has confirmed that they are gone. Usually nil.
	Held []*Instance

	// Revision is that of etcd at which these were the instances.
	Revision int64

	// Generation counts how often etcd's history was replaced by an older or a foreign one, as by a restored
	// backup. Revisions compare within one generation only.
	Generation int64

	// SyncedAt is when these were last known to be the instances, by the clock of this machine: about a second ago at
	// the most while the view is live, and otherwise when it was cut off, or when the copy on disk was last current. It is zero
	// if that is not known: of what was read from a single member.
	SyncedAt time.Time

	// Source says whether that is now.
	Source Source
}

// find is the instance of a list, ordered by ID, with an ID; nil if there is none.
func find(list []*Instance, id string) *Instance {
	if at, there := slices.BinarySearchFunc(list, id, byID); there {
		return list[at]
	}
	return nil
}

func byID(i *Instance, id string) int { return cmp.Compare(i.ID, id) }

// merge returns the list with the edits made. Both are ordered by ID, each ID once. The list stays as it is, for
// those who hold it: a change costs one copy of the pointers.
func merge(list []*Instance, edits []edit) []*Instance {
	merged := make([]*Instance, 0, len(list)+len(edits))
	for _, e := range edits {
		at, found := slices.BinarySearchFunc(list, e.id, byID)
		merged = append(merged, list[:at]...)
		list = list[at:]
		if found {
			list = list[1:]
		}
		if e.after != nil {
			merged = append(merged, e.after)
		}
	}
	return append(merged, list...)
}
