package config

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
	"github.com/etcdkit/etcdkit/internal/names"
)

var (
	errMapDefault  = errors.New("option Default refused: a map has the keys that etcd has, and may have none")
	errMapCache    = errors.New("option CacheDir refused: no copy of a map is kept")
	errMapIdentity = errors.New("option Identity refused: rollouts are of documents, not of maps")
)

// Map is all keys below a prefix, each a document as of a [Value]: a T that is kept up to date. It is what a system
// keeps of its own small state: tenants, shards, switches. Make one with [OpenMap]. It is safe for concurrent use.
//
// A key that is deleted is gone from the Map. That is where it differs from a Value, whose key is configuration that
// somebody may have deleted by mistake; here keys are state, and come and go.
type Map[T any] struct {
	prefix    string
	judge     mapJudge[T] // run's
	log       *zap.Logger
	unchecked error // what Err says while documents wait to be looked at

	inbox    *mapInbox                 // what etcd has, written by the follower
	current  *latest.Cell[mapState[T]] // what became of it, written by run
	follower *follow.Follower

	life   context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended
	once   sync.Once
}

// OpenMap reads every key below prefix and a slash, and follows them until Close: "mail" covers mail/a and mail/a/b, and not
// mail2/a. A nil opts means the defaults; Default, CacheDir and Identity are refused. One role is enough that may read what is
// below the prefix.
//
// It returns when the keys are followed and every document has been looked at, also if there are none. Documents that are
// refused do not fail it: the others are there, and Err names them.
//
// If etcd cannot be asked, because it is away or has lost its quorum, the Map starts from what a single member knows, which may
// be old: its Source is then [Stale], and [Live] as soon as etcd answers. That takes 3 s, half the time that ctx leaves, or
// less if no endpoint accepts connections. That a single member knows of no keys says nothing, and is an error.
//
// ctx bounds OpenMap only, not the life of the Map. If etcd does not answer, it gives up by itself after 10 s. An error names
// the rule that the prefix or an option breaks, is etcd's refusal, or names the endpoints and how they failed; at the end of
// ctx it is its cause, together with [ErrNotCurrent] if it was waiting for Validate.
func OpenMap[T any](ctx context.Context, client *clientv3.Client, prefix string, opts *Options[T]) (*Map[T], error) {
	if err := names.Path("prefix", prefix); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	m := newMap(prefix, opts)
	if err := opts.ofMap(); err != nil {
		return nil, m.failed(err)
	}
	m.life, m.cancel = context.WithCancel(context.Background())
	m.follower = follow.Attach(client, follow.Prefix(prefix+"/").For(follow.Config), m.inbox)
	go m.run()
	if err := m.ready(ctx); err != nil {
		// Not Close: a Validate that hangs must not hold up a caller whose time is over.
		m.follower.Close()
		m.cancel()
		return nil, err
	}
	inForce.Add(m)
	return m, nil
}

// ofMap refuses what a Map does not have.
func (o *Options[T]) ofMap() error {
	switch {
	case o == nil:
		return nil
	case o.Default != nil:
		return errMapDefault
	case o.CacheDir != "":
		return errMapCache
	case o.Identity.ID != "":
		return errMapIdentity
	}
	return nil
}

// newMap returns a Map that has heard nothing yet.
func newMap[T any](prefix string, opts *Options[T]) *Map[T] {
	if opts == nil {
		opts = &Options[T]{}
	}
	m := &Map[T]{
		prefix: prefix,
		log:    opts.Logger,
		inbox:  newMapInbox(prefix + "/"),
		done:   make(chan struct{}),
	}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	m.log = m.log.With(zap.String("prefix", prefix))
	m.judge = mapJudge[T]{
		prefix:  prefix,
		reader:  reader[T]{form: document(opts.Codec, opts.Keyring, ""), validate: opts.Validate},
		log:     m.log,
		refused: map[string]mapRefusal{},
	}
	m.unchecked = m.failed(fmt.Errorf("%w: %w", ErrNotCurrent, errUnchecked))
	s := mapState[T]{cut: errUnread}
	s.err = m.judge.why(&s)
	m.current = latest.New(s)
	return m
}

