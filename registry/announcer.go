package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// calmAfter is how long an instance has to be announced undisturbed for the next trouble to be a first one.
	calmAfter = 10 * time.Second

	// maxRounds bounds how often one attempt goes after a key that others change under its hands.
	maxRounds = 8

	// maxLeases bounds the leases that are remembered as the registration's own. A restored backup may bring
	// back a key of some time ago, hardly of more sessions ago than that.
	maxLeases = 32

	// slowAfter is how long an attempt may take up to a new session for etcd to have been there all the time.
	slowAfter = time.Second
)

var (
	errContended = errors.New("others keep writing to the key")
	errDisturbed = errors.New("the key was deleted or overwritten by somebody else")
	errPutOff    = errors.New("etcd has come back: the writing is put off, as others write too")
)

// announcer is the goroutine that keeps a registration's instance in etcd, and all it remembers.
//
//	             ┌──────────── update ◄──────────┐
//	             ▼                               │
//	waiting ─► writing ─────────────────────► announced
//	 ▲ ▲       ▲ │ │ │                           │
//	 │ │       │ │ │ └─ another has it ─► replaced
//	 │ │       │ │ └─ etcd was away ─┐           │ │
//	 │ │       └─┼──── spreading ◄───┘           │ │
//	 │ └ failed ─┘                               │ │
//	 └─ lease lost, key gone or changed ─────────┴─┘
type announcer struct {
	client *clientv3.Client
	r      *Registration
	log    *zap.Logger
	own    *ownKey
	ttl    time.Duration

	sessions   *sessions
	place      *place  // on the session that is written through
	leases     []int64 // of the sessions that were joined, the current one last
	value      string  // the last one written
	at         int64   // the revision of the key as it was written; 0 if it has none
	gone       bool    // it was found missing, and is yet to be put back
	revision   int64   // of the last write, which may have deleted it
	known      int64   // what was sighted at an earlier revision is old news
	generation int64
	seen       sighting // that was judged last

	waits  *retry.Backoff
	since  time.Time       // when the instance was announced; zero while it is not
	cutOff bool            // since then etcd could not be reached
	opened <-chan struct{} // closed when a session was opened since the last attempt began
}

// state is a state of the announcer: it returns the next, or nil at the end.
type state func() state

func newAnnouncer(client *clientv3.Client, r *Registration, opts *Options) *announcer {
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &announcer{
		client:   client,
		r:        r,
		log:      log.With(zap.String("key", r.key)),
		own:      r.own,
		ttl:      opts.ttl(),
		sessions: &sessions{lessor: r.lessor, client: client, key: r.key},
		waits:    opts.waits().Backoff(),
	}
}

// begin announces the instance for the first time. Whoever has its key gives way.
func (a *announcer) begin(ctx context.Context) error {
	for range maxRounds {
		if err := a.join(ctx); err != nil {
			return err
		}
		err := a.write(ctx, a.r.wishes.newest().value, true)
		if err == nil {
			a.own.heard(a.known)
			a.sessions.keepOnly(a.r.life, a.place)
			a.r.status.Store(&status{session: a.place.Session, revision: a.revision})
			return nil
		}
		if !call.LeaseGone(err) {
			return err
		}
		a.forsake() // the session is shared, and was not known to be lost
	}
	return errContended
}

// run goes from state to state until the registration is closed.
func (a *announcer) run() {
	defer close(a.r.done)
	defer func() { a.r.wishes.close(ErrClosed) }()
	for next := state(a.announced); next != nil && a.r.life.Err() == nil; {
		next = next()
	}
}

// announced is the state in which etcd has what is wanted.
func (a *announcer) announced() state {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	for {
		select {
		case <-a.r.life.Done():
			return nil
		case <-a.place.Context().Done():
			a.report(context.Cause(a.place.Context()))
			return a.waiting
		case <-a.own.moved:
			switch a.look() {
			case disturbed:
				if a.heed(a.seen.entry) {
					return a.writing
				}
				a.report(errDisturbed)
				return a.waiting
			case taken:
				a.report(replacedBy(a.seen.entry))
				return a.replaced
			case unknown, unchanged:
			}
		case <-a.r.wishes.made:
			want := a.r.wishes.newest()
			if want.value != a.value {
				return a.writing
			}
			a.r.wishes.settle(want.number, nil)
		}
	}
}

// waiting is the state before another attempt. The wait is short at first, and grows as long as the instance does not
// stay announced. After an outage it ends as soon as any registration of the client has found etcd back: what spreads
// their writes is counted from there.
func (a *announcer) waiting() state {
	if !a.since.IsZero() && time.Since(a.since) >= calmAfter {
		a.waits.Reset()
	}
	a.since = time.Time{}
	var back <-chan struct{}
	if a.cutOff {
		back = a.opened
	}
	return a.pause(a.waits.Next(), back)
}

