package config

import (
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/codec"
)

// Options of a Value. The zero value, and a nil *Options, mean the defaults.
type Options[T any] struct {
	// Codec reads documents. Default [codec.Auto]: JSON, YAML and bare scalars. A tree has none.
	Codec codec.Codec[T]

	// Default is what Get returns until the key has held a good document, and of a tree what fields have that no key sets.
	// It must pass Validate itself. Default none: then Open waits for the key.
	Default *T

	// Validate refuses a value by an error that says which rule it breaks, without repeating what is not to be
	// logged. It is called once a document, one call at a time, and may take its time; it must not close the
	// Value. A panic in it refuses the document too. Default none.
	Validate func(T) error

	// RefuseUnknown has a tree refused that holds a key for which T has no field. By default such keys are ignored: the next
	// version's must not be refused by this version's binaries.
	RefuseUnknown bool

	// RefuseMissing has a tree refused in which a field of T has no key, in any layer.
	RefuseMissing bool

	// Keyring opens what was sealed with one of its keys: the document, or single keys of a tree. Then a document that is not
	// sealed is refused; in a tree, keys that are not sealed are read as they are. Default none.
	Keyring *codec.Keyring

	// CacheDir, if set, is a directory in which the last good document is kept, in a file for each key, so that a process starts
	// without etcd: the bytes as they are in etcd, sealed if they are sealed, with their revision. What was
	// refused, and the value of a rollout, is never in it. Several processes may share it. Only this user can read the files.
	CacheDir string

	// Identity makes the Value one of the instances that rollouts know. Default nobody.
	Identity Identity

	// Logger is told when a document is taken or refused, when the key goes, and when the Value is cut off
	// and current again: never of what a document holds. Default none.
	Logger *zap.Logger
}