// ready returns when there is something to get, or with the error that OpenMap fails with.
func (m *Map[T]) ready(ctx context.Context) error {
	if err := m.follower.Open(ctx, m.inbox.live, m.older); err != nil {
		return m.failed(err)
	}
	number := m.inbox.written()
	for s := range m.current.Seq(ctx) {
		if s.number >= number {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", m.Err(), context.Cause(ctx))
}

// older has the Map start from what a single member knows, unless others have followed the prefix before. It reports whether
// there is something to start from.
func (m *Map[T]) older(ctx context.Context) bool {
	if m.inbox.known() {
		return true
	}
	kvs, revision, err := m.follower.Serializable(ctx)
	if err != nil || len(kvs) == 0 {
		return m.inbox.known()
	}
	m.inbox.begin(kvs, revision)
	m.log.Warn("etcd cannot be asked: documents are those of a single member", zap.Int("keys", len(kvs)), zap.Int64("revision", revision))
	return true
}

// run looks at what is written down, until life ends.
func (m *Map[T]) run() {
	defer close(m.done)
	for {
		select {
		case <-m.life.Done():
			return
		case <-m.inbox.wake:
		}
		p, whole := m.inbox.take()
		if !whole {
			continue // the rest is about to be told
		}
		old := m.current.Ptr()
		s, done := m.judge.next(m.life, old, p)
		if !done {
			return
		}
		m.report(old, &s)
		m.current.Set(s)
	}
}

// report logs what a step changes, but for what was refused.
func (m *Map[T]) report(old, s *mapState[T]) {
	if s.serial != old.serial {
		m.log.Debug("documents taken", zap.Int("keys", len(s.entries)), zap.Int64("revision", s.revision))
	}
	switch {
	case errors.Is(old.cut, errUnread):
	case old.cut == nil && s.cut != nil:
		m.log.Warn("documents not current", zap.Error(s.cut))
	case old.cut != nil && s.cut == nil:
		m.log.Info("documents current again")
	}
}

// Get returns the newest good document of a name, which is a key without the prefix and the slash after it, and whether
// there is one. It loads from memory and does not allocate; it takes time with the logarithm of the number of keys. The value
// is shared by all who get it: what its pointers, maps and slices lead to must not be written to. Get goes on answering
// after Close.
func (m *Map[T]) Get(name string) (T, bool) { return entryOf(m.current.Ptr().entries, name) }

// Snapshot returns all entries as they are known now, all of one revision. It does no I/O and does not allocate; what it
// returns is shared and must not be written to.
func (m *Map[T]) Snapshot() MapSnapshot[T] { return m.snapshot(m.current.Ptr()) }

// Changes yields the current snapshot, and then each one with an entry that was added, changed or removed; also if its
// document says the same as before, since its revision is another. What is refused, and what changes nothing but Err, is not
// yielded. Someone slow in taking them gets the newest and not those between. It ends when ctx does, or when the Map is
// closed. Any number of goroutines may range over Changes of their own.
func (m *Map[T]) Changes(ctx context.Context) iter.Seq[MapSnapshot[T]] {
	return func(yield func(MapSnapshot[T]) bool) {
		var last *mapState[T]
		for s := range m.current.Seq(ctx) {
			if last != nil && sameEntries(s.entries, last.entries) && s.generation == last.generation {
				continue
			}
			last = &s
			if !yield(m.snapshot(&s)) {
				return
			}
		}
	}
}

// Diffs yields the present entries as added, also if there are none, and then what has changed each time. Someone slow in
// taking them sees several changes as one, and of a key that came and went meanwhile nothing. It ends when ctx does, or when
// the Map is closed.
func (m *Map[T]) Diffs(ctx context.Context) iter.Seq[MapDiff[T]] {
	return func(yield func(MapDiff[T]) bool) {
		var before []*MapEntry[T]
		first := true
		for s := range m.current.Seq(ctx) {
			d := diffEntries(before, s.entries)
			if !first && d.empty() {
				continue
			}
			first, before = false, s.entries
			d.Revision, d.Generation = s.revision, s.generation
			if !yield(d) {
				return
			}
		}
	}
}

// WaitRevision waits until the Map has everything up to a revision of etcd, as that of a write of the caller's own, and
// Validate has had its word. ctx bounds it; its cause is returned, or [ErrClosed]. If nothing below the prefix changes it
// takes up to a second, until etcd next says how far it is.
func (m *Map[T]) WaitRevision(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(m.life, func() { cancel(ErrClosed) })
	defer stop()
	err := m.follower.Reached(ctx, revision)
	if err == nil {
		serial := m.inbox.serial.Load()
		for s := range m.current.Seq(ctx) {
			if s.serial >= serial {
				return nil
			}
		}
		err = context.Cause(ctx)
	}
	if m.life.Err() != nil {
		err = ErrClosed // also if the view has ended first
	}
	return m.failed(fmt.Errorf("wait for revision %d: %w", revision, err))
}

// Err returns nil while the Map is exactly what etcd has, and else why it may not be, a line each:
//
//   - [ErrNotCurrent]: etcd cannot be followed at present, and why; or newer documents are being validated.
//   - [ErrRefused]: the newest document of a key is bad, and how. The key keeps its last good one, and is left out if it has
//     none. Of many keys ten are named.
//   - [ErrClosed]: the Map was closed.
//
// It does no I/O: for a health check, call it as often as you like.
func (m *Map[T]) Err() error { return m.why(m.current.Ptr()) }

// Close stops the following. It waits for a Validate that runs, and ends every Changes and Diffs. Get and Snapshot go on
// returning the last good documents. Close is idempotent.
func (m *Map[T]) Close() {
	m.once.Do(func() {
		inForce.Remove(m)
		m.cancel() // before the view ends, so that who waits for it knows why
		m.follower.Close()
		<-m.done
		s := m.current.Get()
		s.serial = m.inbox.serial.Load()
		s.cut = ErrClosed
		s.err = m.failed(ErrClosed)
		m.current.Set(s)
		m.current.Close()
	})
}

// why is what Err says of a state.
func (m *Map[T]) why(s *mapState[T]) error {
	if m.inbox.serial.Load() != s.serial {
		return m.unchecked
	}
	return s.err
}

// snapshot is what users see of a state.
func (m *Map[T]) snapshot(s *mapState[T]) MapSnapshot[T] {
	at, source := m.follower.Status().ProvenAt, Live // in this order: what is newer than s shows in its serial
	if s.cut != nil || m.inbox.serial.Load() != s.serial {
		source = Stale
	}
	return MapSnapshot[T]{
		Entries:    s.entries,
		Revision:   s.revision,
		Generation: s.generation,
		SyncedAt:   at,
		Source:     source,
	}
}

func (m *Map[T]) failed(err error) error { return fmt.Errorf("config %q: %w", m.prefix, err) }
