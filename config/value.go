package config

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
	"github.com/etcdkit/etcdkit/internal/names"
)

// firstSync bounds the wait until the key is followed, where ctx does not.
const firstSync = 10 * time.Second

// Options of a Value. The zero value, and a nil *Options, mean the defaults.
type Options[T any] struct {
	// Codec reads documents. Default [codec.Auto]: JSON, YAML and bare scalars.
	Codec codec.Codec[T]

	// Default is what Get returns until the key has held a good document. It must pass Validate itself. Default
	// none: then Open waits for the key.
	Default *T

	// Validate refuses a value by an error that says which rule it breaks, without repeating what is not to be
	// logged. It is called once a document, one call at a time, and may take its time; it must not close the
	// Value. A panic in it refuses the document too. Default none.
	Validate func(T) error

	// Logger is told when a document is taken or refused, when the key goes, and when the Value is cut off
	// and current again: never of what a document holds. Default none.
	Logger *zap.Logger
}

// Value is a document in etcd, as a T that is kept up to date. It is safe for concurrent use.
type Value[T any] struct {
	key       string
	reader    reader[T]
	log       *zap.Logger
	unchecked error // what Err says while a document waits to be looked at

	heard    *latest.Cell[heard]    // what etcd has, written by the follower
	current  *latest.Cell[state[T]] // what became of it, written by run
	follower *follow.Follower

	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed when run has ended
	once   sync.Once
}

// Open reads the document under key and follows it until Close. A nil opts means the defaults.
//
// If the key does not exist, Open returns at once with the default; without one it waits until somebody puts the
// key, for as long as ctx lasts. If the document that is there is refused, Open returns with the default too, and Err
// says why. So a Value that was opened has passed Validate, whatever happens to the key.
//
// ctx bounds Open only, not the life of the Value. If etcd does not answer, Open gives up by itself after 10 s, or
// sooner if no endpoint accepts connections, with or without a default.
//
// It returns an error that names the rule that the key breaks, or the endpoints and how they failed; without a default,
// [ErrRefused] with what is wrong with the document, and where; and at the end of ctx its cause, together with
// [ErrAbsent] or whatever else it was waiting for. A default that Validate refuses is an error too.
func Open[T any](ctx context.Context, client *clientv3.Client, key string, opts *Options[T]) (*Value[T], error) {
	if err := names.Path("key", key); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	v := newValue(key, opts)
	if s := v.current.Ptr(); s.fallback {
		if err := v.reader.check(s.value); err != nil {
			return nil, fmt.Errorf("config %q: default refused: %w", key, err)
		}
	}
	life, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	v.follower = follow.Attach(client, follow.Keys(key), listener{v.heard})
	go v.run(life)
	if err := v.ready(ctx, client); err != nil {
		// Not Close: a Validate that hangs must not hold up a caller whose time is over.
		v.follower.Close()
		cancel()
		return nil, err
	}
	return v, nil
}

// newValue returns a Value that has heard nothing yet.
func newValue[T any](key string, opts *Options[T]) *Value[T] {
	if opts == nil {
		opts = &Options[T]{}
	}
	v := &Value[T]{
		key:    key,
		reader: reader[T]{codec: opts.Codec, validate: opts.Validate},
		log:    opts.Logger,
		heard:  latest.New(heard{cut: errUnread}),
		done:   make(chan struct{}),

		unchecked: fmt.Errorf("config %q: %w: %w", key, ErrNotCurrent, errUnchecked),
	}
	if v.reader.codec == nil {
		v.reader.codec = codec.Auto[T]()
	}
	if v.log == nil {
		v.log = zap.NewNop()
	}
	v.log = v.log.With(zap.String("key", key))
	s := state[T]{cut: errUnread}
	if opts.Default != nil {
		s.value, s.fallback = *opts.Default, true
	}
	s.err = s.why(key)
	v.current = latest.New(s)
	return v
}

// ready returns when there is something to get, or with the error that Open fails with. Beside the follower, which
// never gives up and so never fails, the key is read: that is refused by a server that is not there, or does not let
// this user in.
func (v *Value[T]) ready(ctx context.Context, client *clientv3.Client) error {
	_, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, v.key, clientv3.WithCountOnly())
	})
	if err != nil {
		return fmt.Errorf("config %q: %w", v.key, err)
	}
	if err := v.synced(ctx); err != nil {
		return err
	}
	for s := range v.current.Seq(ctx) {
		switch {
		case s.cut != nil: // what is known is known by a view that others opened, and that was cut off since
		case s.revision > 0 || s.fallback:
			return nil
		case errors.Is(s.doubt, ErrRefused):
			return s.err
		}
	}
	return v.overdue(ctx)
}

