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

// Options of Run. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// Session is how the sessions are opened that Run leads with.
	Session *session.Options

	// Retry gives the waits between attempts to stand again: Initial, Max, Multiplier and Jitter. Its bounds on
	// attempts and time do not apply, as Run does not give up.
	Retry retry.Policy

	// Logger is told when a term begins, ends and is lost. Default none.
	Logger *zap.Logger
}

// Run stands for an election and calls lead while it leads. lead's context is ctx, ended also when the term is
// lost; then Run waits for lead to return, stands again through a new session, and calls lead with a new term. It never
// calls lead a second time before the first has returned.
//
// Run returns when lead returns under a term that is not lost, with lead's error, joined with what went wrong
// about resigning; when ctx ends while it waits, with ctx's cause; or with an error of the arguments. The term is
// kept until lead has returned, also after ctx has ended, and then given up. What etcd's absence does to it is
// waiting.
func Run(ctx context.Context, client *clientv3.Client, name, value string, opts *Options, lead func(ctx context.Context, t *Term) error) error {
	if opts == nil {
		opts = &Options{}
	}
	if err := names.Opaque("election", name); err != nil {
		return fmt.Errorf("election: %w", err)
	}
	if err := opts.Session.Validate(); err != nil {
		return err
	}
	if err := opts.Retry.Validate(); err != nil {
		return err
	}
	r := &runner{client: client, name: name, value: value, opts: opts, lead: lead, log: opts.Logger}
	if r.log == nil {
		r.log = zap.NewNop()
	}
	r.log = r.log.With(zap.String("election", name))
	waits := opts.Retry.Backoff()
	for {
		led, err := r.once(ctx, waits)
		if !led && ctx.Err() != nil {
			return fmt.Errorf("election %q: %w", name, context.Cause(ctx))
		}
		if led && !errors.Is(err, errTermLost) {
			return err
		}
		if !led {
			r.log.Warn("election not entered", zap.Error(err))
		}
		if waits.Wait(ctx) != nil {
			return fmt.Errorf("election %q: %w", name, context.Cause(ctx))
		}
	}
}

// settledAfter is how long a term lasts for Run to stand again without a long wait once it is lost.
const settledAfter = 5 * time.Second

// errTermLost marks the end of a term that is to be followed by another.
var errTermLost = errors.New("term lost")

// runner is what Run remembers from term to term.
type runner struct {
	client      *clientv3.Client
	name, value string
	opts        *Options
	lead        func(ctx context.Context, t *Term) error
	log         *zap.Logger
}

// once opens a session, stands, and leads. It reports whether lead was called, and returns lead's error or
// errTermLost.
func (r *runner) once(ctx context.Context, waits *retry.Backoff) (led bool, err error) {
	s, err := session.Open(ctx, r.client, r.opts.Session)
	if err != nil {
		return false, err
	}
	// A lease that cannot be revoked expires by itself, and by then nothing of the term is left on it.
	defer func() { _ = s.Close(ctx) }()
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

// serve calls lead and resigns when it has returned, or panicked.
func (r *runner) serve(ctx context.Context, term *Term) (err error) {
	work, cancel := term.hold.Work(ctx)
	defer func() {
		cancel()
		lost := term.Context().Err() != nil
		resigned := term.Resign(ctx)
		if lost || errors.Is(resigned, fence.ErrLost) {
			r.log.Warn("term lost", zap.Error(context.Cause(term.Context())), zap.NamedError("lead", err))
			err = errTermLost
			return
		}
		r.log.Info("resigned", zap.NamedError("lead", err))
		err = errors.Join(err, resigned)
	}()
	return r.lead(work, term)
}
