package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

var (
	// ErrReplaced is why a registration is not announced while another live one has its ID: the one that came
	// last keeps it. The error that wraps it names the address of that one.
	ErrReplaced = errors.New("registry: another live instance has registered the same ID")

	// ErrClosed is what a registration or a view returns once it has been closed.
	ErrClosed = errors.New("registry: closed")

	errImmutable = errors.New("service and ID cannot be updated: register the other instance beside this one")
)

const (
	// maxWait bounds the waits between attempts to announce an instance again. A server that comes back with its leases gives
	// them a full TTL, and within that the instance must be found again.
	maxWait = 3 * time.Second

	// waitOver is the share of the TTL, as its divisor, up to which the waits are by which each finds etcd back.
	waitOver = 6

	// defaultTTL is that of session.Options.
	defaultTTL = 10 * time.Second
)

// Options of Register. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// Prefix is what the keys of all services start with, without a slash at its end. Default "services".
	Prefix string

	// Session is how the sessions are opened that the instance hangs on. Its TTL is for how long an instance that
	// died is still found. Registrations through one client share a session, up to 1,000 of them, if these options are
	// equal.
	Session *session.Options

	// Retry gives the waits between attempts to announce the instance again: Initial, Max, Multiplier and Jitter,
	// with a default Max of 3 s, or a sixth of the TTL if that is less. Its bounds on attempts and time do not
	// apply, as a registration does not give up. When etcd was away, and has come back, a random wait comes on top, of up to
	// half the TTL less a second, or a third of it if that is more, so that not all instances are written at once.
	Retry retry.Policy

	// HideUnready keeps an instance out of etcd while it is not Ready, for readers that do not look at states, such as
	// etcd's own naming/resolver: its key is not written, or deleted.
	HideUnready bool

	// Checks decide whether the instance takes work: one that should be Ready is announced as Starting until all of
	// them have passed, and whenever one does not. Default none: it is what it says it is.
	Checks []Check

	// Logger is told when the instance is no longer announced, and when it is again. Default none.
	Logger *zap.Logger
}

// waits returns the retry policy with the default Max of a registration.
func (o *Options) waits() retry.Policy {
	p := o.Retry
	if p.Max == 0 {
		p.Max = max(min(maxWait, o.ttl()/waitOver), p.Initial)
	}
	return p
}

// ttl is that of the sessions.
func (o *Options) ttl() time.Duration {
	if o.Session == nil || o.Session.TTL <= 0 {
		return defaultTTL
	}
	return o.Session.TTL
}

// Registration is one instance that is announced until it is closed. It is safe for concurrent use.
type Registration struct {
	service string
	key     string
	life    context.Context // ends with Close
	end     context.CancelFunc
	status  atomic.Pointer[status]

	editing   chan struct{} // holds one token: whoever has it may make the next wish
	wishes    *wishes
	lessor    *lessor
	own       *ownKey
	announcer *announcer    // runs until done
	done      chan struct{} // closed when the announcer has ended
	checks    sync.WaitGroup

	once   sync.Once
	result error // of Close
}

// status is what a registration says of itself.
type status struct {
	trouble  error // why etcd does not have the instance as it is wanted; nil if it does
	session  *session.Session
	revision int64
}

