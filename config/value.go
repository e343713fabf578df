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

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// Value is what etcd holds, as a T that is kept up to date. It is safe for concurrent use.
type Value[T any] struct {
	name      string
	opts      Options[T]
	reader    reader[T]
	log       *zap.Logger
	unchecked error // what Err says while a document waits to be looked at

	ear         *ear                   // what etcd has, written by the followers
	current     *latest.Cell[state[T]] // what became of it, written by run
	following   *follow.Follower       // the keys
	rollouts    *follow.Follower       // nil without an Identity
	subscribers subscribers[T]
	speech      speech
	copy        *diskCopy // nil if none is kept

	cancel context.CancelFunc // ends run and keep
	work   sync.WaitGroup
	once   sync.Once
}

// Open reads the document under key and follows it until Close. A nil opts means the defaults.
//
// If the key does not exist, Open returns at once with the default; without one it waits until somebody puts the
// key, for as long as ctx lasts. If the document that is there is refused, Open returns with the default too, and Err
// says why. So a Value that was opened has passed Validate, whatever happens to the key. A good document in CacheDir takes
// the place of the default in both cases: a restart changes nothing.
//
// If etcd cannot be asked, because it is away or has lost its majority, the Value starts with what a single member knows (its
// Source is [Stale]) or with the copy in CacheDir ([Disk]), whichever is newer, and becomes live as soon as etcd answers. That
// takes 3 s, half the time that ctx leaves, or less if no endpoint accepts connections. With neither of them it is an
// error, after 10 s at the most, with or without a default.
//
// With an Identity it returns once the instance's own report is in etcd, or etcd takes none for now, and begins with a rollout's value if
// that is its to run. That this user may not follow the rollouts, or not report, is an error.
//
// ctx bounds Open only, not the life of the Value.
//
// It returns an error that names the rule that the key or an option breaks, or the endpoints and how they failed; without a
// default, [ErrRefused] with what is wrong with the document, and where; and at the end of ctx its cause, together with
// [ErrAbsent] or whatever else it was waiting for. A default that Validate refuses is an error too.
func Open[T any](ctx context.Context, client *clientv3.Client, key string, opts *Options[T]) (*Value[T], error) {
	at, err := newLayout(key)
	if err != nil {
		return nil, err
	}
	v := newValue(key, opts)
	v.reader.form = document(v.opts.Codec, v.opts.Keyring, key)
	if err := v.start(ctx, client, at, []string{key}, follow.Keys(key)); err != nil {
		return nil, fmt.Errorf("config %q: %w", key, err)
	}
	return v, nil
}

// newValue returns a Value that has heard nothing yet.
func newValue[T any](name string, opts *Options[T]) *Value[T] {
	if opts == nil {
		opts = &Options[T]{}
	}
	v := &Value[T]{
		name:      name,
		opts:      *opts,
		reader:    reader[T]{validate: opts.Validate},
		log:       opts.Logger,
		unchecked: fmt.Errorf("config %q: %w: %w", name, ErrNotCurrent, errUnchecked),
	}
	if v.log == nil {
		v.log = zap.NewNop()
	}
	v.log = v.log.With(zap.String("key", name))
	return v
}

// start has the Value follow, and returns when there is something to get.
func (v *Value[T]) start(ctx context.Context, client *clientv3.Client, at layout, keys []string, rng follow.Range) error {
	if err := v.prepare(client, at, keys); err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	onDisk := v.current.Ptr().entries // before anything newer is heard, which is yet to be copied
	v.following = follow.Attach(client, rng.For(follow.Config), listener{v.ear, &v.ear.keys})
	v.work.Go(func() { v.run(life) })
	if v.copy != nil {
		v.work.Go(func() { v.keep(life, onDisk) })
	}
	if r := v.speech.reporter; r != nil {
		v.rollouts = follow.Attach(client, follow.Prefix(at.rollout()).For(follow.Config), listener{v.ear, &v.ear.rollout})
		go r.run(life)
	}
	err := v.ready(ctx)
	if err != nil {
		// Not Close: a Validate that hangs must not hold up a caller whose time is over.
		v.stop(ctx)
		return err
	}
	inForce.Add(v)
	return nil
}

