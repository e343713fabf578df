package election_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// line is an election with a leader whose calls can be made to fail, and two who wait.
type line struct {
	oracle *clientv3.Client
	name   string
	calls  *etcdtest.Calls
	leader *election.Term
	second <-chan *election.Term
	third  <-chan *election.Term
}

func newLine(t *testing.T, name string) *line {
	t.Helper()
	l := &line{oracle: etcdtest.Client(t), name: name}
	cli, calls := counted(t)
	l.calls = calls
	l.leader = elected(t, open(t, cli), name, "first")
	l.second = campaigning(t, open(t, l.oracle), name, "second", 2)
	l.third = campaigning(t, open(t, l.oracle), name, "third", 3)
	return l
}

// handsOver starts to hand over to the third.
func (l *line) handsOver(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- l.leader.TransferTo(ctx, "third") }()
	return done
}

// holds keeps the next transaction from being sent, or with after from being answered, until goOn is closed. Then it fails with err,
// or goes on if that is nil. Attempts that follow, as the first took too long, are held too.
func holds(calls *etcdtest.Calls, after bool, err error) (held *etcdtest.Armed, goOn chan struct{}) {
	goOn = make(chan struct{})
	held = calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Hold: goOn, Err: err})
	calls.Inject(etcdtest.Fault{Call: "Txn", Hold: goOn, Times: -1})
	return held, goOn
}

// gone fails the test if the old leader's key is still there.
func (l *line) gone(t *testing.T) {
	t.Helper()
	etcdtest.WaitGone(t, soon, l.oracle, l.leader.Guard().Key)
	if l.leader.Context().Err() == nil {
		t.Error("the key is gone and the term goes on")
	}
}

// leads waits for one that stands to be elected, with a larger token than the one before, and resigns it.
func (l *line) leads(t *testing.T, what string, next <-chan *election.Term) {
	t.Helper()
	term := etcdtest.Receive(t, soon, what, next)
	if term.Guard().Token <= l.leader.Guard().Token {
		t.Errorf("token %d follows %d", term.Guard().Token, l.leader.Guard().Token)
	}
	resign(t, term)
}

// Every code of gRPC, for a transaction that was carried out and for one that was not.
func TestATransferWhoseReplyIsLostIsResolved(t *testing.T) {
	t.Parallel()
	prefix := etcdtest.Prefix(t)
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		failure := status.Error(code, "etcdtest: injected")
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, after=%t", code, after), func(t *testing.T) {
				l := newLine(t, fmt.Sprintf("%s%v-%t", prefix, code, after))
				fault := l.calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Err: failure})
				err := etcdtest.Receive(t, soon, "TransferTo", l.handsOver(t.Context()))
				if fault.Hits() != 1 {
					t.Errorf("%d faults", fault.Hits())
				}
				l.gone(t)
				if err != nil && (retry.Idempotent(failure) || !errors.Is(err, failure)) {
					t.Errorf("TransferTo: %v", err)
				}
				if err != nil && !after { // resigned plainly
					l.leads(t, "the second", l.second)
				}
				l.leads(t, "the third", l.third)
				if err != nil && after {
					return // the error says that nothing was done, and no server that did something would say so
				}
				resign(t, l.leader)
			})
		}
	}
}

func TestATransferWhoseRepliesAreLostAgainAndAgainIsResolved(t *testing.T) {
	t.Parallel()
	l := newLine(t, etcdtest.Prefix(t)+"name")
	fault := l.calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Times: 3})
	if err := etcdtest.Receive(t, soon, "TransferTo", l.handsOver(t.Context())); err != nil || fault.Hits() != 3 {
		t.Errorf("TransferTo: %v after %d faults", err, fault.Hits())
	}
	l.leads(t, "the third", l.third)
	resign(t, l.leader)
}

// Then nobody can tell any more who led.
func TestATransferWhoseReplyIsLostToOneWhoHasLeftSinceSaysSo(t *testing.T) {
	t.Parallel()
	l := newLine(t, etcdtest.Prefix(t)+"name")
	fault, goOn := holds(l.calls, true, status.Error(codes.Unavailable, "etcdtest: injected"))
	done := l.handsOver(t.Context())
	etcdtest.Done(t, soon, "the transaction", fault.Hit())
	l.leads(t, "the third", l.third)
	close(goOn)
	if err := etcdtest.Receive(t, soon, "TransferTo", done); !errors.Is(err, election.ErrNoCandidate) {
		t.Errorf("TransferTo: %v, want ErrNoCandidate", err)
	}
	resign(t, l.leader)
	l.leads(t, "the second", l.second)
}

