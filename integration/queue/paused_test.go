package queue_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// A worker that has not heard of the pause finds it in the transaction that claims.
func TestNothingIsClaimedAfterPauseHasReturnedAlsoByAWorkerThatHasNotHeardOfIt(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "q"
	var calls etcdtest.Calls
	deaf := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	q := queue.New[int](etcdtest.Client(t), name, nil)
	for i := range 3 {
		push(t, q, i, nil)
	}
	began, goOn := make(chan int, 3), make(chan struct{}, 3)
	workBeside(t, queue.New[int](deaf, name, nil), &queue.WorkOptions{Prefetch: -1}, func(_ context.Context, d *queue.Delivery[int]) error {
		began <- d.Item
		<-goOn
		return nil
	})
	defer close(goOn)
	etcdtest.Receive(t, soon, "the first", began)
	hear := make(chan struct{})
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Times: -1, Hold: hear})
	if err := q.Pause(t.Context(), "for a test"); err != nil {
		t.Fatal(err)
	}
	goOn <- struct{}{}
	etcdtest.Nothing(t, 300*time.Millisecond, "a job of a paused queue", began)
	if err := q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(hear)
	etcdtest.Receive(t, soon, "the second", began)
}
