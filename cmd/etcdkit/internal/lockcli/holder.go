package lockcli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// patience is how long a wait goes on before anything is said of it.
	patience = time.Second

	// askWithin bounds the question who is waited for, and giveBackWithin etcd's answer to who gives back.
	askWithin      = 2 * time.Second
	giveBackWithin = 3 * time.Second

	// quick is what a command has at most between SIGTERM and SIGKILL when somebody else may hold already.
	quick = 250 * time.Millisecond

	// The waits before a command is run again that ends soon, and when it has not.
	firstPause, lastPause = time.Second, 30 * time.Second
	settled               = time.Minute
)

// errTimeout is the end of a wait that was bounded.
var errTimeout = errors.New("not obtained in time")

// kind is what can be held.
type kind interface {
	// take waits until it holds through a session; or ends with [exit.NotObtained], if it is not to wait and would have to.
	take(ctx context.Context, s *session.Session, try bool) (holding, error)

	// environment is what the command is told besides what it is always told.
	environment(ctx context.Context, h holding) ([]string, error)

	// waitingFor says who holds it, or nothing.
	waitingFor(ctx context.Context, u *cli.Use, s *session.Session) string
}

// holding is something that is held.
type holding interface {
	Context() context.Context
	Guard() fence.Guard
	giveBack(ctx context.Context) error
}

// holder holds something while a command runs.
type holder struct {
	*flags
	kind
	command    *cobra.Command
	use        *cli.Use
	name, path string
	args       []string // the command line of the command
	signals    *child.Signals
}

// outcome is how a command has ended.
type outcome struct {
	status child.Status
	lost   error // why it was stopped, or should have been; nil if it was not
}

// hold does it all, again and again if it is to.
func (h *holder) hold(ctx context.Context, again bool) error {
	sessions := session.NewKeeper(h.use.Client(), &session.Options{TTL: h.ttl})
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackWithin)
		defer cancel()
		_ = sessions.Close(closing) // what was held is given back already, or expires with the lease
	}()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		held, s, err := h.obtain(ctx, sessions)
		if err != nil {
			return err
		}
		began := time.Now()
		end, err := h.while(ctx, held, s)
		if err != nil {
			return err
		}
		if !again || h.signals.Asked() || end.status.Signal == syscall.SIGINT {
			return h.result(end)
		}
		if time.Since(began) > settled {
			pause = firstPause
		}
		if end.lost != nil {
			h.tell("%v; standing again", end.lost)
			continue
		}
		h.tell("the command has ended with %d; standing again in %v", end.status.Code, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tell says something that is not asked for.
func (h *holder) tell(format string, args ...any) {
	if !h.quiet {
		h.say(format, args...)
	}
}

// say says something.
func (h *holder) say(format string, args ...any) {
	h.use.Say("%s: %s", h.command.CommandPath(), cli.Plainly(fmt.Sprintf(format, args...)))
}

// result is what the end of a command is to the caller.
func (h *holder) result(end outcome) error {
	if len(end.status.Left) > 0 {
		h.say("still running, and not to be killed: processes %v", end.status.Left)
	}
	switch {
	case end.lost != nil:
		return exit.With(exit.Lost, end.lost)
	case end.status.Err != nil:
		return fmt.Errorf("the command was killed: %w", end.status.Err)
	case end.status.Code != 0:
		return exit.Status(end.status.Code)
	}
	return nil
}

// obtain waits until it holds. A session that is lost meanwhile is followed by another: nothing was held yet.
func (h *holder) obtain(ctx context.Context, sessions *session.Keeper) (holding, *session.Session, error) {
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.timeout, exit.With(exit.NotObtained, fmt.Errorf("%s: %w: %v have passed", h.name, errTimeout, h.timeout)))
		defer cancel()
	}
	backoff, told := retry.Policy{}.Backoff(), false
	for first := true; ; first = false {
		s, err := sessions.Live(ctx)
		if err == nil {
			var held holding
			quiet := h.announce(ctx, s)
			held, err = h.take(ctx, s, h.try)
			quiet()
			if err == nil {
				return held, s, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case s == nil && first, s != nil && s.Context().Err() == nil, h.try:
			return nil, nil, err
		}
		if !told {
			h.tell("%s: cut off from etcd (%v); it is tried again", h.name, err)
			told = true
		}
		if err := backoff.Wait(ctx); err != nil {
			return nil, nil, context.Cause(ctx)
		}
	}
}