// A stranger's deletion is not taken for one's own: who is ahead of the candidate is still there.
func TestATransferThatFindsItsKeyDeletedIsALoss(t *testing.T) {
	t.Parallel()
	for what, failure := range map[string]error{"refused": nil, "and a reply lost": status.Error(codes.Unavailable, "etcdtest: injected")} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLine(t, etcdtest.Prefix(t)+"name")
			fault, goOn := holds(l.calls, false, failure)
			done := l.handsOver(t.Context())
			etcdtest.Done(t, soon, "the transaction", fault.Hit())
			etcdtest.Shared(t).Delete(l.leader.Guard().Key)
			second := etcdtest.Receive(t, soon, "the second", l.second)
			close(goOn)
			if err := etcdtest.Receive(t, soon, "TransferTo", done); !errors.Is(err, fence.ErrLost) {
				t.Errorf("TransferTo: %v, want fence.ErrLost", err)
			}
			if err := l.leader.Resign(t.Context()); !errors.Is(err, fence.ErrLost) {
				t.Errorf("Resign: %v, want fence.ErrLost", err)
			}
			if second.Context().Err() != nil {
				t.Errorf("the second was passed: %v", context.Cause(second.Context()))
			}
			resign(t, second)
			l.leads(t, "the third", l.third)
		})
	}
}

func TestATransferToOneWhoLeavesMeanwhileIsAResignation(t *testing.T) {
	t.Parallel()
	l := newLine(t, etcdtest.Prefix(t)+"name")
	held, goOn := holds(l.calls, false, nil)
	ctx, cancel := context.WithCancel(t.Context())
	fourth := make(chan error, 1)
	go func() {
		_, err := election.Campaign(ctx, open(t, l.oracle), l.name, "fourth")
		fourth <- err
	}()
	etcdtest.WaitKeys(t, soon, l.oracle, l.name+"/", 4)
	done := make(chan error, 1)
	go func() { done <- l.leader.TransferTo(t.Context(), "fourth") }()
	etcdtest.Done(t, soon, "the transaction", held.Hit())
	cancel()
	if err := etcdtest.Receive(t, soon, "the fourth", fourth); !errors.Is(err, context.Canceled) {
		t.Errorf("the fourth: %v", err)
	}
	close(goOn)
	if err := etcdtest.Receive(t, soon, "TransferTo", done); !errors.Is(err, election.ErrNoCandidate) {
		t.Errorf("TransferTo: %v, want ErrNoCandidate", err)
	}
	resign(t, l.leader)
	l.gone(t)
	l.leads(t, "the second", l.second) // in the order in which they came
	l.leads(t, "the third", l.third)
}

func TestATransferPastOneWhoLeavesMeanwhileIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := newLine(t, etcdtest.Prefix(t)+"name")
	held, goOn := holds(l.calls, false, nil)
	fourth := campaigning(t, open(t, l.oracle), l.name, "fourth", 4)
	done := make(chan error, 1)
	go func() { done <- l.leader.TransferTo(t.Context(), "fourth") }()
	etcdtest.Done(t, soon, "the transaction", held.Hit())
	second := keyOf(t, l.oracle, l.name, "second")
	etcdtest.Shared(t).Delete(second.Key)
	etcdtest.Eventually(t, soon, "the second stands again", func(ctx context.Context) error {
		all, err := election.Candidates(ctx, l.oracle, l.name)
		if err == nil && (len(all) != 4 || all[3].Value != "second") {
			err = fmt.Errorf("the line is %+v", all)
		}
		if err == nil {
			second = all[3]
		}
		return err
	})
	close(goOn)
	if err := etcdtest.Receive(t, soon, "TransferTo", done); err != nil {
		t.Fatal(err)
	}
	l.leads(t, "the fourth", fourth)
	// It stood behind already, by the same key perhaps, and was not passed a second time.
	if again := etcdtest.Receive(t, soon, "the second", l.second); again.Guard().Token != second.Token {
		t.Errorf("the second leads with token %d, want %d", again.Guard().Token, second.Token)
	} else {
		resign(t, again)
	}
	l.leads(t, "the third", l.third)
	resign(t, l.leader)
}