// spreading is the state in which etcd has come back, for everybody, and a session is there. Instances that all wrote at
// once would hit an etcd that has just started. The key that each of them had is mostly still there: a lease
// that lived when etcd went has a full TTL from its return.
//
// The wait is uniform, which has the lowest peak. It comes after that by which each has found etcd back.
func (a *announcer) spreading() state {
	return a.pause(rand.N(spread(a.ttl))+1, a.place.Context().Done())
}

// spread is the time over which the instances spread: half a TTL but for a second, as the next session must be open and the key on
// its lease before the old one has run out, and at least a third. The longer it is beside the time in which all find etcd
// back, the flatter is the sum of both.
func spread(ttl time.Duration) time.Duration { return max(ttl/3, ttl/2-time.Second) }

// pause returns to writing after a time, or earlier when an event says so.
func (a *announcer) pause(d time.Duration, earlier <-chan struct{}) state {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-a.r.life.Done():
		return nil
	case <-timer.C:
	case <-earlier:
	}
	return a.writing
}

// writing is the state of one attempt to bring etcd to what is wanted.
func (a *announcer) writing() state {
	want := a.r.wishes.newest()
	err := a.attempt(want.value)
	switch {
	case err == nil:
		a.cutOff = false
		a.own.resume()
		a.report(nil) // first, for whoever asks when an Update has returned
		a.r.wishes.settle(want.number, nil)
		a.sessions.keepOnly(a.r.life, a.place)
		return a.announced
	case a.r.life.Err() != nil:
		return nil
	case errors.Is(err, errPutOff):
		return a.spreading
	case errors.Is(err, ErrReplaced):
		a.own.resume()
		a.report(err)
		return a.replaced
	case call.Away(err):
		a.cutOff = true
		a.own.hold()
	}
	a.report(err)
	if refused(err) {
		a.own.resume()
		a.r.wishes.settle(want.number, err)
	}
	return a.waiting
}

// attempt writes the value, through another session if the current one is lost. Its own context may not know yet that
// it is.
func (a *announcer) attempt(value string) error {
	defer func() { a.own.heard(a.known) }()
	a.opened = a.r.lessor.opened() // before anything is tried, so that none is missed
	start := time.Now()
	if a.place.Context().Err() == nil {
		err := a.rewrite(value)
		switch {
		case call.LeaseGone(err):
			a.forsake()
		case err != nil && a.place.Context().Err() != nil:
			// Another registration has found out that the lease is gone, and that ended the call. It says nothing about etcd
			// being away.
		default:
			return err
		}
	}
	if err := a.join(a.r.life); err != nil {
		return err
	}
	if a.cutOff || time.Since(start) > slowAfter {
		return errPutOff
	}
	return a.rewrite(value)
}

// replaced is the state in which another instance has the key. It is not fought for; once it is free it is put back.
func (a *announcer) replaced() state {
	a.r.wishes.settle(a.r.wishes.newest().number, a.r.status.Load().trouble)
	select {
	case <-a.r.life.Done():
		return nil
	case <-a.r.wishes.made:
		return a.replaced
	case <-a.own.moved:
		switch a.look() {
		case disturbed, unchanged:
			return a.waiting
		case taken:
			a.report(replacedBy(a.seen.entry))
		case unknown:
		}
		return a.replaced
	}
}

// look judges the key by the newest sighting, unless that is old news: the follower is behind the announcer's own
// transactions at times. Of a history that was replaced nothing is known.
func (a *announcer) look() fate {
	a.seen = a.own.last()
	if a.seen.generation > a.generation {
		a.generation, a.known = a.seen.generation, 0
	}
	if a.seen.revision < a.known {
		return unknown
	}
	return fateOf(a.seen.entry, a.value, a.leases)
}

// report publishes whether the instance is announced, and logs when that changes.
func (a *announcer) report(trouble error) {
	before := a.r.status.Load()
	replaced := errors.Is(trouble, ErrReplaced) && !errors.Is(before.trouble, ErrReplaced)
	switch {
	case trouble != nil && before.trouble == nil, replaced:
		a.log.Warn("instance is not announced", zap.Error(trouble))
	case trouble == nil && before.trouble != nil:
		a.log.Info("instance is announced again", zap.Int64("revision", a.revision))
	}
	a.r.status.Store(&status{trouble: trouble, session: a.place.Session, revision: a.revision})
}

// refused reports whether a failure is an answer: another attempt is made all the same, but nobody who waits for
// the outcome should wait for that.
func refused(err error) bool {
	return !retry.Idempotent(err) && !errors.Is(err, call.ErrUnreachable) && !call.LeaseGone(err) && !errors.Is(err, errContended)
}