// announce says who is waited for if that lasts, until the function that it returns is called.
func (h *holder) announce(ctx context.Context, s *session.Session) (quiet func()) {
	if h.quiet || h.try {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var saying sync.WaitGroup
	saying.Go(func() {
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return
		}
		asking, done := context.WithTimeout(ctx, askWithin)
		defer done()
		who := h.waitingFor(asking, h.use, s)
		switch {
		case ctx.Err() != nil:
		case who == "":
			h.tell("waiting for %s", h.name)
		default:
			h.tell("waiting for %s, %s", h.name, who)
		}
	})
	return func() {
		cancel()
		saying.Wait()
	}
}

// while runs the command while something is held, and gives it back.
func (h *holder) while(ctx context.Context, held holding, s *session.Session) (end outcome, err error) {
	defer func() {
		if problem := h.settle(ctx, held, s); problem != nil && end.lost == nil && err == nil {
			end.lost = problem
		}
	}()
	g := held.Guard()
	env, err := h.environment(ctx, held)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return end, err
	}
	env = append(env, "ETCDKIT_NAME="+h.name, "ETCDKIT_KEY="+g.Key, "ETCDKIT_TOKEN="+strconv.FormatInt(int64(g.Token), 10))
	if h.Verbose {
		h.say("%s: held with token %d, key %s", h.name, g.Token, g.Key)
	}
	if ctx.Err() != nil {
		return end, context.Cause(ctx)
	}
	p, err := child.Start(child.Command{
		Path: h.path, Args: h.args, Env: env, Grace: h.grace, Until: s.TrustedUntil, Signals: h.signals,
		Stdin: h.command.InOrStdin(), Stdout: h.command.OutOrStdout(), Stderr: h.command.ErrOrStderr(),
	})
	switch {
	case errors.Is(err, child.ErrLate):
		return outcome{lost: h.loss(held, "before the command was started")}, nil
	case err != nil && ctx.Err() != nil: // the signal was the minder's, too
		return end, context.Cause(ctx)
	case err != nil:
		return end, err
	}
	select {
	case <-p.Done():
	case <-held.Context().Done():
		p.Stop(min(h.grace, quick))
	}
	end.status = p.Wait()
	// What ends by itself in the moment of the loss was not stopped, and yet perhaps not alone.
	if end.status.Stopped || held.Context().Err() != nil {
		end.lost = h.loss(held, "while the command ran; it was stopped")
	}
	return end, nil
}

// loss is the error of something that is not held any more, or not for long.
func (h *holder) loss(held holding, when string) error {
	why := "its lease could not be renewed in time"
	if held.Context().Err() != nil {
		why = context.Cause(held.Context()).Error()
	}
	return fmt.Errorf("%s: lost %s: %s", h.name, when, why)
}

// settle gives back what is held. It returns an error if it turns out to have been lost before.
func (h *holder) settle(ctx context.Context, held holding, s *session.Session) error {
	if held.Context().Err() != nil {
		return nil // what is left of it goes with the lease; and what is to be said of the loss has been said
	}
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackWithin)
	defer cancel()
	err := held.giveBack(giving)
	switch {
	case err == nil:
		if h.Verbose {
			h.say("%s: given back", h.name)
		}
	case errors.Is(err, fence.ErrLost) && s.Context().Err() == nil: // etcd has answered: it was gone
		return fmt.Errorf("%s: lost while the command ran: %w", h.name, err)
	default:
		h.say("%s: it was held to the end, and could not be given back: others wait until the lease expires, in %v at most (%v)", h.name, h.ttl, err)
	}
	return nil
}
