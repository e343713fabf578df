package owner_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// failures are what a client may see of a call: every code of gRPC but OK.
func failures() []error {
	var all []error
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		all = append(all, status.Error(c, "etcdtest: injected"))
	}
	return all
}

// faulty opens a session whose client's calls can be made to fail.
func faulty(t *testing.T) (*session.Session, *etcdtest.Calls) {
	t.Helper()
	var calls etcdtest.Calls
	return open(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), time.Minute), &calls
}

// Defects C4 and F24: a Lock whose reply was lost leaves a ghost holder behind that nobody can unlock.
func TestAnAcquisitionWhoseReplyIsLostHoldsOrLeavesNothing(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		s, calls := faulty(t)
		oracle, prefix := k.client(t), etcdtest.Prefix(t)
		for _, failure := range failures() {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s%v-%t", prefix, status.Code(failure), after)
				calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Err: failure})
				c := stand(t.Context(), k, s, name)
				etcdtest.Done(t, soon, "acquiring", c.done)
				if c.err != nil {
					t.Logf("%s: %v", name[len(prefix):], c.err)
					lineIsEmpty(t, oracle, name)
					continue
				}
				line := etcdtest.WaitKeys(t, soon, oracle, name+"/", 1)
				if g := c.owner.Guard(); string(line.Kvs[0].Key) != g.Key || line.Kvs[0].CreateRevision != int64(g.Token) {
					t.Errorf("%s: guard %v, but in line is %v", name[len(prefix):], g, line.Kvs[0])
				}
				if line.Kvs[0].Version != 1 {
					t.Errorf("%s: the key was put %d times", name[len(prefix):], line.Kvs[0].Version)
				}
				release(t, c.owner)
				lineIsEmpty(t, oracle, name)
			}
		}
	})
}

func TestAReleaseWhoseReplyIsLostIsResolved(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		s, calls := faulty(t)
		oracle, prefix := k.client(t), etcdtest.Prefix(t)
		for _, failure := range failures() {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s%v-%t", prefix, status.Code(failure), after)
				o := own(t, k, s, name)
				calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Err: failure})
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				err := o.Release(ctx)
				cancel()
				resp, getErr := oracle.Get(t.Context(), o.Guard().Key)
				if getErr != nil {
					t.Fatal(getErr)
				}
				switch code := status.Code(failure); {
				case after && (code == codes.Canceled || code == codes.DeadlineExceeded):
					// client/v3 repeats these two by itself and tells nobody: the repetition finds the key gone.
					if err != nil && !errors.Is(err, fence.ErrLost) {
						t.Errorf("%s: release says %v", name[len(prefix):], err)
					}
				case after && !retry.Idempotent(failure):
					// The error says that nothing was done, and no server that did something would say so.
					if !errors.Is(err, failure) || errors.Is(err, fence.ErrLost) {
						t.Errorf("%s: release says %v, want what the server said", name[len(prefix):], err)
					}
				case err == nil && resp.Count > 0, errors.Is(err, fence.ErrLost):
					t.Errorf("%s: release says %v, and of the key there is left: %v", name[len(prefix):], err, resp.Kvs)
				}
				// Whatever it said, the key does not stay: what etcd refuses is tried again.
				lineIsEmpty(t, oracle, name)
			}
		}
	})
}

// Every call that a contended acquisition makes, cancelled before it is sent, while it is under way, and after it was
// carried out.
func TestAnAcquisitionCancelledAtAnyCallLeavesNothing(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		oracle := k.client(t)
		for _, call := range []string{"Txn", etcdtest.WatchCreate, etcdtest.WatchResponse, "Range"} {
			for _, after := range []bool{false, true} {
				for _, silent := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s after=%t silent=%t", call, after, silent), func(t *testing.T) {
						t.Parallel()
						name := etcdtest.Prefix(t) + "name"
						o := own(t, k, open(t, oracle, time.Minute), name)
						s, calls := faulty(t)
						goOn := make(chan struct{})
						fault := calls.Inject(etcdtest.Fault{Call: call, After: after, Silent: silent, Hold: goOn, Match: notDelete})
						c := stand(t.Context(), k, s, name)
						etcdtest.Done(t, soon, "reaching the call", fault.Hit())
						c.cancel(errEnough)
						if err := c.fails(t, promptly); !errors.Is(err, errEnough) {
							t.Errorf("cancelled: %v, want the cause", err)
						}
						close(goOn)
						etcdtest.WaitKeys(t, soon, oracle, name+"/", 1)
						// And everything works again.
						again := standInLine(t, k, s, name, 2)
						release(t, o)
						release(t, again.owns(t, soon))
						lineIsEmpty(t, oracle, name)
					})
				}
			}
		}
	})
}

// notDelete selects anything but a transaction that deletes only.
func notDelete(message any) bool {
	txn, ok := message.(*pb.TxnRequest)
	return !ok || len(txn.Success) != 1 || txn.Success[0].GetRequestDeleteRange() == nil
}

// Who may not delete its key any more, as its role was changed, gives it back when it may again, though nobody waits for that.
func TestAReleaseThatIsRefusedIsMadeLater(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprintf("refused %d times", times), func(t *testing.T) {
				t.Parallel()
				name := etcdtest.Prefix(t) + "name"
				s, calls := faulty(t)
				o := own(t, k, s, name)
				next := standInLine(t, k, open(t, k.client(t), time.Minute), name, 2)
				calls.Inject(etcdtest.Fault{Call: "Txn", Times: times, Err: rpctypes.ErrGRPCPermissionDenied})
				if err := o.Release(t.Context()); !errors.Is(err, rpctypes.ErrPermissionDenied) {
					t.Errorf("refused: %v, want what etcd said", err)
				}
				if o.Context().Err() == nil {
					t.Error("it believes that it owns")
				}
				release(t, next.owns(t, soon))
				lineIsEmpty(t, k.client(t), name)
				if s.Context().Err() != nil {
					t.Error("the session has ended: of course the key is gone")
				}
			})
		}
	})
}

func TestAReleaseCancelledAtItsCallGoesOn(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("after=%t", after), func(t *testing.T) {
				t.Parallel()
				name := etcdtest.Prefix(t) + "name"
				s, calls := faulty(t)
				o := own(t, k, s, name)
				fault := calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Silent: true})
				ctx, cancel := context.WithCancelCause(t.Context())
				released := beside(func() error { return o.Release(ctx) })
				etcdtest.Done(t, soon, "reaching the call", fault.Hit())
				cancel(errEnough)
				// A second attempt may be answered yet.
				if err := released.within(t, promptly, "release"); err != nil && !errors.Is(err, errEnough) {
					t.Errorf("cancelled: %v, want the cause", err)
				}
				lineIsEmpty(t, k.client(t), name)
				release(t, o)
			})
		}
	})
}