// At every call, before it is carried out and after: it returns promptly, and goes on until somebody else leads.
func TestATransferCancelledAtAnyCallReturnsPromptlyAndGoesOn(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	for _, call := range []string{"Range", "Txn"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%t", call, after), func(t *testing.T) {
				t.Parallel()
				l := newLine(t, etcdtest.Prefix(t)+"name")
				stuck := l.calls.Inject(etcdtest.Fault{Call: call, After: after, Silent: true, Times: -1})
				ctx, cancel := context.WithCancelCause(t.Context())
				done := l.handsOver(ctx)
				etcdtest.Done(t, soon, "reaching the call", stuck.Hit())
				cancel(enough)
				at := time.Now()
				if err := etcdtest.Receive(t, promptly, "TransferTo", done); !errors.Is(err, enough) {
					t.Errorf("cancelled: %v, want the cause", err)
				}
				t.Logf("returned after %v", time.Since(at))
				if call == "Range" { // nothing has happened
					if l.leader.Context().Err() != nil {
						t.Errorf("the term has ended: %v", context.Cause(l.leader.Context()))
					}
					stuck.Remove()
					transfer(t, l.leader, "third")
				}
				stuck.Remove()
				l.gone(t)
				l.leads(t, "the third", l.third)
				resign(t, l.leader)
				l.leads(t, "the second", l.second)
			})
		}
	}
}

// What is not answered while the session lives is a loss, as with Resign.
func TestATransferThatIsNotAnsweredEndsWithTheSession(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	s, err := session.Open(t.Context(), cli, &session.Options{TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	term := elected(t, s, name, "first")
	next := campaigning(t, open(t, etcdtest.Client(t)), name, "second", 2)
	calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Times: -1})
	calls.Inject(etcdtest.Fault{Call: etcdtest.KeepAliveSend, Silent: true, Times: -1})
	done := make(chan error, 1)
	go func() { done <- term.TransferTo(t.Context(), "second") }()
	if err := etcdtest.Receive(t, soon, "TransferTo", done); !errors.Is(err, fence.ErrLost) {
		t.Errorf("TransferTo: %v, want fence.ErrLost", err)
	}
	if err := term.Resign(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Errorf("Resign: %v, want fence.ErrLost", err)
	}
	resign(t, etcdtest.Receive(t, soon, "the next one", next))
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who wants to hand over does not want to lead again, whatever becomes of it.
func TestRunDoesNotTakeUpAgainWhatLeadHasGivenUp(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	led := 0
	opts := &election.Options{Session: &session.Options{TTL: 2 * time.Second}}
	err := election.Run(t.Context(), cli, name, "me", opts, func(ctx context.Context, term *election.Term) error {
		if led++; led > 1 {
			return nil
		}
		campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
		calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Times: -1})
		calls.Inject(etcdtest.Fault{Call: etcdtest.KeepAliveSend, Silent: true, Times: -1})
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		at := time.Now()
		if err := term.TransferTo(ctx, "next"); !errors.Is(err, context.DeadlineExceeded) || time.Since(at) > promptly {
			t.Errorf("TransferTo: %v after %v", err, time.Since(at))
		}
		return errWork
	})
	if led != 1 || !errors.Is(err, errWork) || !errors.Is(err, fence.ErrLost) {
		t.Errorf("led %d times; Run: %v, want the work's error and the loss", led, err)
	}
}

// lead's own context ends with the term, and so by the very call that it is passed to.
func TestLeadMayGiveItsTermUpUnderItsOwnContextHoweverSlowEtcdIs(t *testing.T) {
	t.Parallel()
	for what, give := range map[string]func(context.Context, *election.Term) error{
		"transfer":    func(ctx context.Context, term *election.Term) error { return term.TransferTo(ctx, "next") },
		"resignation": func(ctx context.Context, term *election.Term) error { return term.Resign(ctx) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, calls := counted(t)
			name := etcdtest.Prefix(t) + "name"
			err := election.Run(t.Context(), cli, name, "me", nil, func(ctx context.Context, term *election.Term) error {
				next := campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
				_, held := holds(calls, true, nil)
				answer := sync.OnceFunc(func() { close(held) })
				defer answer()
				given := make(chan error, 1)
				go func() { given <- give(ctx, term) }()
				etcdtest.Receive(t, soon, "the next one", next)
				etcdtest.Done(t, promptly, "telling the work", ctx.Done())
				etcdtest.Nothing(t, 300*time.Millisecond, "an answer", given)
				answer()
				return etcdtest.Receive(t, soon, "an answer", given)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// And what ends it otherwise bounds the call as ever.
func TestATransferUnderLeadsContextEndsSoonAfterThat(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := election.Run(ctx, cli, name, "me", nil, func(ctx context.Context, term *election.Term) error {
		campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
		stuck := calls.Inject(etcdtest.Fault{Call: "Range", Silent: true, Times: -1})
		given := make(chan error, 1)
		go func() { given <- term.TransferTo(ctx, "next") }()
		etcdtest.Done(t, soon, "reading", stuck.Hit())
		cancel(enough)
		err := etcdtest.Receive(t, promptly, "TransferTo", given)
		stuck.Remove()
		return err
	})
	if !errors.Is(err, enough) {
		t.Errorf("%v, want the cause", err)
	}
}
