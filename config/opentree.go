package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/names"
)

// maxLayers bounds the prefixes of a tree: each is a watch.
const maxLayers = 16

var (
	errNoLayers  = errors.New("prefixes refused: there are none")
	errLayers    = fmt.Errorf("prefixes refused: there are more than %d", maxLayers)
	errSameLayer = errors.New("prefixes refused: one is there twice")
	errTreeCodec = errors.New("the Codec is refused: the keys of a tree are read by codec.Auto, each as what its field is")
	errTreeWho   = errors.New("the Identity is refused: rollouts are of single keys, and a tree has many")
)

// OpenTree reads all keys below the prefixes into one T, key by key, and follows them until Close. A nil opts means the
// defaults.
//
//	/config/base/mail/log/level        info
//	/config/prod/mail/database.url     postgres://...
//	/config/prod/mail/database.pool    20
//
// A key names a field of T: what follows after the prefix is its path, by the names that JSON has for the fields, with slashes or dots
// between them, and the case of letters does not count. The key's value is what a document of that field's type would be for
// [Open]: 20, 30s, true, a text as it is, JSON or YAML for structs, maps and lists. Later prefixes come before
// earlier ones, field by field: base, environment, instance; and Options.Default is below them all. A prefix that
// is below another one is a layer of its own, whose keys are not the other's.
//
// All layers are read at one revision and change together: what one transaction has changed, under however many of the prefixes,
// is one new value. A change of one key reads nothing from etcd again. If anything is bad, nothing is taken: Err names the
// key, and Get stays.
//
// A tree without any key is what an absent key is for Open. A single key that is deleted is no such thing: its field is what the
// layer below says, or the default. RefuseMissing has it refused.
//
// Snapshot.Revision is the newest at which something has changed. It returns what Open does, and an error for a T that keys
// cannot be fields of, or for options that a tree cannot have: Codec and Identity.
func OpenTree[T any](ctx context.Context, client *clientv3.Client, prefixes []string, opts *Options[T]) (*Value[T], error) {
	name := strings.Join(prefixes, ", ")
	v := newValue(name, opts)
	layers, err := layerPrefixes(prefixes)
	switch {
	case err != nil:
	case v.opts.Codec != nil:
		err = errTreeCodec
	case v.opts.Identity.ID != "":
		err = errTreeWho
	default:
		v.reader.form, err = trees(layers, &v.opts)
	}
	if err != nil {
		return nil, fmt.Errorf("config tree %q: %w", name, err)
	}
	if err := v.start(ctx, client, layout{}, prefixes, follow.Prefixes(layers...)); err != nil {
		return nil, fmt.Errorf("config tree %q: %w", name, err)
	}
	return v, nil
}

// layerPrefixes checks prefixes, and returns what their keys begin with.
func layerPrefixes(prefixes []string) ([]string, error) {
	switch {
	case len(prefixes) == 0:
		return nil, errNoLayers
	case len(prefixes) > maxLayers:
		return nil, errLayers
	}
	layers := make([]string, len(prefixes))
	for n, prefix := range prefixes {
		if err := names.Path("prefix", prefix); err != nil {
			return nil, err
		}
		layers[n] = prefix + "/"
		if slices.Contains(layers[:n], layers[n]) {
			return nil, errSameLayer
		}
	}
	return layers, nil
}

// trees makes values of all keys of some layers, the most general first.
func trees[T any](layers []string, opts *Options[T]) (func([]*follow.Entry) (T, error), error) {
	t, err := newTree(opts.Default, opts.RefuseUnknown, opts.RefuseMissing)
	if err != nil {
		return nil, err
	}
	return func(entries []*follow.Entry) (T, error) {
		leaves := make([][]leaf, len(layers))
		for _, e := range entries {
			key, value := string(e.Key), e.Value
			if opts.Keyring != nil && codec.IsSealed(value) {
				opened, err := opts.Keyring.Open(key, value)
				if err != nil {
					var zero T
					return zero, fmt.Errorf("key %q: %w", key, err)
				}
				value = opened
			}
			if n := layerOf(layers, key); n >= 0 {
				leaves[n] = append(leaves[n], leaf{path: key[len(layers[n]):], key: key, value: value})
			}
		}
		return t.decode(leaves)
	}, nil
}

// layerOf is the layer that a key belongs to: the one with the longest prefix.
func layerOf(layers []string, key string) int {
	found := -1
	for n, layer := range layers {
		if strings.HasPrefix(key, layer) && (found < 0 || len(layer) > len(layers[found])) {
			found = n
		}
	}
	return found
}
