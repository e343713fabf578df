package config

import (
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// MaxPublished is how many bytes a published value may have: value and history share one request, of which etcd takes 1.5 MiB.
const MaxPublished = 700 << 10

// Absent, as PublishOptions.Expect, says that the key must not exist.
const Absent int64 = -1

var (
	// ErrConflict says that the key is not what was expected: somebody has changed it. Nothing was written.
	ErrConflict = errors.New("config: changed by somebody else")

	// ErrOutside says that a key is not below the Store's environment. Nothing was sent.
	ErrOutside = errors.New("config: key outside of the environment")

	// ErrTooLarge says that a value is over MaxPublished. Nothing was sent.
	ErrTooLarge = errors.New("config: value too large")

	// ErrRollout says that a rollout of the key is under way, which would be overwritten. Nothing was written.
	ErrRollout = errors.New("config: rollout under way")

	// ErrNoVersion says that there is no such version, or not any more.
	ErrNoVersion = errors.New("config: no such version")
)

// StoreOptions of NewStore. The zero value, and a nil *StoreOptions, mean the defaults.
type StoreOptions struct {
	// Environment is the prefix that all keys of this Store must be below, without a slash at its end: "/config/prod". A key that
	// is not is refused before anything is sent. (So that nobody else writes there is for etcd's roles.) Default none: any key.
	Environment string

	// Keep is how many versions of a key are kept. Default 100, at least 1; negative means all.
	Keep int

	// Validate refuses a value before it is written. Default none. See [Check].
	Validate func(key string, value []byte) error

	// Logger is told of what rollouts do. Default none.
	Logger *zap.Logger
}

// Store writes configuration, for tools and pipelines, and looks back at what was. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	opts   StoreOptions
}

// VersionKind says how a version came about.
type VersionKind string

const (
	// Published is a version that was published, by Publish, Update, Import or Promote.
	Published VersionKind = "published"

	// RolledBack is an older version that was published again.
	RolledBack VersionKind = "rolled back"

	// RolledOut is the value of a rollout that was promoted.
	RolledOut VersionKind = "rolled out"

	// TakenBack is the value of a rollout that was aborted. It never was the key's.
	TakenBack VersionKind = "taken back"

	// Outside is a value that was written by other means, as etcdctl put.
	Outside VersionKind = "outside"

	// Deleted says that the key was deleted.
	Deleted VersionKind = "deleted"
)

// Version is an entry of a key's history.
type Version struct {
	Number   int64       // from 1; of a key, across its deletion too
	Revision int64       // of etcd, at which the value became the key's, or the entry was written
	Kind     VersionKind //
	Author   string
	Reason   string
	Time     time.Time // by the writer's clock
	Of       int64     // of RolledBack: the version that was published again
	Rollout  string    // of RolledOut and TakenBack: the rollout's ID
	Value    []byte    // nil for a deletion, or if Omitted

	// Missed is how many changes between this version and the one before are not known, at least: they were written by other means,
	// one over the other.
	Missed int64

	// Omitted says that the value, written by other means, was too large to be kept.
	Omitted bool
}
