package config

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// content is what a value is made of: the document under a key, or all keys of a tree. It never changes.
type content struct {
	entries    []*follow.Entry // ordered by key, each once; none while there is no document
	revision   int64           // the newest that made it what it is
	generation int64           // of the history that revision is one of
	rollout    string          // the ID of the rollout whose value this is; empty for what the keys themselves hold
}

// same reports whether two contents are the very same entries.
func (c content) same(d content) bool {
	return c.rollout == d.rollout && slices.Equal(c.entries, d.entries)
}

// absent reports whether there is nothing to make a value of.
func (c content) absent() bool { return len(c.entries) == 0 }

// after returns the content with a change applied. One that is initial starts from nothing.
func (c content) after(change follow.Change) content {
	if change.Initial {
		c = content{}
	}
	last := make(map[string]*follow.Entry, len(change.Events)) // of several events of a key
	for _, ev := range change.Events {
		last[ev.Key] = ev.New
		if ev.New == nil {
			// One that was found gone by a read has no revision of its own.
			c.revision = max(c.revision, cmp.Or(ev.Revision, change.Revision))
		} else {
			c.revision = max(c.revision, ev.New.ModRevision)
		}
	}
	c.entries = merge(c.entries, slices.Sorted(maps.Keys(last)), last)
	if c.generation != change.Generation {
		c.generation, c.revision = change.Generation, newest(c.entries)
	}
	return c
}

// merge returns the entries with some keys replaced, or taken out. The entries stay as they are, for who holds them.
func merge(entries []*follow.Entry, keys []string, replaced map[string]*follow.Entry) []*follow.Entry {
	if len(keys) == 0 {
		return entries
	}
	merged := make([]*follow.Entry, 0, len(entries)+len(keys))
	for _, key := range keys {
		at, there := slices.BinarySearchFunc(entries, key, byKey)
		merged = append(merged, entries[:at]...)
		entries = entries[at:]
		if there {
			entries = entries[1:]
		}
		if e := replaced[key]; e != nil {
			merged = append(merged, e)
		}
	}
	return append(merged, entries...)
}

func byKey(e *follow.Entry, key string) int { return cmp.Compare(string(e.Key), key) }

// contentOf is the content of entries in any order.
func contentOf(entries []*follow.Entry) content {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b *follow.Entry) int { return bytes.Compare(a.Key, b.Key) })
	return content{entries: sorted, revision: newest(sorted)}
}

// newest is the highest revision of some entries.
func newest(entries []*follow.Entry) int64 {
	revision := int64(0)
	for _, e := range entries {
		revision = max(revision, e.ModRevision)
	}
	return revision
}
