package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/config"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// transfer hands over, and fails the test if that does not succeed soon.
func transfer(t *testing.T, term *election.Term, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := term.TransferTo(ctx, to); err != nil {
		t.Fatal(err)
	}
	if cause := context.Cause(term.Context()); cause == nil || errors.Is(cause, fence.ErrLost) {
		t.Errorf("the old term's context has the cause %v, want one that is no loss", cause)
	}
	resign(t, term)
}

// theirSession opens a session of etcd's own for the test's time.
func theirSession(t *testing.T, cli *clientv3.Client) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// theirs starts to campaign through etcd's own package, and returns when the line is n long.
func theirs(t *testing.T, name, value string, n int) (e *concurrency.Election, elected <-chan error) {
	t.Helper()
	cli := etcdtest.Client(t)
	e = concurrency.NewElection(theirSession(t, cli), name)
	done := make(chan error, 1)
	candidate := e
	go func() { done <- candidate.Campaign(t.Context(), value) }()
	etcdtest.WaitKeys(t, soon, cli, name+"/", n)
	return candidate, done
}

func TestATransferMakesTheCandidateLeadAndThoseAheadStandAgain(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ byKey, within bool }{"by key": {byKey: true}, "by value": {}, "in a namespace": {byKey: true, within: true}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
			if c.within {
				etcdtest.Within(cli, "namespace/")
			}
			seen := observe(t, cli, name)
			sees(t, seen, "")
			s := open(t, cli)
			one := elected(t, s, name, "one")
			sees(t, seen, "one")
			var next []<-chan *election.Term
			for i, value := range []string{"two", "three", "four", "five"} {
				next = append(next, campaigning(t, open(t, cli), name, value, i+2))
			}
			to := "four"
			if c.byKey {
				to = keyOf(t, cli, name, to).Key
			}
			transfer(t, one, to)
			four := etcdtest.Receive(t, soon, "the one it was handed to", next[2])
			// Nobody in between: neither nobody nor one of those who were passed.
			if l := sees(t, seen, "four"); l.Token != four.Guard().Token {
				t.Errorf("the leader is %+v, want %v", l, four.Guard())
			}
			etcdtest.WaitKeys(t, soon, cli, name+"/", 4)
			five := next[3] // was behind, and is not passed by those who were ahead
			passed := merge(next[0], next[1])
			last := one.Guard().Token
			for i, term := range []*election.Term{four, nil, nil, nil} {
				switch i {
				case 0:
				case 1:
					term = etcdtest.Receive(t, soon, "the one behind", five)
				default:
					term = etcdtest.Receive(t, soon, "one who was passed", passed)
				}
				if l, err := election.Current(t.Context(), cli, name); err != nil || l.Token != term.Guard().Token {
					t.Errorf("the leader is %+v (%v), want %v", l, err, term.Guard())
				}
				if term.Guard().Token <= last {
					t.Errorf("token %d follows %d", term.Guard().Token, last)
				}
				last = term.Guard().Token
				resign(t, term)
			}
			etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
			// Of keys there are as many as are in use, however often is handed over.
			if again := elected(t, s, name, "one"); again.Guard().Key != one.Guard().Key {
				t.Errorf("the key is %s, want %s again", again.Guard().Key, one.Guard().Key)
			}
		})
	}
}

// One read and one transaction; and while that is under way nobody thinks that the old term goes on.
func TestATransferIsOneCommitThatFollowsTheEndOfTheTerm(t *testing.T) {
	t.Parallel()
	oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	cli, calls := counted(t)
	one := elected(t, open(t, cli), name, "one")
	campaigning(t, open(t, oracle), name, "two", 2)
	next := campaigning(t, open(t, oracle), name, "three", 3)
	changes := oracle.Watch(t.Context(), name+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify(), clientv3.WithFilterPut())
	etcdtest.Receive(t, soon, "the watch", changes)
	calls.Reset()
	held, goOn := holds(calls, false, nil)
	done := make(chan error, 1)
	go func() { done <- one.TransferTo(t.Context(), "three") }()
	etcdtest.Done(t, soon, "the transaction", held.Hit())
	if one.Context().Err() == nil {
		t.Error("the transaction is sent and the term goes on")
	}
	etcdtest.Nothing(t, 20*time.Millisecond, "the next one", next)
	close(goOn)
	if err := etcdtest.Receive(t, soon, "TransferTo", done); err != nil {
		t.Fatal(err)
	}
	if n, m := calls.Count("Range"), calls.Count("Txn"); n != 1 || m != 1 {
		t.Errorf("%d reads and %d transactions, want one of each", n, m)
	}
	if gone := etcdtest.Receive(t, soon, "deletions", changes).Events; len(gone) != 2 || gone[0].Kv.ModRevision != gone[1].Kv.ModRevision {
		t.Errorf("gone are %v, want two keys in one revision", gone)
	}
	etcdtest.Receive(t, soon, "the next one", next)
}

func TestATransferToTheLeaderItselfDoesNothing(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	one := elected(t, open(t, cli), name, "one")
	campaigning(t, open(t, etcdtest.Client(t)), name, "one", 2)
	calls.Reset()
	for _, to := range []string{"one", one.Guard().Key} {
		if err := one.TransferTo(t.Context(), to); err != nil || one.Context().Err() != nil {
			t.Errorf("to %s: %v; the term has ended: %v", to, err, context.Cause(one.Context()))
		}
	}
	if n := calls.Count("Txn"); n != 0 {
		t.Errorf("%d transactions, want none", n)
	}
	resign(t, one)
}

