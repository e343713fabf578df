package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// defaultDrainTimeout is how long lead may take to return.
const defaultDrainTimeout = 30 * time.Second

// ErrDrainTimeout is what Run returns, joined with lead's error, when lead did not return in time after ctx had ended, and the
// term was resigned under it.
var ErrDrainTimeout = errors.New("election: lead did not return in time and its term was resigned: another may have led beside it")

// Options of Run. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// Session is how the sessions are opened that Run leads with.
	Session *session.Options

	// Sessions is where Run takes its sessions from, instead of opening and closing some of its own: with a
	// [session.Keeper], which the caller closes, any number of Runs share one lease, and lose their terms together. It
	// excludes Session.
	Sessions session.Source

	// Retry gives the waits between attempts to stand again: Initial, Max, Multiplier and Jitter. Its bounds on
	// attempts and time do not apply, as Run does not give up.
	Retry retry.Policy

	// DrainTimeout is how long after the end of ctx the term is kept for a lead that has not returned. Then it is resigned, so
	// that others can lead. Default 30 s; negative means for as long as it takes.
	DrainTimeout time.Duration

	// Health, if set, knows of each lead that runs, for liveness probes.
	Health *Health

	// Logger is told when a term begins, ends and is lost. Default none.
	Logger *zap.Logger
}

// errTwoSources refuses options that contradict each other.
var errTwoSources = errors.New("election: Options.Session and Options.Sessions are both set: sessions come from one of them")

// Validate returns an error that names the rule that an option breaks, as Run would.
func (o *Options) Validate() error {
	switch {
	case o == nil:
		return nil
	case o.Session != nil && o.Sessions != nil:
		return errTwoSources
	}
	if err := o.Session.Validate(); err != nil {
		return err
	}
	return o.Retry.Validate()
}

// Run stands for an election and calls lead while it leads. lead's context is ctx, ended also when the term is
// lost; then Run waits for lead to return, stands again through a new session, and calls lead with a new term. It never
// calls lead a second time before the first has returned.
//
// Run returns when lead returns under a term that is not lost, with lead's error, joined with what went wrong
// about resigning; when ctx ends while it waits, with ctx's cause; or with an error of the arguments, [ErrReentrant] among them.
// What etcd's absence does to it is waiting. A lead that has called [Term.Resign] or [Term.TransferTo] should return.
//
// The term is kept until lead has returned, and then given up: also after ctx has ended, when lead winds down, but not for
// longer than Options.DrainTimeout. Then it is resigned although lead runs, and when lead has returned Run returns
// [ErrDrainTimeout], too.
func Run(ctx context.Context, client *clientv3.Client, name, value string, opts *Options, lead func(ctx context.Context, t *Term) error) error {
	if err := names.Opaque("election", name); err != nil {
		return fmt.Errorf("election: %w", err)
	}
	if err := opts.Validate(); err != nil {
		return err
	}
	stands(name) // also between terms, and while there is no session to stand with
	defer withdraws(name)
	r := newRunner(client, name, value, opts, lead)
	waits := r.opts.Retry.Backoff()
	for {
		led, err := r.once(ctx, waits)
		switch {
		case led && !errors.Is(err, errTermLost):
			return err
		case !led && ctx.Err() != nil:
			return fmt.Errorf("election %q: %w", name, context.Cause(ctx))
		case !led && (errors.Is(err, errNoSession) || errors.Is(err, ErrReentrant)):
			return err
		case !led:
			r.log.Warn("election not entered", zap.Error(err))
		}
		if waits.Wait(ctx) != nil {
			return fmt.Errorf("election %q: %w", name, context.Cause(ctx))
		}
	}
}

// settledAfter is how long a term lasts for the next one to be tried for without a long wait.
const settledAfter = 5 * time.Second

var (
	// errTermLost marks the end of a term that is to be followed by another.
	errTermLost = errors.New("term lost")

	// errNoSession marks the end of a source: it will never give a session again.
	errNoSession = errors.New("no session")
)

// runner is what Run remembers from term to term.
type runner struct {
	client      *clientv3.Client
	name, value string
	opts        Options
	lead        func(ctx context.Context, t *Term) error
	log         *zap.Logger
}

