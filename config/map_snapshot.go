package config

import (
	"time"
)

// MapEntry is a key of a [Map] and its document. It is shared by all who get it and never changes: it must not be written
// to, nor must what Value's pointers, maps and slices lead to.
type MapEntry[T any] struct {
	// Name is the key without the Map's prefix and the slash after it.
	Name string

	// Value is the newest good document of the key.
	Value T

	// Revision is etcd's revision of that document, the key's ModRevision.
	Revision int64
}

// MapSnapshot is all entries of a [Map] at one revision. It is shared by all who read it and never changes.
type MapSnapshot[T any] struct {
	// Entries are ordered by name. One that has not changed is the same pointer in the next snapshot.
	Entries []*MapEntry[T]

	// Revision is that of etcd at which these were the entries: that of the newest change, or of the read that found it.
	Revision int64

	// Generation counts how often etcd's history was replaced by an older or a foreign one, as by a restored
	// backup. Revisions compare within one generation only.
	Generation int64

	// SyncedAt is when it was last known what the keys hold, by the clock of this machine: about a second ago at the
	// most while they are followed, and otherwise when the Map was cut off. It is zero if that is not known: of what was
	// read from a single member.
	SyncedAt time.Time

	// Source is Live, or Stale while etcd may have newer documents or other keys. One document that was refused makes nothing
	// Stale: [Map.Err] names it.
	Source Source
}

// Get returns the entry of a name, as [Map.Get] does, of this very snapshot.
func (s MapSnapshot[T]) Get(name string) (T, bool) { return entryOf(s.Entries, name) }

// MapDiff is what became of the entries of a [Map], each list ordered by name. It is the reader's own; the entries are
// shared.
type MapDiff[T any] struct {
	Added   []*MapEntry[T]
	Changed []MapChange[T]
	Removed []*MapEntry[T] // as they last were

	// Revision and Generation are those of the snapshot that this leads to.
	Revision   int64
	Generation int64
}

// MapChange is an entry whose document is another one.
type MapChange[T any] struct {
	Before, After *MapEntry[T]
}

// empty reports whether nothing has changed.
func (d *MapDiff[T]) empty() bool { return len(d.Added)+len(d.Changed)+len(d.Removed) == 0 }

// diffEntries returns what leads from one list of entries to a later one. Those that have not changed are the same pointers, so
// that their names need not be looked at.
func diffEntries[T any](before, after []*MapEntry[T]) (d MapDiff[T]) {
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 {
		switch b, a := before[0], after[0]; {
		case b == a:
			before, after = before[1:], after[1:]
		case b.Name < a.Name:
			d.Removed = append(d.Removed, b)
			before = before[1:]
		case b.Name > a.Name:
			d.Added = append(d.Added, a)
			after = after[1:]
		default:
			d.Changed = append(d.Changed, MapChange[T]{b, a})
			before, after = before[1:], after[1:]
		}
	}
	d.Removed, d.Added = append(d.Removed, before...), append(d.Added, after...)
	return d
}

// mapEdit is what became of an entry.
type mapEdit[T any] struct {
	name  string
	after *MapEntry[T] // nil if it is gone
}

// mergeEntries returns the list with the edits made. Both are ordered by name, each name once. The list stays as it is, for
// those who hold it: a change costs one copy of the pointers.
func mergeEntries[T any](list []*MapEntry[T], edits []mapEdit[T]) []*MapEntry[T] {
	if len(edits) == 0 {
		return list
	}
	merged := make([]*MapEntry[T], 0, len(list)+len(edits))
	for _, e := range edits {
		at, there := searchEntries(list, e.name)
		merged = append(merged, list[:at]...)
		list = list[at:]
		if there {
			list = list[1:]
		}
		if e.after != nil {
			merged = append(merged, e.after)
		}
	}
	return append(merged, list...)
}

// searchEntries returns where a name is in a list that is ordered by name, or would be.
func searchEntries[T any](list []*MapEntry[T], name string) (at int, there bool) {
	from, to := 0, len(list)
	for from < to {
		if middle := int(uint(from+to) >> 1); list[middle].Name < name {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from, from < len(list) && list[from].Name == name
}

// entryOf is the value that a list has for a name.
func entryOf[T any](list []*MapEntry[T], name string) (value T, there bool) {
	at, there := searchEntries(list, name)
	if there {
		value = list[at].Value
	}
	return value, there
}

// sameEntries reports whether two lists are one and the same.
func sameEntries[T any](a, b []*MapEntry[T]) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