// synced returns when the key is followed.
func (v *Value[T]) synced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstSync)
	defer cancel()
	for h := range v.heard.Seq(ctx) {
		if h.cut == nil {
			return nil
		}
	}
	return v.overdue(ctx)
}

// overdue says what Open was waiting for when ctx ended.
func (v *Value[T]) overdue(ctx context.Context) error {
	return fmt.Errorf("%w: %w", v.Err(), context.Cause(ctx))
}

// run looks at what is heard, the newest only, until life ends.
func (v *Value[T]) run(life context.Context) {
	defer close(v.done)
	for h := range v.heard.Seq(life) {
		old := v.current.Ptr()
		s := old.next(v.reader, h)
		s.err = s.why(v.key)
		v.report(old, &s)
		v.current.Set(s)
	}
}

// report logs what a step changes.
func (v *Value[T]) report(old, s *state[T]) {
	switch {
	case s.serial == old.serial:
	case s.doubt == nil:
		v.log.Info("config taken", zap.Int64("revision", s.revision))
	default:
		v.log.Warn("config not taken", zap.Error(s.doubt))
	}
	switch {
	case errors.Is(old.cut, errUnread):
	case old.cut == nil && s.cut != nil:
		v.log.Warn("config not current", zap.Error(s.cut))
	case old.cut != nil && s.cut == nil:
		v.log.Info("config current again")
	}
}

// Get returns the last good value: one load from memory, no allocation. It is shared by all who get it: what its
// pointers, maps and slices lead to must not be written to. Get goes on answering after Close.
func (v *Value[T]) Get() T { return v.current.Ptr().value }

// Snapshot returns what Get does, and where it comes from. It does no I/O and does not allocate.
func (v *Value[T]) Snapshot() Snapshot[T] { return v.snapshot(v.current.Ptr()) }

// Changes yields the current value, and then each document that is taken; also one that says the same as the one
// before, since its revision is another. What is refused, and what changes nothing but Err, is not yielded. Someone slow
// in taking them gets the newest and not those between. It ends when ctx does, or when the Value is closed. Any number of
// goroutines may range over Changes of their own.
func (v *Value[T]) Changes(ctx context.Context) iter.Seq[Snapshot[T]] {
	return func(yield func(Snapshot[T]) bool) {
		first := true
		var revision, generation int64
		for s := range v.current.Seq(ctx) {
			if !first && s.revision == revision && s.generation == generation {
				continue
			}
			first, revision, generation = false, s.revision, s.generation
			if !yield(v.snapshot(&s)) {
				return
			}
		}
	}
}

// Err returns nil while Get is what etcd has, and else why it may not be:
//
//   - [ErrRefused]: the newest document is bad, and how. Get is the last good one.
//   - [ErrAbsent]: the key was deleted, and Get is the last good one; or it never existed, and Get is the default.
//   - [ErrNotCurrent]: etcd cannot be followed at present, and why; or a newer document is being validated. It may
//     come together with one of the others.
//   - [ErrClosed]: the Value was closed.
//
// It does no I/O: for a health check, call it as often as you like.
func (v *Value[T]) Err() error { return v.why(v.current.Ptr()) }

// Close stops the following. It waits for a Validate that runs, and ends every Changes. Get goes on returning the
// last good value. Close is idempotent.
func (v *Value[T]) Close() {
	v.once.Do(func() {
		v.follower.Close()
		v.cancel()
		<-v.done
		s := v.current.Get()
		s.serial = v.heard.Get().serial
		s.err = fmt.Errorf("config %q: %w", v.key, ErrClosed)
		v.current.Set(s)
		v.current.Close()
	})
}

// why is what Err says of a state.
func (v *Value[T]) why(s *state[T]) error {
	if v.heard.Ptr().serial != s.serial {
		return v.unchecked
	}
	return s.err
}

// snapshot is what users see of a state.
func (v *Value[T]) snapshot(s *state[T]) Snapshot[T] {
	return Snapshot[T]{
		Value:      s.value,
		Revision:   s.revision,
		Generation: s.generation,
		Source:     s.source(v.why(s)),
		SyncedAt:   v.follower.Status().ProvenAt,
	}
}
