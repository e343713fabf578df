package follow

import (
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is what a view covers: prefixes, single keys, or both.
type Range struct {
	prefixes  []string // sorted, none within another
	keys      []string // sorted, none under a prefix
	whole     bool     // what several watches bring is put in one order
	deletions bool
	tail      bool // nothing is read and nothing held
	recipe    Recipe
}

// Prefix covers every key that starts with prefix, which must not be empty.
func Prefix(prefix string) Range { return Range{prefixes: []string{prefix}} }

// Prefixes covers every key that starts with one of prefixes, none of which may be empty, as one whole: what one
// transaction has changed, under however many of them, comes in one [Change], and a view is at one revision. Prefixes may
// repeat and cover each other.
//
// This has a price. A change waits until etcd has said that the other prefixes have nothing older, which is a round trip;
// and a view of several prefixes has a stream of its own, with a question a second of its own.
func Prefixes(prefixes ...string) Range {
	return cover(prefixes, nil)
}

// Keys covers exactly these keys, whether they exist or not. Several of them are no whole: see [Range.With] for that.
func Keys(keys ...string) Range {
	return Range{keys: slices.Compact(slices.Sorted(slices.Values(keys)))}
}

// With covers these keys, too, and all of it as one whole, as [Prefixes] does.
func (r Range) With(keys ...string) Range {
	whole := cover(r.prefixes, slices.Concat(r.keys, keys))
	whole.deletions, whole.recipe = r.deletions, r.recipe
	if r.tail {
		return whole.Tail()
	}
	return whole
}

// cover returns the whole of prefixes and keys, each key of etcd's being in one of them only: so an event comes once.
func cover(prefixes, keys []string) Range {
	r := Range{whole: true}
	for _, p := range slices.Sorted(slices.Values(prefixes)) {
		// What starts with a prefix comes right after it.
		if n := len(r.prefixes); n == 0 || !strings.HasPrefix(p, r.prefixes[n-1]) {
			r.prefixes = append(r.prefixes, p)
		}
	}
	for _, k := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		if !slices.ContainsFunc(r.prefixes, func(p string) bool { return strings.HasPrefix(k, p) }) {
			r.keys = append(r.keys, k)
		}
	}
	return r
}

// Deletions covers the same keys, but for what is put after they were read: of that nothing is brought, only when a key
// goes.
func (r Range) Deletions() Range {
	r.deletions = true
	return r
}

// Tail covers the same, one prefix or one key, without a copy of it: nothing of it is read, nothing is held, and followers are
// only told what happens. What there is they read by themselves, as far as they want it.
//
// The first [Change] is one with Reset and without events, and so is each after an interruption: everything up to its
// Revision is for the follower to read, and each event of a later one is brought, exactly as etcd sent it: Old is nil, as it
// is not known. A follower that reads when it is told of a Reset, linearizably or at that revision at least, and takes in what
// comes then, misses nothing; what it reads may be newer, and come a second time.
//
// A tail has no content for etcd to be compared with. A restored backup is noticed by its older revision or its cluster; of one that has
// caught up while the tail was cut off only the Reset tells.
//
// It panics if the range is of more than one prefix or key, as there would be no order.
func (r Range) Tail() Range {
	if r.size() != 1 || len(r.sorted()) != 1 {
		panic("follow: a tail is of one prefix or one key")
	}
	r.tail = true
	return r
}

// id tells ranges apart. No key holds a NUL that passed etcdkit's checks of names.
func (r Range) id() string {
	id := strings.Join(r.prefixes, "\x00") + "\x00\x00" + strings.Join(r.keys, "\x00")
	if r.woven() {
		id += "\x00whole"
	}
	if r.deletions {
		id += "\x00"
	}
	if r.tail {
		id += "\x00tail"
	}
	return id
}

// size is how many watches cover the range.
func (r Range) size() int { return max(1, len(r.prefixes)+len(r.keys)) }

// woven reports whether what several watches bring is put in one order.
func (r Range) woven() bool { return r.whole && r.size() > 1 }

// ordered reports whether all that comes has an order: from one watch, or from several that are woven.
func (r Range) ordered() bool { return r.whole || r.size() == 1 }

// spans are the keys and prefixes of the range, each with the options that make it what it is.
func (r Range) spans() map[string][]clientv3.OpOption {
	spans := make(map[string][]clientv3.OpOption, r.size())
	for _, p := range r.prefixes {
		spans[p] = []clientv3.OpOption{clientv3.WithPrefix()}
	}
	for _, k := range r.keys {
		spans[k] = nil
	}
	return spans
}

// sorted are the keys and prefixes of the range in order.
func (r Range) sorted() []string { return slices.Sorted(maps.Keys(r.spans())) }

// watches are the options of the watches that cover the range, by key.
func (r Range) watches() map[string][]clientv3.OpOption {
	w := r.spans()
	for key := range w {
		if r.deletions {
			w[key] = append(w[key], clientv3.WithFilterPut())
		}
	}
	return w
}
