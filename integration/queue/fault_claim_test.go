package queue_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// faultClaims reports whether a call claims: it puts a claim somewhere.
func faultClaims(message any) bool {
	txn, ok := message.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range txn.Success {
		if put := op.GetRequestPut(); put != nil && bytes.Contains(put.Key, []byte("/line/claims/")) {
			return true
		}
		if inner := op.GetRequestTxn(); inner != nil && faultClaims(inner) {
			return true
		}
	}
	return false
}

// What a worker has claimed shows in its watch before the answer is there. It is not given back while that may still come.
func TestAClaimWhoseAnswerIsLateIsNotGivenBack(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	var calls etcdtest.Calls
	late := make(chan struct{})
	armed := calls.Inject(etcdtest.Fault{Call: "Txn", Match: faultClaims, After: true, Hold: late})
	given := make(chan *queue.Delivery[stormItem], 10)
	w.work(w.c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), 1, faultTTL, func(ctx context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error {
		given <- d
		return w.done(ctx, d, r)
	})
	w.push(w.queue(w.c.Client()), 1)
	etcdtest.Done(t, faultSoon, "the claim", armed.Hit())
	claim := etcdtest.WaitKeys(t, faultSoon, w.c.Client(), w.root+"line/claims/", 1).Kvs[0]
	etcdtest.Nothing(t, 800*time.Millisecond, "a delivery before the answer", given)
	close(late)
	if d := etcdtest.Receive(t, faultSoon, "the delivery", given); int64(d.Guard().Token) != claim.CreateRevision {
		t.Errorf("token %d was delivered, and %d claimed first", d.Guard().Token, claim.CreateRevision)
	}
	w.empty()
	faultUndisturbed(t, w.judge())
}

// A claim is made, its answer is lost, and the history that would tell of it is compacted. The worker that has it in its name, and lives,
// gives it back.
func TestAClaimThatNoAnswerAndNoWatchTellsOfIsGivenBack(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	link := w.c.Link(0)
	w.work(link.Client(), 1, faultTTL, w.done)
	q := w.queue(w.c.Client())
	w.push(q, 1)
	w.empty()

	var calls etcdtest.Calls // of a second worker, whose claim is held up until it cannot be answered
	goOn := make(chan struct{})
	other := w.c.Link(0)
	armed := calls.Inject(etcdtest.Fault{Call: "Txn", Match: faultClaims, Hold: goOn})
	link.Cut() // the first leaves the job to it
	w.work(other.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), 1, faultTTL, w.done)
	w.push(q, 1)
	etcdtest.Done(t, faultSoon, "the claim", armed.Hit())
	other.Blackhole(etcdtest.Responses)
	close(goOn)
	etcdtest.WaitKeys(t, faultSoon, w.c.Client(), w.root+"line/claims/", 1)
	w.c.Compact(0)
	other.Drop()
	other.Heal()
	start := time.Now()
	w.empty()
	if took := time.Since(start); took > faultTTL-time.Second {
		t.Errorf("the job was done after %v, perhaps by the worker's end alone", took)
	}
	link.Heal()
	w.judge()
}