// Register announces an instance, and returns when etcd has it. From then on it stays announced until Close: when its
// lease is lost, its key deleted or overwritten, or etcd away for however long, it is put back on the same key.
// ctx bounds the announcing only; each of its calls gives up by itself after 10 s, or sooner if no endpoint accepts
// connections.
//
// An ID that somebody else has is taken over: a process that was restarted need not wait for the lease of the one
// before it. Should that one be alive still, it learns so ([ErrReplaced]).
//
// With [Options.HideUnready], an instance that is not Ready has no key when Register returns, but etcd has been
// reached.
//
// An error names the rule that the instance or an option breaks, or the endpoints and how they failed. Then nothing stays
// announced.
func Register(ctx context.Context, client *clientv3.Client, instance Instance, opts *Options) (*Registration, error) {
	if opts == nil {
		opts = &Options{}
	}
	prefix, err := servicePrefix(opts.Prefix, instance.Service)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	first, err := newWish(instance)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	checks := slices.Clone(opts.Checks)
	if err := validateChecks(checks); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err := opts.waits().Validate(); err != nil {
		return nil, err
	}
	if err := opts.Session.Validate(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registration{
		service: instance.Service,
		key:     prefix + instance.ID,
		editing: make(chan struct{}, 1),
		wishes:  newWishes(first, opts.HideUnready),
		lessor:  acquireLessor(client, opts.Session),
		own:     newOwnKey(),
		done:    make(chan struct{}),
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.editing <- struct{}{}
	if len(checks) > 0 {
		r.wishes.judge(fmt.Errorf("%w: %w", ErrUnhealthy, errUnprobed))
	}
	r.announcer = newAnnouncer(client, r, opts)
	if err := r.announcer.begin(ctx); err != nil {
		r.end()
		// What has been put, if anything, goes now, or is kept away if etcd has gone away.
		_ = r.announcer.leave(r.life)
		r.lessor.release()
		return nil, r.failed(err)
	}
	registrations.Add(r)
	go r.own.run(r.life, client, r.key, r.lessor.attaching)
	go r.announcer.run()
	if len(checks) > 0 {
		r.checks.Go(func() { runChecks(r.life, checks, r.setHealthy) })
	}
	return r, nil
}

// Update changes the instance, its State too: edit is given a copy of it, and what it leaves there is announced. It returns when etcd
// has that, or something newer. ctx bounds the wait. Updates are made one after the other, and each builds on the
// one before; edit must not call Update itself.
//
// If edit leaves what breaks a rule, or another Service or ID, the error says so and nothing has changed. After ctx's
// cause, etcd's refusal or [ErrReplaced] the edit stays wanted, and is announced as soon as that can be. After Close it
// is [ErrClosed].
func (r *Registration) Update(ctx context.Context, edit func(*Instance)) error {
	granted, err := r.wish(ctx, edit)
	if err != nil {
		return r.failed(err)
	}
	select {
	case err := <-granted:
		if err != nil {
			return r.failed(err)
		}
		return nil
	case <-ctx.Done():
		err := fmt.Errorf("update is not in etcd so far: %w", context.Cause(ctx))
		if why := r.trouble(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		return r.failed(err)
	}
}

// wish makes the next wish, and returns where its fate will be told.
func (r *Registration) wish(ctx context.Context, edit func(*Instance)) (<-chan error, error) {
	select {
	case <-r.editing:
		defer func() { r.editing <- struct{}{} }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	before := r.wishes.newest().instance
	after := before.clone()
	edit(&after)
	if after.Service != before.Service || after.ID != before.ID {
		return nil, errImmutable
	}
	next, err := newWish(after)
	if err != nil {
		return nil, err
	}
	return r.wishes.add(next), nil
}

// Err is nil while the instance is announced as it was last updated, as far as this process can know, and else says
// why it is not: the loss of the session (fence.ErrLost), etcd's refusal, [ErrReplaced], [ErrUnhealthy], [ErrDrained], or [ErrClosed].
func (r *Registration) Err() error {
	if err := r.trouble(); err != nil {
		return r.failed(err)
	}
	if why := r.wishes.illness(); why != nil {
		return r.failed(why)
	}
	return nil
}

// setHealthy takes in the verdict of the instance's health checks, and why it is bad. An instance that should be Ready is
// announced as Starting while it is. It does not wait for that.
func (r *Registration) setHealthy(ok bool, why error) {
	switch {
	case ok:
		why = nil
	case why == nil:
		why = ErrUnhealthy
	case !errors.Is(why, ErrUnhealthy):
		why = fmt.Errorf("%w: %w", ErrUnhealthy, why)
	}
	r.wishes.judge(why)
}

// trouble is why etcd does not have the instance as it is wanted.
func (r *Registration) trouble() error {
	if r.life.Err() != nil {
		return ErrClosed
	}
	s := r.status.Load()
	if s.trouble == nil && s.session.Context().Err() != nil { // which looks at the clock
		return context.Cause(s.session.Context())
	}
	return s.trouble
}

// Revision is that of etcd at which the instance was last written, or deleted to hide it: a view at this revision or a
// later one has it so. It is 0 if it was hidden from the beginning.
func (r *Registration) Revision() int64 { return r.status.Load().revision }

// Close ends the registration: others see the instance go. First they are told that it is Draining, if it is not so
// already, in one short attempt, so that they can tell it from one that has died; if that fails, as in a full
// database, it goes all the same. Close deletes what this registration wrote, and nothing that has taken its place.
//
// It works with a ctx that is done, then for a moment (200 ms). Later calls wait for the first, and return its result.
// An error means that the instance may still be found, for a TTL at the most, or until etcd can be reached again by others
// that share its session.
func (r *Registration) Close(ctx context.Context) error {
	r.once.Do(func() {
		registrations.Remove(r)
		r.end()
		<-r.done
		if err := r.announcer.leave(ctx); err != nil {
			r.result = r.failed(err)
		}
		<-r.own.ended
		r.lessor.release()
		r.checks.Wait()
	})
	return r.result
}

func (r *Registration) failed(err error) error { return fmt.Errorf("registry %q: %w", r.key, err) }
