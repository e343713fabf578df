package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
)

// What a tree may hold, all layers together. A change of one key has all of it read again, so it is bounded as one
// document is: some 100 ms and 50 MiB, whoever may write to etcd.
const (
	maxTreeKeys   = 50_000
	maxTreePaths  = 8 << 20 // bytes of keys below their prefixes
	maxTreeValues = 1 << 20 // bytes of values
	maxTreePlaces = 120_000 // fields, entries of maps and elements of lists that have a key or a document, or lie above one
)

// leaf is a key of a tree.
type leaf struct {
	path  string // below the prefix of its layer, without a slash at its front; empty for the prefix itself
	key   string // all of it, for errors
	value []byte
}

// tree reads keys into a T: it knows T, and nothing of etcd.
//
// Keys name fields, and documents hold several at once. What is said of a field comes from a layer, at a depth: that of
// the key. Later layers come before earlier ones, within a layer longer keys before shorter ones, and the default is
// the lowest layer. A struct takes each of its fields from the first that names it; everything else is taken whole from
// the first that has it, and then changed by what comes before that.
//
// decode does it in three steps. Keys become places, by name. Documents of structs are taken apart into the places
// of their fields (codec.Parts), from the top down. Then each place reads what is said of it last, and the rest is never
// looked at.
type tree[T any] struct {
	base   T // the default
	root   *shape
	strict bool // a key or a field of a document that T does not have refuses the tree
	full   bool // a field that nothing names refuses the tree
}

// newTree returns the tree of T, over a default, which may be nil. The error says why T cannot be one.
func newTree[T any](base *T, refuseUnknown, refuseMissing bool) (*tree[T], error) {
	root, err := shapeOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	t := &tree[T]{root: root, strict: refuseUnknown, full: refuseMissing}
	if base != nil {
		t.base = *base
	}
	return t, nil
}

// decode returns what the keys of the layers, the most general first, make of the default. Of the default it shares what
// no key changes, and writes to nothing of it. The error names a key, or fields, and the rule, and never holds a value.
func (t *tree[T]) decode(layers [][]leaf) (T, error) {
	var zero T
	b := builder{root: &place{shape: t.root}, places: maxTreePlaces}
	if err := b.putAll(layers); err != nil {
		return zero, err
	}
	if err := b.unknownErr(); t.strict && err != nil {
		return zero, err
	}
	v := t.base
	r := reading{builder: b, parts: codec.NewParts(t.strict), full: t.full}
	if err := r.set(reflect.ValueOf(&v).Elem(), b.root, 0); err != nil {
		return zero, err
	}
	if err := r.missingErr(); err != nil {
		return zero, err
	}
	return v, nil
}

// putAll makes places of the keys of all layers.
func (b *builder) putAll(layers [][]leaf) error {
	keys, paths, values := 0, 0, 0
	for _, layer := range layers {
		for i := range layer {
			l := &layer[i]
			keys, paths, values = keys+1, paths+len(l.path), values+len(l.value)
			switch {
			case keys > maxTreeKeys:
				return l.refuse(fmt.Errorf("the tree has more than %d keys", maxTreeKeys))
			case paths > maxTreePaths:
				return l.refuse(fmt.Errorf("the keys of the tree have more than %d bytes", maxTreePaths))
			case values > maxTreeValues:
				return l.refuse(fmt.Errorf("the values of the tree have more than %d bytes", maxTreeValues))
			}
		}
	}
	for i, layer := range layers {
		// In the order of etcd, for errors that are always the same.
		if byKey := func(a, b leaf) int { return cmp.Compare(a.key, b.key) }; !slices.IsSortedFunc(layer, byKey) {
			layer = slices.SortedStableFunc(slices.Values(layer), byKey)
		}
		for j := range layer {
			if err := b.put(&layer[j], i); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse is the error for a key.
func (l *leaf) refuse(err error) error { return fmt.Errorf("key %s: %w", quoted(l.key), err) }

// quoted is a key as errors have it.
func quoted(key string) string { return strconv.Quote(short(key)) }

// short is a name as errors have it: nobody reads one of a megabyte.
func short(name string) string {
	const most = 256
	if len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(name[:most], ""), len(name))
}
