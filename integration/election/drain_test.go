package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// hanging is a Run whose lead does not return before it is let go.
type hanging struct {
	name  string
	term  *election.Term
	end   context.CancelCauseFunc // of Run's context
	goOn  chan error              // what lead returns
	ended chan error              // what Run returned
}

// hang starts a Run and returns when its lead hangs.
func hang(t *testing.T, name string, opts *election.Options) *hanging {
	t.Helper()
	ctx, end := context.WithCancelCause(t.Context())
	h := &hanging{name: name, end: end, goOn: make(chan error, 1), ended: make(chan error, 1)}
	led := make(chan *election.Term, 1)
	cli := etcdtest.Client(t)
	go func() {
		h.ended <- election.Run(ctx, cli, name, "hanging", opts, func(_ context.Context, term *election.Term) error {
			led <- term
			return <-h.goOn
		})
	}()
	h.term = etcdtest.Receive(t, soon, "leading", led)
	return h
}

// A leader that hangs while its process is told to stop must not keep others from leading.
func TestALeadThatDoesNotReturnInTimeIsResignedUnder(t *testing.T) {
	t.Parallel()
	const drain = 300 * time.Millisecond
	name := etcdtest.Prefix(t) + "name"
	h := hang(t, name, &election.Options{DrainTimeout: drain})
	next := campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
	etcdtest.Nothing(t, 2*drain, "the next one, before anything has ended", next)
	at := time.Now()
	h.end(errors.New("enough"))
	term := etcdtest.Receive(t, soon, "the next one", next)
	if took := time.Since(at); took < drain {
		t.Errorf("another leads after %v, want not before %v", took, drain)
	}
	if cause := context.Cause(h.term.Context()); cause == nil || errors.Is(cause, fence.ErrLost) {
		t.Errorf("another leads, and the term's context has the cause %v, want one that is no loss", cause)
	}
	etcdtest.Nothing(t, 100*time.Millisecond, "Run, while lead runs", h.ended)
	if term.Context().Err() != nil {
		t.Errorf("the next one has ended: %v", context.Cause(term.Context()))
	}
	h.goOn <- errWork
	err := etcdtest.Receive(t, promptly, "Run", h.ended)
	if !errors.Is(err, election.ErrDrainTimeout) || !errors.Is(err, errWork) || errors.Is(err, fence.ErrLost) {
		t.Errorf("Run: %v, want ErrDrainTimeout and the work's error", err)
	}
	if err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("Run: %v, want the name", err)
	}
	resign(t, term)
}

func TestALeadThatReturnsInTimeOrMayTakeItsTimeIsNotResignedUnder(t *testing.T) {
	t.Parallel()
	for what, drain := range map[string]time.Duration{"in time": time.Minute, "the default": 0, "without a bound": -1} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := etcdtest.Prefix(t) + "name"
			h := hang(t, name, &election.Options{DrainTimeout: drain})
			next := campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
			h.end(errors.New("enough"))
			etcdtest.Nothing(t, 500*time.Millisecond, "the next one", next)
			if h.term.Context().Err() != nil {
				t.Errorf("the term has ended: %v", context.Cause(h.term.Context()))
			}
			h.goOn <- errWork
			if err := etcdtest.Receive(t, promptly, "Run", h.ended); !errors.Is(err, errWork) || errors.Is(err, election.ErrDrainTimeout) {
				t.Errorf("Run: %v, want the work's error alone", err)
			}
			resign(t, etcdtest.Receive(t, soon, "the next one", next))
		})
	}
}

// Nobody is to be told that a term was resigned which was not.
func TestATermThatEndsOtherwiseHasNoDrainTimeout(t *testing.T) {
	t.Parallel()
	const drain = 100 * time.Millisecond
	for what, end := range map[string]func(t *testing.T, h *hanging){
		"lost":     func(t *testing.T, h *hanging) { etcdtest.Shared(t).Delete(h.term.Guard().Key) },
		"resigned": func(t *testing.T, h *hanging) { resign(t, h.term) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := hang(t, etcdtest.Prefix(t)+"name", &election.Options{DrainTimeout: drain})
			end(t, h)
			etcdtest.Done(t, soon, "the end of the term", h.term.Context().Done())
			enough := errors.New("enough")
			h.end(enough)
			etcdtest.Nothing(t, 2*drain, "Run, while lead runs", h.ended)
			h.goOn <- nil
			err := etcdtest.Receive(t, promptly, "Run", h.ended)
			if errors.Is(err, election.ErrDrainTimeout) || (what == "lost") != errors.Is(err, enough) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// Trust is the hard stop: draining prolongs nothing.
func TestATermThatDrainsEndsWithItsSession(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	name := etcdtest.Prefix(t) + "name"
	ctx, cancel := context.WithCancel(t.Context())
	led, goOn, done := make(chan *election.Term, 1), make(chan struct{}), make(chan error, 1)
	cli := link.Client()
	go func() {
		opts := &election.Options{Session: &session.Options{TTL: 2 * time.Second}, DrainTimeout: -1}
		done <- election.Run(ctx, cli, name, "me", opts, func(_ context.Context, term *election.Term) error {
			led <- term
			<-goOn
			return nil
		})
	}()
	term := etcdtest.Receive(t, soon, "leading", led)
	next := campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
	cancel()
	link.Cut()
	etcdtest.Receive(t, soon, "the next one", next)
	if cause := context.Cause(term.Context()); !errors.Is(cause, session.ErrLost) {
		t.Errorf("another leads, and the term's context has the cause %v", cause)
	}
	close(goOn)
	if err := etcdtest.Receive(t, soon, "Run", done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want ctx's cause", err)
	}
}
