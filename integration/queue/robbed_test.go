package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// An acknowledgement is lost on its way, again and again; meanwhile the claim is deleted by hand, and another worker does the job. That the
// job is gone then does not mean that it was this acknowledgement that deleted it.
func TestAnAckWithoutAnswerIsNotTakenForAppliedWhenAnotherHasDoneTheJob(t *testing.T) {
	t.Parallel()
	for what, ops := range map[string]int{"alone": 0, "with an operation": 1} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
			var calls etcdtest.Calls
			one := queue.New[string](etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), name, nil)
			push(t, one, "job", nil)
			effects := []clientv3.Op{clientv3.OpPut(name+"-late", "")}[:ops]
			let, first, result := make(chan struct{}), make(chan *queue.Delivery[string], 1), make(chan error, 1)
			workBeside(t, one, nil, func(_ context.Context, d *queue.Delivery[string]) error {
				first <- d
				result <- d.Ack(t.Context(), effects...)
				return nil
			})
			ack := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Hold: let, Match: func(message any) bool {
				r, ok := message.(*pb.TxnRequest)
				return ok && slices.ContainsFunc(r.Success, func(op *pb.RequestOp) bool {
					return strings.HasPrefix(string(op.GetRequestDeleteRange().GetKey()), root(name)+"line/claims/")
				})
			}})
			d := etcdtest.Receive(t, soon, "the first delivery", first)
			etcdtest.Done(t, soon, "the acknowledgement", ack.Hit())
			if _, err := cli.Delete(t.Context(), d.Guard().Key); err != nil {
				t.Fatal(err)
			}
			again := make(chan string, 1)
			workBeside(t, queue.New[string](cli, name, nil), nil, func(_ context.Context, d *queue.Delivery[string]) error {
				again <- d.Item
				return nil
			})
			etcdtest.Receive(t, soon, "the job with another worker", again)
			emptied(t, cli, name)
			<-time.After(600 * time.Millisecond) // an attempt has ended without an answer
			close(let)
			if err := etcdtest.Receive(t, soon, "the answer", result); !errors.Is(err, fence.ErrLost) {
				t.Errorf("the acknowledgement returns %v, want fence.ErrLost", err)
			}
			if late, err := cli.Get(t.Context(), name+"-late"); err != nil || late.Count != 0 {
				t.Errorf("what came late was written: %v, %v", late, err)
			}
		})
	}
}
