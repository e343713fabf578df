package session

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/boottime"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/latest"
)

var (
	// ErrLost is why a session ended that its owner did not close: it says whether the lease expired, was
	// revoked or could not be renewed in time. errors.Is with [fence.ErrLost] holds for it too.
	ErrLost = fmt.Errorf("session: lease can no longer be relied on: %w", fence.ErrLost)

	// ErrClosed is why a session ended that its owner closed. What was owned through it is lost all the same:
	// errors.Is with [fence.ErrLost] holds for it too.
	ErrClosed = fmt.Errorf("session: closed: %w", fence.ErrLost)
)

// Options of a session. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// TTL is how long etcd keeps the lease after the last renewal: how soon others can take over from a
	// process that died. Rounded up to whole seconds. Default 10 s, at least 2 s.
	TTL time.Duration

	// Margin is how long before the lease can expire at the earliest trust in it ends. Default TTL/10; it
	// must be under TTL/2.
	Margin time.Duration

	// Logger is told of renewals that fail and of the end of the session. Default none.
	Logger *zap.Logger
}

// Validate returns an error that names the rule that an option breaks, as Open would.
func (o *Options) Validate() error {
	if o == nil {
		return nil
	}
	_, err := newWindow(o.TTL, o.Margin)
	return err
}

// Session is a lease that is renewed until it is closed or lost. It is safe for concurrent use.
type Session struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	window window
	log    *zap.Logger

	ctx context.Context // what Context returns; see trusted
	end context.CancelCauseFunc

	until atomic.Int64  // boottime.Instant at which trust ends; only grows
	saw   latest.Max    // the newest revision known of the history that the lease belongs to
	probe chan struct{} // asks the renewing goroutine to renew now

	work   sync.WaitGroup // the renewing goroutine and what was started with Go
	closed chan struct{}  // closed when Close is through
	once   sync.Once
	result error // of Close; read after closed

	mu      sync.Mutex // guards what is below
	ended   bool       // no goroutine may be added any more
	numbers int        // how many numbers Key has given out
	spare   []int      // those of them that are free again
}

// Open grants a lease and starts to renew it. ctx bounds the grant only, not the life of the session; the
// grant gives up by itself after 10 s, or sooner if no endpoint accepts connections. Close the session to
// give its lease back.
//
// An error names the rule that an option breaks, or the endpoints and how they failed.
func Open(ctx context.Context, client *clientv3.Client, opts *Options) (*Session, error) {
	if opts == nil {
		opts = &Options{}
	}
	w, err := newWindow(opts.TTL, opts.Margin)
	if err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	// A grant whose reply is lost leaves a lease without keys behind, which nobody renews: it is gone after
	// a TTL. So sending it again is safe.
	var sent boottime.Instant
	grant, err := call.Do(ctx, client, "grant a lease", func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		sent = boottime.Now()
		return client.Lease.Grant(ctx, w.seconds())
	})
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	s := &Session{
		client: client,
		lease:  grant.ID,
		window: w,
		log:    log.With(zap.String("lease", strconv.FormatInt(int64(grant.ID), 16))),
		probe:  make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
	s.until.Store(int64(w.trustedUntil(sent, grant.TTL)))
	if s.remaining() <= 0 {
		return nil, fmt.Errorf("session: the grant took %v, which leaves nothing of a TTL of %v", boottime.Now().Sub(sent), w.ttl)
	}
	// The life of a session is its own: it ends with Close, not with the context that opened it.
	inner, end := context.WithCancelCause(context.Background())
	s.ctx, s.end = &trusted{Context: inner, session: s}, end
	r := newRenewal(s, sent, grant)
	s.begun()
	s.work.Go(r.run)
	return s, nil
}

// Context ends when trust in the lease ends, before anybody else can own what hangs on it. Its cause
// ([context.Cause]) wraps [ErrLost], or is [ErrClosed]. Its Err compares the clock, so that it is true also
// right after the machine or the process was suspended.
func (s *Session) Context() context.Context { return s.ctx }

// TrustedUntil is when trust ends unless another renewal is acknowledged before.
func (s *Session) TrustedUntil() time.Time {
	return time.Now().Add(s.remaining())
}

// Lease is the lease, for keys of the caller's own: put them with clientv3.WithLease.
func (s *Session) Lease() clientv3.LeaseID { return s.lease }

// Client is the client that the session was opened with.
func (s *Session) Client() *clientv3.Client { return s.client }

// Live returns the session itself, or the cause of its end. With it a *Session is a [Source].
func (s *Session) Live(context.Context) (*Session, error) {
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	return s, nil
}

// Key returns a key under prefix that is nobody else's: the lease in hexadecimal, as etcd's own recipes put it, and a
// number. For places in line and other keys of one acquisition each.
//
// Give it back with free once etcd has said that the key is gone and no request that could put it is under way;
// the number is then used again. A key of its own for every acquisition would be simpler, but etcd's index keeps
// deleted keys until a compaction, and reading a prefix would take the longer the more of them there were.
func (s *Session) Key(prefix string) (key string, free func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	if last := len(s.spare) - 1; last >= 0 {
		n, s.spare = s.spare[last], s.spare[:last]
	} else {
		s.numbers++
		n = s.numbers
	}
	return fmt.Sprintf("%s%x-%d", prefix, int64(s.lease), n), sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.spare = append(s.spare, n)
	})
}

// Go runs fn in a goroutine that Close waits for. fn's context ends with the session. Go reports false, and
// runs nothing, once the session has ended. It is for clean-up that must not outlive the lease: a key that
// could not be deleted before the session ends is deleted with it.
func (s *Session) Go(fn func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.ctx.Err() != nil {
		return false
	}
	s.work.Go(func() { fn(s.ctx) })
	return true
}

// Probe has the lease renewed now instead of at the next turn, without waiting for it. Whoever sees a key of
// the session disappear calls it, so that a revoked lease is known at once.
func (s *Session) Probe() {
	select {
	case s.probe <- struct{}{}:
	default: // one is asked for already
	}
}

// Saw tells the session of a revision that etcd has answered with. If a later renewal is answered from before it, etcd's
// data was restored from a backup and the session ends, as it does for what its own renewals have seen. Whoever
// builds on a revision, as on a fencing token, calls it. It does no I/O.
func (s *Session) Saw(revision int64) { s.saw.Raise(revision) }

// Close ends the session and revokes its lease, which deletes its keys; it waits for the session's
// goroutines. The revocation is tried even if ctx is done already, then for 150 ms at the most. Later calls
// wait for the first, and return its result. An error means that the lease was perhaps not revoked: it expires by itself,
// within a TTL.
func (s *Session) Close(ctx context.Context) error {
	s.once.Do(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		s.end(ErrClosed)
		go func() {
			defer close(s.closed)
			s.work.Wait()
			s.result = s.revoke(ctx)
		}()
	})
	<-s.closed
	return s.result
}

// revoke gives the lease back, within ctx or else briefly, and never for longer than the lease can live.
func (s *Session) revoke(ctx context.Context) error {
	ctx, cancel := call.Release(ctx, s.window.ttl)
	defer cancel()
	_, err := call.Do(ctx, s.client, "revoke a lease", func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return s.client.Lease.Revoke(ctx, s.lease)
	})
	if err != nil && !call.LeaseGone(err) {
		return fmt.Errorf("session: lease %x expires by itself: %w", int64(s.lease), err)
	}
	return nil
}