func newRunner(client *clientv3.Client, name, value string, opts *Options, lead func(ctx context.Context, t *Term) error) *runner {
	r := &runner{client: client, name: name, value: value, lead: lead}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.DrainTimeout == 0 {
		r.opts.DrainTimeout = defaultDrainTimeout
	}
	r.log = r.opts.Logger
	if r.log == nil {
		r.log = zap.NewNop()
	}
	r.log = r.log.With(zap.String("election", name))
	return r
}

// once takes a session, stands, and leads. It reports whether lead was called, and returns lead's error or
// errTermLost.
func (r *runner) once(ctx context.Context, waits *retry.Backoff) (led bool, err error) {
	s, leave, err := r.session(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	term, err := Campaign(ctx, s, r.name, r.value)
	if err != nil {
		return false, err
	}
	defer func(since time.Time) {
		if time.Since(since) > settledAfter {
			waits.Reset()
		}
	}(time.Now())
	r.log.Info("leading", zap.Int64("token", int64(term.Guard().Token)))
	return true, r.serve(ctx, term)
}

// session returns the session to stand with, and what ends its use.
func (r *runner) session(ctx context.Context) (s *session.Session, leave func(), err error) {
	if r.opts.Sessions == nil {
		s, err := session.Open(ctx, r.client, r.opts.Session)
		// A lease that cannot be revoked expires by itself, and by then nothing of the term is left on it.
		return s, func() { _ = s.Close(ctx) }, err
	}
	s, err = r.opts.Sessions.Live(ctx)
	if errors.Is(err, fence.ErrLost) { // a closed Keeper, or a Session that has ended
		err = fmt.Errorf("election %q: %w: %w", r.name, errNoSession, err)
	}
	return s, func() {}, err
}

// serve calls lead and resigns when it has returned, or panicked.
func (r *runner) serve(ctx context.Context, term *Term) (err error) {
	work, cancel := term.hold.Work(ctx)
	running, end := r.opts.Health.begin(term)
	drained := r.drain(ctx, term, running)
	defer func() {
		cancel()
		late := drained()
		end()
		err = r.settle(ctx, term, err, late)
	}()
	return r.lead(work, term)
}

// drain resigns the term if lead goes on for too long after ctx has ended. The function that it returns is called when lead has
// returned, and reports whether it has come to that.
func (r *runner) drain(ctx context.Context, term *Term, running *leading) (over func() bool) {
	if r.opts.DrainTimeout < 0 {
		return func() bool { return false }
	}
	returned, late := make(chan struct{}), make(chan bool, 1)
	go func() { late <- r.resignUnder(ctx, term, running, returned) }()
	return func() bool {
		close(returned)
		return <-late
	}
}

// resignUnder waits for lead to return, or else resigns under it and reports that it has.
func (r *runner) resignUnder(ctx context.Context, term *Term, running *leading, returned <-chan struct{}) bool {
	select {
	case <-ctx.Done():
	case <-returned:
		return false
	}
	timer := time.NewTimer(r.opts.DrainTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-returned:
		return false
	}
	if term.Context().Err() != nil { // lost, or given up by lead
		return false
	}
	r.log.Warn("lead has not returned: resigning under it", zap.Duration("after", r.opts.DrainTimeout))
	running.drained()
	_ = term.Resign(ctx) // settle learns what becomes of it
	return true
}

// settle gives the term up and says how it ended: with what lead returned, or with errTermLost. late says that it was
// resigned before lead returned.
func (r *runner) settle(ctx context.Context, term *Term, led error, late bool) error {
	over := term.Context().Err() != nil
	lost := over && errors.Is(context.Cause(term.Context()), fence.ErrLost)
	resigned := term.Resign(ctx)
	// What lead has given up itself is not taken up again, even if etcd did not answer to that.
	if lost || !over && errors.Is(resigned, fence.ErrLost) {
		r.log.Warn("term lost", zap.Error(context.Cause(term.Context())), zap.NamedError("lead", led))
		return errTermLost
	}
	r.log.Info("resigned", zap.NamedError("lead", led))
	if late {
		led = errors.Join(led, fmt.Errorf("election %q: %w", r.name, ErrDrainTimeout))
	}
	return errors.Join(led, resigned)
}
