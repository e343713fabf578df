package registry

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// calmAfter is how long an instance has to be announced undisturbed for the next trouble to be a first one.
	calmAfter = 10 * time.Second

	// maxRounds bounds how often one attempt goes after a key that others change under its hands.
	maxRounds = 8

	// maxLeases bounds the leases that are remembered as the registration's own. A restored backup may bring
	// back a key of some time ago, hardly of more sessions ago than that.
	maxLeases = 32
)

var (
	errContended = errors.New("others keep writing to the key")
	errDisturbed = errors.New("the key was deleted or overwritten by somebody else")
)

// announcer is the goroutine that keeps a registration's instance in etcd, and all it remembers.
//
//	             ┌──────────── update ◄──────────┐
//	             ▼                               │
//	waiting ─► writing ─────────────────────► announced
//	 ▲ ▲         │ │                             │
//	 │ └ failed ─┘ └─ another has it ─► replaced │
//	 │                                    │      │
//	 └─ lease lost, key gone or changed ──┴──────┘
type announcer struct {
	client      *clientv3.Client
	r           *Registration
	sessionOpts *session.Options
	log         *zap.Logger
	own         *ownKey

	session    *session.Session
	leases     []int64 // of the sessions that were opened, the current one last
	value      string  // the last one written
	revision   int64   // of that write
	known      int64   // what was sighted at an earlier revision is old news
	generation int64

	waits *retry.Backoff
	since time.Time // when the instance was announced; zero while it is not
}

// state is a state of the announcer: it returns the next, or nil at the end.
type state func() state

func newAnnouncer(client *clientv3.Client, r *Registration, opts *Options) *announcer {
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &announcer{
		client:      client,
		r:           r,
		sessionOpts: opts.Session,
		log:         log.With(zap.String("key", r.key)),
		own:         &ownKey{moved: make(chan struct{}, 1)},
		waits:       opts.waits().Backoff(),
	}
}

// begin announces the instance for the first time. Whoever has its key gives way.
func (a *announcer) begin(ctx context.Context) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	if err := a.write(ctx, a.r.wishes.newest().value, true); err != nil {
		return err
	}
	a.r.status.Store(&status{session: a.session, revision: a.revision})
	return nil
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
		case <-a.session.Context().Done():
			a.report(context.Cause(a.session.Context()))
			return a.waiting
		case <-a.own.moved:
			switch a.look() {
			case disturbed:
				a.report(errDisturbed)
				return a.waiting
			case taken:
				a.report(ErrReplaced)
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
// stay announced.
func (a *announcer) waiting() state {
	if !a.since.IsZero() && time.Since(a.since) >= calmAfter {
		a.waits.Reset()
	}
	a.since = time.Time{}
	if a.waits.Wait(a.r.life) != nil {
		return nil
	}
	return a.writing
}

// writing is the state of one attempt to bring etcd to what is wanted.
func (a *announcer) writing() state {
	want := a.r.wishes.newest()
	err := a.attempt(want.value)
	switch {
	case err == nil:
		a.report(nil) // first, for whoever asks when an Update has returned
		a.r.wishes.settle(want.number, nil)
		a.r.sessions.keepOnly(a.r.life, a.session)
		return a.announced
	case a.r.life.Err() != nil:
		return nil
	case errors.Is(err, ErrReplaced):
		a.report(err)
		return a.replaced
	}
	a.report(err)
	if refused(err) {
		a.r.wishes.settle(want.number, err)
	}
	return a.waiting
}

// attempt writes the value, through another session if the current one is lost. Its own context may not know yet that
// it is.
func (a *announcer) attempt(value string) error {
	defer func() { a.r.follower.Heard(a.known) }()
	if a.session.Context().Err() == nil {
		err := a.write(a.session.Context(), value, false) // which Close ends
		if !call.LeaseGone(err) {
			return err
		}
	}
	if err := a.open(a.r.life); err != nil {
		return err
	}
	return a.write(a.session.Context(), value, false)
}

// replaced is the state in which another instance has the key. It is not fought for; once it is free it is put back.
func (a *announcer) replaced() state {
	a.r.wishes.settle(a.r.wishes.newest().number, ErrReplaced)
	select {
	case <-a.r.life.Done():
		return nil
	case <-a.r.wishes.made:
		return a.replaced
	case <-a.own.moved:
		if f := a.look(); f == disturbed || f == unchanged {
			return a.waiting
		}
		return a.replaced
	}
}

// look judges the key by the newest sighting, unless that is old news: the follower is behind the announcer's own
// transactions at times. Of a history that was replaced nothing is known.
func (a *announcer) look() fate {
	seen := a.own.last()
	if seen.generation > a.generation {
		a.generation, a.known = seen.generation, 0
	}
	if seen.revision < a.known {
		return unknown
	}
	return fateOf(seen.entry, a.value, a.leases)
}

// open opens the next session.
func (a *announcer) open(ctx context.Context) error {
	s, err := session.Open(ctx, a.client, a.sessionOpts)
	if err != nil {
		return err
	}
	if !a.r.sessions.add(s) {
		return errors.Join(ErrClosed, s.Close(a.r.life))
	}
	a.session = s
	a.leases = append(a.leases, int64(s.Lease()))
	if len(a.leases) > maxLeases {
		a.leases = a.leases[1:]
	}
	return nil
}

// write makes value that of the key, under the current lease, whoever was there before; but unless takeOver is set it
// returns ErrReplaced if another live instance is.
//
// It writes only over what it has seen, so that its request may be repeated, and arrive late, without harm: what
// an attempt whose reply was lost has written is found by the next.
func (a *announcer) write(ctx context.Context, value string, takeOver bool) error {
	put := clientv3.OpPut(a.r.key, value, clientv3.WithLease(a.session.Lease()))
	expected := a.revision // the key's, 0 if it is not there
	for range maxRounds {
		resp, err := call.Do(ctx, a.client, "write the instance", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return a.client.KV.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(a.r.key), "=", expected)).
				Then(put).
				Else(clientv3.OpGet(a.r.key)).
				Commit()
		})
		if err != nil {
			return err
		}
		a.known = resp.Header.GetRevision()
		a.session.Saw(a.known)
		if resp.Succeeded {
			a.value, a.revision = value, a.known
			return nil
		}
		kvs := resp.Responses[0].GetResponseRange().GetKvs()
		if len(kvs) == 0 {
			expected = 0
			continue
		}
		switch fateOf(kvs[0], value, a.leases) {
		case unchanged:
			a.value, a.revision = value, kvs[0].ModRevision
			return nil
		case taken:
			if !takeOver {
				return ErrReplaced
			}
			a.log.Warn("taking over from another live instance, or from one before a restart")
		case unknown, disturbed:
		}
		expected = kvs[0].ModRevision
	}
	return errContended
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
	a.r.status.Store(&status{trouble: trouble, session: a.session, revision: a.revision})
}

// refused reports whether a failure is an answer: another attempt is made all the same, but nobody who waits for
// the outcome should wait for that.
func refused(err error) bool {
	return !retry.Idempotent(err) && !errors.Is(err, call.ErrUnreachable) && !call.LeaseGone(err) && !errors.Is(err, errContended)
}
