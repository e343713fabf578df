package config

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/names"
)

const (
	// MaxPublished is how many bytes a published value may have: value and history share one request, of which etcd takes 1.5 MiB.
	MaxPublished = 700 << 10

	// MaxKey is how many bytes a key may have that a Store writes: it stands in the request a hundred times when a rollout is
	// promoted.
	MaxKey = 512

	// MaxAuthor is how many bytes an author may have.
	MaxAuthor = 256

	// MaxReason is how many bytes a reason may have.
	MaxReason = 1 << 10
)

// Absent says, as PublishOptions.Expect, that the key must not exist.
const Absent int64 = -1

// defaultKeep is how many versions are kept unless the options say another number.
const defaultKeep = 100

var (
	// ErrConflict says that the key is not what was expected: somebody has changed it. Nothing was written. See [ConflictError].
	ErrConflict = errors.New("config: changed by somebody else")

	// ErrOutside says that a key is not below the Store's environment. Nothing was sent.
	ErrOutside = errors.New("config: key outside of the environment")

	// ErrTooLarge says that a value is over MaxPublished. Nothing was sent.
	ErrTooLarge = errors.New("config: value too large")

	// ErrInvalid says that StoreOptions.Validate refused a value. Nothing was written.
	ErrInvalid = errors.New("config: value is not valid")

	// ErrRollout says that a rollout of the key is under way, which would be overwritten. Nothing was written.
	ErrRollout = errors.New("config: rollout under way")

	// ErrNoVersion says that there is no such version, or not any more.
	ErrNoVersion = errors.New("config: no such version")

	// ErrSealed says that a value was sealed for one key and cannot be read under another. Nothing was written.
	ErrSealed = errors.New("config: sealed for another key")
)

// StoreOptions of NewStore. The zero value, and a nil *StoreOptions, mean the defaults.
type StoreOptions struct {
	// Environment is the prefix that all keys of this Store must be below, without a slash at its end: "/config/prod". A key that
	// is not is refused before anything is sent. (So that nobody else writes there is for etcd's roles.) Default none: any key.
	Environment string

	// Keep is how many versions of a key are kept. Default 100, at least 1; negative means all. The version that the key holds
	// is kept in any case.
	Keep int

	// Validate refuses a value before it is written, also one of an older version, or of another environment. It is told the key
	// and must not keep the value. Default none. See [Check].
	Validate func(key string, value []byte) error

	// Logger is told of what rollouts do. Default none.
	Logger *zap.Logger
}

// Store writes configuration, for tools and pipelines, and looks back at what was. It is safe for concurrent use.
//
// Every version of a key is kept with who wrote it and why, in the transaction that writes the key: the history cannot
// disagree with the value, and etcd's compaction does not touch it. A key that others write by other means, as with etcdctl put, stays
// usable: what it holds enters the history, as [Outside], when a Store next sees it.
//
// Its methods take values of any kind up to [MaxPublished], and show them to nobody: neither errors nor logs hold them. Each
// call is bounded by ctx, and by itself gives up on an etcd that does not answer after 10 s. An error that
// [retry.Ambiguous] reports says that the write may have been made, or may yet be.
type Store struct {
	client *clientv3.Client
	opts   StoreOptions
}

// NewStore returns a Store over client, which stays the caller's. A nil opts means the defaults. An error names the rule that an
// option breaks.
func NewStore(client *clientv3.Client, opts *StoreOptions) (*Store, error) {
	o := StoreOptions{}
	if opts != nil {
		o = *opts
	}
	if o.Environment != "" {
		if _, err := newLayout(o.Environment); err != nil {
			return nil, fmt.Errorf("config: StoreOptions.Environment: %w", errors.Unwrap(err))
		}
	}
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return &Store{client: client, opts: o}, nil
}

// Environment is the prefix that the Store's keys are below; empty for any.
func (s *Store) Environment() string { return s.opts.Environment }

// Check returns a StoreOptions.Validate that refuses what a Value[T] with these options would: what its codec does not decode,
// or its Validate does not pass. So a bad document stops at the one who publishes it. A nil opts means the defaults.
func Check[T any](opts *Options[T]) func(key string, value []byte) error {
	if opts == nil {
		opts = &Options[T]{}
	}
	return func(key string, value []byte) error {
		r := reader[T]{form: document(opts.Codec, opts.Keyring, key), validate: opts.Validate}
		_, err := r.read([]*follow.Entry{{Value: value}})
		return err
	}
}

// layout checks a key, before anything is sent.
func (s *Store) layout(key string) (layout, error) {
	l, err := newLayout(key)
	switch {
	case err != nil:
		return l, err
	case len(key) > MaxKey:
		return l, fmt.Errorf("config: key name %.64q... refused: it has %d bytes, at most %d", key, len(key), MaxKey)
	case s.opts.Environment != "" && !strings.HasPrefix(key, s.opts.Environment+"/"):
		return l, fmt.Errorf("%w: %q is not below %q", ErrOutside, key, s.opts.Environment)
	}
	return l, nil
}

// prefix checks a prefix of keys, before anything is sent, and returns it with the slash at its end that it is read with. The empty
// one is the environment.
func (s *Store) prefix(prefix string) (string, error) {
	environment := s.opts.Environment
	switch {
	case prefix == "" && environment != "":
		return environment + "/", nil
	case prefix == "":
		return "", errors.New("config: a prefix is needed by a Store without an environment")
	}
	if err := names.Path("prefix", prefix); err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	below := prefix + "/"
	switch {
	case strings.HasPrefix(below, metaRoot) || strings.HasPrefix(metaRoot, below):
		return "", fmt.Errorf("config: prefix name %q refused: below %s are the histories of other keys", prefix, metaRoot)
	case environment != "" && !strings.HasPrefix(below, environment+"/"):
		return "", fmt.Errorf("%w: %q is not below %q", ErrOutside, prefix, environment)
	}
	return below, nil
}

// validate asks the program. Its code may do anything, a panic included.
func (s *Store) validate(key string, value []byte) (err error) {
	switch {
	case len(value) > MaxPublished:
		return fmt.Errorf("config %q: %w: %d bytes, at most %d", key, ErrTooLarge, len(value), MaxPublished)
	case s.opts.Validate == nil:
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("config %q: %w: %w", key, ErrInvalid, panicked("Validate", p))
		}
	}()
	if err := s.opts.Validate(key, value); err != nil {
		return fmt.Errorf("config %q: %w: %w", key, ErrInvalid, err)
	}
	return nil
}

// txn reads in one transaction.
func (s *Store) txn(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	return call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.KV.Txn(ctx).Then(ops...).Commit()
	})
}
