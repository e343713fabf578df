package follow

import (
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is what a view covers: a prefix, or one or several single keys.
type Range struct {
	prefix    string
	keys      []string
	deletions bool
}

// Prefix covers every key that starts with prefix, which must not be empty.
func Prefix(prefix string) Range { return Range{prefix: prefix} }

// Keys covers exactly these keys, whether they exist or not.
func Keys(keys ...string) Range {
	return Range{keys: slices.Compact(slices.Sorted(slices.Values(keys)))}
}

// Deletions covers the same keys, but for what is put after they were read: of that nothing is brought, only when a key
// goes.
func (r Range) Deletions() Range {
	r.deletions = true
	return r
}

// id tells ranges apart. No key holds a NUL that passed etcdkit's checks of names.
func (r Range) id() string {
	id := r.prefix + "\x00" + strings.Join(r.keys, "\x00")
	if r.deletions {
		id += "\x00"
	}
	return id
}

// size is how many watches cover the range.
func (r Range) size() int { return max(1, len(r.keys)) }

// single reports whether one watch covers the range, so that all that comes has an order.
func (r Range) single() bool { return r.size() == 1 }

// watches are the options of the watches that cover the range, by key.
func (r Range) watches() map[string][]clientv3.OpOption {
	var opts []clientv3.OpOption
	if r.deletions {
		opts = append(opts, clientv3.WithFilterPut())
	}
	if r.prefix != "" {
		return map[string][]clientv3.OpOption{r.prefix: append(opts, clientv3.WithPrefix())}
	}
	w := make(map[string][]clientv3.OpOption, len(r.keys))
	for _, k := range r.keys {
		w[k] = slices.Clone(opts)
	}
	return w
}