// prepare makes what does not need etcd.
func (v *Value[T]) prepare(client *clientv3.Client, at layout, keys []string) (err error) {
	if v.opts.Default != nil {
		if err := v.reader.check(*v.opts.Default); err != nil {
			return fmt.Errorf("default refused: %w", err)
		}
	}
	if v.opts.CacheDir != "" {
		if v.copy, err = newDiskCopy(v.opts.CacheDir, keys, v.log); err != nil {
			return err
		}
	}
	if v.opts.Identity.ID != "" {
		if v.speech.reporter, err = newReporter(client, at, v.opts.Identity, v.log); err != nil {
			return err
		}
	}
	v.listen(at)
	if r := v.speech.reporter; r != nil {
		r.heard = v.ear.reporting
	}
	return nil
}

// listen makes ready to be told what etcd has.
func (v *Value[T]) listen(at layout) {
	v.ear = newEar(at, v.opts.Identity)
	s := v.seed()
	s.err = s.why(v.name)
	v.current = latest.New(s)
}

// run looks at what is heard, the newest only, until life ends.
func (v *Value[T]) run(life context.Context) {
	for h := range v.ear.heard.Seq(life) {
		v.apply(h)
	}
}

// apply takes one step: a value is in use once all subscribers have agreed to it, and then they are told.
func (v *Value[T]) apply(h heard) {
	v.subscribers.turn.Lock()
	defer v.subscribers.turn.Unlock()
	var agreed prepared
	old := v.current.Ptr()
	s := old.next(func(old T, c content) (T, error) {
		value, err := v.reader.read(c.entries)
		if err == nil {
			agreed, err = v.subscribers.prepare(old, value)
		}
		return value, err
	}, h)
	s.err = s.why(v.name)
	v.note(old, &s)
	v.current.Set(s)
	agreed.commit()
	if s.serial > 0 {
		v.speech.tell(s.stated())
	}
}

// note logs what a step changes, and counts what was refused.
func (v *Value[T]) note(old, s *state[T]) {
	switch {
	case s.serial == old.serial:
	case s.doubt == nil && s.rollout != "":
		v.log.Info("config of a rollout taken", zap.Int64("revision", s.revision), zap.String("rollout", s.rollout))
	case s.doubt == nil:
		v.log.Info("config taken", zap.Int64("revision", s.revision))
	default:
		v.log.Warn("config not taken", zap.Error(s.doubt))
		if errors.Is(s.doubt, ErrRefused) {
			countRejected(v.name)
		}
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
// last good value. With an Identity it says goodbye, for a second at the most. Close is idempotent.
func (v *Value[T]) Close() {
	v.once.Do(func() {
		inForce.Remove(v)
		v.stop(context.Background())
		v.work.Wait()
		s := v.current.Get()
		s.serial = v.ear.heard.Get().serial
		s.err = fmt.Errorf("config %q: %w", v.name, ErrClosed)
		v.current.Set(s)
		v.current.Close()
	})
}

// stop ends the following and the reports. Who runs is not waited for. When ctx ends, nor is etcd, but for a moment.
func (v *Value[T]) stop(ctx context.Context) {
	v.following.Close()
	if v.rollouts != nil {
		v.rollouts.Close()
	}
	v.cancel()
	if r := v.speech.reporter; r != nil {
		<-r.done
		r.leave(ctx)
	}
}

// why is what Err says of a state.
func (v *Value[T]) why(s *state[T]) error {
	if v.ear.heard.Ptr().serial != s.serial {
		return v.unchecked
	}
	return s.err
}

// snapshot is what users see of a state.
func (v *Value[T]) snapshot(s *state[T]) Snapshot[T] {
	at := v.syncedAt(s) // before it is looked whether there is something newer
	return Snapshot[T]{
		Value:      s.value,
		Revision:   s.revision,
		Generation: s.generation,
		Source:     s.source(v.why(s)),
		SyncedAt:   at,
		Rollout:    s.rollout,
	}
}

// syncedAt is when a state was last known to be what etcd has.
func (v *Value[T]) syncedAt(s *state[T]) time.Time {
	if at := v.following.Status().ProvenAt; !at.IsZero() {
		return at
	}
	return s.disk
}