func TestATransferThatCannotBeLetsTheTermGoOn(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	one := elected(t, open(t, cli), name, "one")
	campaigning(t, open(t, cli), name, "two", 2)
	_, theirTurn := theirs(t, name, "theirs", 3)
	last := campaigning(t, open(t, cli), name, "four", 4)
	below := elected(t, open(t, cli), name+"/below", "below")
	foreign := keyOf(t, cli, name, "theirs").Key
	for to, want := range map[string]error{
		"nobody": election.ErrNoCandidate, "": election.ErrNoCandidate, below.Guard().Key: election.ErrNoCandidate, "four": election.ErrInTheWay,
	} {
		err := one.TransferTo(t.Context(), to)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("to %q: %v, want %v", to, err, want)
		}
		if errors.Is(want, election.ErrInTheWay) && !strings.Contains(err.Error(), foreign) {
			t.Errorf("to %q: %v, want the key %s", to, err, foreign)
		}
		if one.Context().Err() != nil {
			t.Fatalf("the term has ended: %v", context.Cause(one.Context()))
		}
	}
	if err := one.Proclaim(t.Context(), "still one"); err != nil {
		t.Error(err)
	}
	// Itself it can be handed to; and then it is not in the way any more.
	transfer(t, one, "theirs")
	if err := etcdtest.Receive(t, soon, "theirs", theirTurn); err != nil {
		t.Fatal(err)
	}
	if l, err := election.Current(t.Context(), cli, name); err != nil || l.Key != foreign {
		t.Errorf("the leader is %+v (%v), want %s", l, err, foreign)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 4) // theirs, four, the one below and two again
	etcdtest.Shared(t).Delete(foreign)
	resign(t, etcdtest.Receive(t, soon, "the next one", last))
}

func TestATransferOfATermThatIsOverSaysWhy(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	one := elected(t, open(t, cli), name, "one")
	two := campaigning(t, open(t, cli), name, "two", 2)
	c.Delete(one.Guard().Key) // and nobody watches it so early
	for range 2 {
		if err := one.TransferTo(t.Context(), "two"); !errors.Is(err, fence.ErrLost) {
			t.Errorf("after the loss: %v, want fence.ErrLost", err)
		}
	}
	if err := one.Resign(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Errorf("Resign after the loss: %v, want fence.ErrLost", err)
	}
	term := etcdtest.Receive(t, soon, "the next one", two)
	campaigning(t, open(t, cli), name, "three", 2)
	resign(t, term)
	if err := term.TransferTo(t.Context(), "three"); err == nil || errors.Is(err, fence.ErrLost) {
		t.Errorf("after Resign: %v, want an error that is no loss", err)
	}
}

// A leader of a large fleet may have more candidates between it and the next one than one transaction takes.
func TestATransferPassesAnyNumberOfCandidates(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ limit, ahead int }{
		"more than fit":                 {128, 125},
		"on a server that takes less":   {8, 20},
		"on a server that takes hardly": {3, 3},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cluster := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *config.ServerConfig) { cfg.MaxTxnOps = uint(c.limit) }})
			cli, name := cluster.Client(), etcdtest.Prefix(t)+"name"
			s := open(t, cli)
			one := elected(t, s, name, "one")
			var ahead []<-chan *election.Term
			for range c.ahead {
				ahead = append(ahead, standing(t, s, name, "ahead"))
			}
			terms := merge(ahead...)
			etcdtest.WaitKeys(t, soon, cli, name+"/", c.ahead+1)
			next := campaigning(t, open(t, cli), name, "next", c.ahead+2)
			seen := observe(t, cli, name)
			sees(t, seen, "one")
			transfer(t, one, "next")
			term := etcdtest.Receive(t, soon, "the one it was handed to", next)
			sees(t, seen, "next")
			etcdtest.WaitKeys(t, soon, cli, name+"/", c.ahead+1)
			for range c.ahead {
				after := term
				resign(t, after)
				term = etcdtest.Receive(t, soon, "one of those passed", terms)
				if term.Guard().Token <= after.Guard().Token {
					t.Errorf("token %d follows %d", term.Guard().Token, after.Guard().Token)
				}
			}
			resign(t, term)
		})
	}
}

func TestRunReturnsAfterATransferAsAfterAResignation(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "name"
	for what, give := range map[string]func(context.Context, *election.Term) error{
		"transfer":    func(ctx context.Context, term *election.Term) error { return term.TransferTo(ctx, "next") },
		"resignation": func(ctx context.Context, term *election.Term) error { return term.Resign(ctx) },
	} {
		name := name + what
		for _, want := range []error{nil, errWork} {
			cli := etcdtest.Client(t)
			led := 0
			var next <-chan *election.Term
			err := election.Run(t.Context(), cli, name, "me", nil, func(ctx context.Context, term *election.Term) error {
				if led++; led > 1 {
					return errors.New("led twice")
				}
				campaigning(t, open(t, etcdtest.Client(t)), name, "between", 2)
				next = campaigning(t, open(t, etcdtest.Client(t)), name, "next", 3)
				if err := give(ctx, term); err != nil {
					t.Error(err)
				}
				etcdtest.Done(t, promptly, "telling the work", ctx.Done())
				return want
			})
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: Run: %v, want %v", what, err, want)
			}
			if led != 1 {
				t.Errorf("%s: led %d times", what, led)
			}
			if what == "transfer" {
				etcdtest.Receive(t, soon, "the one it was handed to", next)
			}
			name += "-again"
		}
	}
}

// With the process's context over there is little time, and it is enough.
func TestATransferWorksWithAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	one := elected(t, open(t, cli), name, "one")
	campaigning(t, open(t, cli), name, "two", 2)
	next := campaigning(t, open(t, cli), name, "three", 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := one.TransferTo(ctx, "three"); err != nil {
		t.Error(err)
	}
	etcdtest.Receive(t, soon, "the one it was handed to", next)
	resign(t, one)
}
