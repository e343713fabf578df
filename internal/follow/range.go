package follow

import (
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is what a view covers: a prefix, or one or several single keys.
type Range struct {
	prefix string
	keys   []string
}

// Prefix covers every key that starts with prefix, which must not be empty.
func Prefix(prefix string) Range { return Range{prefix: prefix} }

// Keys covers exactly these keys, whether they exist or not.
func Keys(keys ...string) Range {
	return Range{keys: slices.Compact(slices.Sorted(slices.Values(keys)))}
}

// id tells ranges apart. No key holds a NUL that passed etcdkit's checks of names.
func (r Range) id() string { return r.prefix + "\x00" + strings.Join(r.keys, "\x00") }

// size is how many watches cover the range.
func (r Range) size() int { return max(1, len(r.keys)) }

// single reports whether one watch covers the range, so that all that comes has an order.
func (r Range) single() bool { return r.size() == 1 }

// watches are the options of the watches that cover the range, by key.
func (r Range) watches() map[string][]clientv3.OpOption {
	if r.prefix != "" {
		return map[string][]clientv3.OpOption{r.prefix: {clientv3.WithPrefix()}}
	}
	w := make(map[string][]clientv3.OpOption, len(r.keys))
	for _, k := range r.keys {
		w[k] = nil
	}
	return w
}
