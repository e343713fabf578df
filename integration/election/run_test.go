package election_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

var errWork = errors.New("the work failed")

func TestRunLeadsAndResignsBeforeItReturns(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	for _, want := range []error{nil, errWork} {
		err := election.Run(t.Context(), cli, name, "me", nil, func(ctx context.Context, term *election.Term) error {
			leader, err := election.Current(ctx, cli, name)
			if err != nil || leader.Value != "me" || leader.Token != term.Guard().Token || leader.Key != term.Guard().Key {
				t.Errorf("while leading, the leader is %+v (%v), want guard %v", leader, err, term.Guard())
			}
			if _, err := term.Guard().Commit(ctx, cli, clientv3.OpPut(name+"-data", "")); err != nil {
				t.Error(err)
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("Run: %v, want %v", err, want)
		}
		if resp, err := cli.Get(t.Context(), name+"/", clientv3.WithPrefix()); err != nil || resp.Count != 0 {
			t.Errorf("after Run: %v, %v", resp, err)
		}
	}
}

func TestRunStartsOverWhenATermIsLostAndNeverLeadsTwice(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	var (
		leading atomic.Int32
		tokens  []fence.Token
	)
	opts := &election.Options{Retry: retry.Policy{Initial: time.Millisecond, Max: 10 * time.Millisecond}}
	err := election.Run(t.Context(), cli, name, "me", opts, func(ctx context.Context, term *election.Term) error {
		if n := leading.Add(1); n != 1 {
			t.Errorf("%d lead at a time", n)
		}
		defer leading.Add(-1)
		tokens = append(tokens, term.Guard().Token)
		switch len(tokens) {
		case 1: // the key
			c.Delete(term.Guard().Key)
		case 2: // the whole lease
			resp, err := cli.Get(t.Context(), term.Guard().Key)
			if err != nil || resp.Count != 1 {
				t.Errorf("%v, %v", resp, err)
				return nil
			}
			c.Revoke(clientv3.LeaseID(resp.Kvs[0].Lease))
		case 3: // what is not noticed by the work
			c.Delete(term.Guard().Key)
			return nil
		default:
			return errWork
		}
		etcdtest.Done(t, soon, "telling the work", ctx.Done())
		if cause := context.Cause(ctx); !errors.Is(cause, fence.ErrLost) {
			t.Errorf("the cause is %v, want fence.ErrLost", cause)
		}
		return ctx.Err()
	})
	if !errors.Is(err, errWork) {
		t.Errorf("Run: %v, want the error of the term that was not lost", err)
	}
	if len(tokens) != 4 {
		t.Errorf("led %d times, want 4", len(tokens))
	}
	for i := 1; i < len(tokens); i++ {
		if tokens[i] <= tokens[i-1] {
			t.Errorf("tokens %v do not rise", tokens)
		}
	}
}

func TestRunKeepsTheTermUntilTheWorkHasReturned(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	ctx, cancel := context.WithCancelCause(t.Context())
	led, windingDown, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		opts := &election.Options{Session: &session.Options{TTL: 2 * time.Second}}
		done <- election.Run(ctx, cli, name, "me", opts, func(ctx context.Context, _ *election.Term) error {
			close(led)
			<-ctx.Done()
			close(windingDown)
			<-goOn
			return context.Cause(ctx)
		})
	}()
	etcdtest.Done(t, soon, "leading", led)
	next := campaigning(t, open(t, cli), name, "next", 2)
	enough := errors.New("enough")
	cancel(enough)
	etcdtest.Done(t, promptly, "telling the work", windingDown)
	etcdtest.Nothing(t, 4*time.Second, "the next one, for twice the TTL", next)
	close(goOn)
	if err := etcdtest.Receive(t, promptly, "Run", done); !errors.Is(err, enough) || errors.Is(err, fence.ErrLost) {
		t.Errorf("Run: %v, want the work's error alone", err)
	}
	resign(t, etcdtest.Receive(t, soon, "the next one", next))
}

func TestRunEndsPromptlyWithItsContextWhileItWaits(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "name"
	lead := func(context.Context, *election.Term) error {
		t.Error("led")
		return nil
	}
	for what, hurt := range map[string]bool{"behind another leader": false, "behind a black hole": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := name + what
			link := etcdtest.Shared(t).Link(0)
			cli := link.Client()
			elected(t, open(t, etcdtest.Client(t)), name, "other")
			if hurt {
				link.Blackhole(etcdtest.Both)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- election.Run(ctx, cli, name, "me", nil, lead) }()
			if !hurt {
				etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
			}
			etcdtest.Nothing(t, 50*time.Millisecond, "Run", done)
			enough := errors.New("enough")
			cancel(enough)
			if err := etcdtest.Receive(t, promptly, "Run", done); !errors.Is(err, enough) {
				t.Errorf("Run: %v, want the cause", err)
			}
			etcdtest.WaitKeys(t, soon, etcdtest.Client(t), name+"/", 1)
		})
	}
}

func TestRunWaitsForAnEtcdThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	link.Cut()
	cli := link.Client()
	opts := &election.Options{Retry: retry.Policy{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}}
	done := make(chan error, 1)
	led := make(chan struct{})
	go func() {
		done <- election.Run(t.Context(), cli, etcdtest.Prefix(t)+"name", "me", opts, func(context.Context, *election.Term) error {
			close(led)
			return nil
		})
	}()
	etcdtest.Nothing(t, 2*time.Second, "leading", led)
	link.Heal()
	if err := etcdtest.Receive(t, soon, "Run", done); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestAPanicInTheWorkResigns(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	func() {
		defer func() {
			if r := recover(); r != any(errWork) {
				t.Errorf("recovered %v, want the panic", r)
			}
		}()
		_ = election.Run(t.Context(), cli, name, "me", nil, func(context.Context, *election.Term) error { panic(errWork) })
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestRunRefusesBadArgumentsAtOnce(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	for what, c := range map[string]struct {
		name string
		opts *election.Options
		rule string
	}{
		"name":  {"", nil, "it is empty"},
		"TTL":   {"x", &election.Options{Session: &session.Options{TTL: time.Second}}, "minimum of 2s"},
		"retry": {"x", &election.Options{Retry: retry.Policy{Jitter: 2}}, "Jitter"},
		"sources": {
			"x", &election.Options{Session: &session.Options{}, Sessions: session.NewKeeper(cli, nil)}, "both set",
		},
	} {
		err := election.Run(t.Context(), cli, c.name, "", c.opts, nil)
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%s: %v, want an error that names the rule: %s", what, err, c.rule)
		}
	}
	if n := calls.Sent(); n != 0 {
		t.Errorf("%d calls were made: %v", n, calls.Counts())
	}
}

func TestSeveralRunsLeadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "name"
	var (
		all     sync.WaitGroup
		leading atomic.Int32
		last    atomic.Int64
	)
	for range 4 {
		cli := etcdtest.Client(t)
		all.Go(func() {
			err := election.Run(t.Context(), cli, name, "", nil, func(_ context.Context, term *election.Term) error {
				if n := leading.Add(1); n != 1 {
					t.Errorf("%d lead at a time", n)
				}
				defer leading.Add(-1)
				if token := int64(term.Guard().Token); last.Swap(token) >= token {
					t.Errorf("token %d does not rise", token)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
