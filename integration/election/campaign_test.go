package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// keyOf returns the key and the token by which a value stands.
func keyOf(t *testing.T, cli *clientv3.Client, name, value string) election.Leader {
	t.Helper()
	all, err := election.Candidates(t.Context(), cli, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Value == value {
			return c
		}
	}
	t.Fatalf("%s does not stand among %+v", value, all)
	panic("unreachable")
}

// Whoever waits is not in office yet: a key that a stranger deletes costs the place in line, and nothing else.
func TestAWaiterWhoseKeyIsDeletedStandsAgainBehindTheOthers(t *testing.T) {
	t.Parallel()
	for what, others := range map[string]int{"a short line": 1, "a long line": 10} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c, oracle, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
			first := elected(t, open(t, oracle), name, "first")
			var before []<-chan *election.Term
			for i := range others {
				before = append(before, campaigning(t, open(t, etcdtest.Client(t)), name, fmt.Sprint("before ", i), i+2))
			}
			me := campaigning(t, open(t, etcdtest.Client(t)), name, "me", others+2)
			behind := campaigning(t, open(t, etcdtest.Client(t)), name, "behind", others+3)
			at := keyOf(t, oracle, name, "me")
			for range 3 {
				c.Delete(at.Key)
				etcdtest.Eventually(t, soon, "standing again", func(ctx context.Context) error {
					all, err := election.Candidates(ctx, oracle, name)
					if err != nil {
						return err
					}
					last := all[len(all)-1]
					if len(all) != others+3 || last.Value != "me" || last.Token <= at.Token {
						return fmt.Errorf("the line is %+v", all)
					}
					at = last
					return nil
				})
			}
			resign(t, first)
			last := first.Guard().Token
			for _, next := range append(before, behind, me) {
				term := etcdtest.Receive(t, soon, "the next one", next)
				if term.Guard().Token <= last {
					t.Errorf("token %d follows %d", term.Guard().Token, last)
				}
				last = term.Guard().Token
				resign(t, term)
			}
			if last != at.Token {
				t.Errorf("led with token %d, want that of the last key, %d", last, at.Token)
			}
		})
	}
}

// Every call that it takes to stand again, cancelled while it is under way.
func TestACandidacyCancelledWhileItStandsAgainLeavesNothing(t *testing.T) {
	t.Parallel()
	for what, which := range map[string]func(txn *pb.TxnRequest) bool{
		"leaving":  func(txn *pb.TxnRequest) bool { return txn.Success[0].GetRequestDeleteRange() != nil },
		"entering": func(txn *pb.TxnRequest) bool { return txn.Success[0].GetRequestPut() != nil },
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after=%t", what, after), func(t *testing.T) {
				t.Parallel()
				oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
				first := elected(t, open(t, oracle), name, "first")
				cli, calls := counted(t)
				s := open(t, cli)
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error, 1)
				go func() {
					_, err := election.Campaign(ctx, s, name, "me")
					done <- err
				}()
				etcdtest.WaitKeys(t, soon, oracle, name+"/", 2)
				stuck := calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Times: -1, After: after, Match: func(m any) bool {
					txn, ok := m.(*pb.TxnRequest)
					return ok && which(txn)
				}})
				etcdtest.Shared(t).Delete(keyOf(t, oracle, name, "me").Key)
				etcdtest.Done(t, soon, "reaching the call", stuck.Hit())
				enough := errors.New("enough")
				cancel(enough)
				if err := etcdtest.Receive(t, promptly, "Campaign", done); !errors.Is(err, enough) {
					t.Errorf("cancelled: %v, want the cause", err)
				}
				stuck.Remove()
				etcdtest.WaitKeys(t, soon, oracle, name+"/", 1)
				if first.Context().Err() != nil {
					t.Errorf("the leader ended: %v", context.Cause(first.Context()))
				}
			})
		}
	}
}

// The key goes before the session knows that its lease has gone; there is nothing to stand again with.
func TestAWaiterWhoseLeaseIsRevokedIsToldSoAndNotThatItsKeyIsGone(t *testing.T) {
	t.Parallel()
	oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	elected(t, open(t, oracle), name, "first")
	cli, calls := counted(t)
	s := open(t, cli)
	renewals := calls.Inject(etcdtest.Fault{Call: etcdtest.KeepAliveSend, Silent: true, Times: -1})
	done := make(chan error, 1)
	go func() {
		_, err := election.Campaign(t.Context(), s, name, "me")
		done <- err
	}()
	etcdtest.WaitKeys(t, soon, oracle, name+"/", 2)
	etcdtest.Shared(t).Revoke(s.Lease())
	etcdtest.Done(t, soon, "asking for the lease", renewals.Hit())
	etcdtest.Nothing(t, 100*time.Millisecond, "Campaign, before the session is lost", done)
	renewals.Remove()
	if err := etcdtest.Receive(t, soon, "Campaign", done); !errors.Is(err, fence.ErrLost) || s.Context().Err() == nil {
		t.Errorf("%v, want the loss of the session (%v)", err, context.Cause(s.Context()))
	}
	etcdtest.WaitKeys(t, soon, oracle, name+"/", 1)
}

// What waits is of the past that is gone. Standing again would be standing in another one.
func TestAWaiterWhoseEtcdIsRestoredDoesNotStandAgain(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	s := open(t, c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}))
	name := etcdtest.Prefix(t) + "name"
	backup := c.Backup() // has the lease, but not the line
	elected(t, open(t, c.Client()), name, "first")
	done := make(chan error, 1)
	go func() {
		_, err := election.Campaign(t.Context(), s, name, "me")
		done <- err
	}()
	etcdtest.WaitKeys(t, soon, c.Client(), name+"/", 2)
	calls.Inject(etcdtest.Fault{Call: etcdtest.KeepAliveSend, Silent: true, Times: -1}) // the session does not learn of it
	c.Restore(backup)
	if err := etcdtest.Receive(t, soon, "Campaign", done); !errors.Is(err, fence.ErrLost) || s.Context().Err() != nil {
		t.Errorf("%v, want fence.ErrLost; the session has ended: %v", err, context.Cause(s.Context()))
	}
	etcdtest.WaitKeys(t, soon, c.Client(), name+"/", 0)
}
