package queue_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// pushNamed pushes an item under the ID "mine".
func pushNamed(t *testing.T, q *queue.Queue[string], item string) {
	t.Helper()
	if id, err := q.Push(t.Context(), item, &queue.PushOptions{ID: "mine"}); id != "mine" || err != nil {
		t.Fatal(id, err)
	}
}

// pushedItem fails the test unless the queue holds just the one item, or none if it is empty.
func pushedItem(t *testing.T, cli *clientv3.Client, name, item string) {
	t.Helper()
	jobs := pushedJobs(t, cli, name)
	if item == "" && len(jobs) > 0 || item != "" && (len(jobs) != 1 || jobs[0].item != `"`+item+`"` || jobs[0].version != 1) {
		t.Fatalf("%+v, want %q", jobs, item)
	}
}

func TestAnIDIsKnownInTheQueueAndForAWhileAfterItsPush(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, &queue.Options[string]{DedupFor: time.Second})
	began := time.Now()
	pushNamed(t, q, "first")
	answered := time.Now()
	pushNamed(t, q, "second")
	pushedItem(t, cli, q.Name(), "first")
	pushDone(t, cli, q.Name())
	pushNamed(t, q, "third")
	pushedItem(t, cli, q.Name(), "")

	// The window ends by itself, not before its time.
	seen := queue.Root + q.Name() + "//seen/mine"
	etcdtest.WaitGone(t, 30*time.Second, cli, seen)
	if d := time.Since(answered); d < time.Second {
		t.Errorf("forgotten after %v", d)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("forgotten after %v", d)
	}
	pushNamed(t, q, "fourth")
	pushedItem(t, cli, q.Name(), "fourth")
	if n := calls.Count("LeaseGrant"); n < 2 {
		t.Errorf("%d leases, though the first has expired", n)
	}
}

// In the queue an ID is known for ever.
func TestAnIDIsKnownInTheQueueWithoutItsMark(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, &queue.Options[string]{DedupFor: -1})
	pushNamed(t, q, "first")
	pushNamed(t, q, "second")
	pushedItem(t, cli, q.Name(), "first")
	if kvs := pushGet(t, cli, queue.Root+q.Name()+"//seen/mine").Kvs; len(kvs) > 0 || calls.Count("LeaseGrant") > 1 {
		t.Errorf("%v, calls %v", kvs, calls.Counts())
	}
	pushDone(t, cli, q.Name())
	pushNamed(t, q, "third")
	pushedItem(t, cli, q.Name(), "third")
}

func TestALeaseThatWasRevokedIsReplaced(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	pushNamed(t, q, "first")
	lease := pushGet(t, cli, queue.Root+q.Name()+"//seen/mine").Kvs[0].Lease
	if _, err := cli.Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	pushNamed(t, q, "second")                   // still in the queue: no mark is written, so no lease is missed
	if n := calls.Count("LeaseGrant"); n != 2 { // one of marks, one of slots
		t.Errorf("%d leases, want 2", n)
	}
	jobs := make([]queue.Job[string], 3)
	for i := range jobs {
		jobs[i].ID = fmt.Sprint("other/", i)
	}
	jobs[1].ID = ""
	ids, err := q.PushJobs(t.Context(), jobs)
	if err != nil || len(ids) != 3 {
		t.Fatal(ids, err)
	}
	if n := len(pushedJobs(t, cli, q.Name())); n != 4 || calls.Count("LeaseGrant") != 4 { // etcd does not say which was gone
		t.Errorf("%d jobs, calls %v", n, calls.Counts())
	}
	if kvs := pushGet(t, cli, queue.Root+q.Name()+"//seen/other/2").Kvs; len(kvs) != 1 || kvs[0].Lease == lease {
		t.Errorf("%v", kvs)
	}
}

func TestALeaseThatCannotBeHadIsTheErrorOfThePush(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	calls.Inject(etcdtest.Fault{Call: "LeaseGrant", Err: rpctypes.ErrGRPCPermissionDenied})
	_, err := q.Push(t.Context(), "item", &queue.PushOptions{ID: "mine"})
	var failed *queue.PushError
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || !errors.As(err, &failed) || failed.Unknown != 0 {
		t.Errorf("%v", err)
	}
	// And one that is always gone is not asked for without end.
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Err: rpctypes.ErrGRPCLeaseNotFound})
	_, err = q.Push(t.Context(), "item", &queue.PushOptions{ID: "mine"})
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) || !errors.As(err, &failed) || failed.Unknown != 0 {
		t.Errorf("%v", err)
	}
	if calls.Count("LeaseGrant") > 7 {
		t.Errorf("calls %v", calls.Counts())
	}
	pushedItem(t, cli, q.Name(), "")
}

func TestOfTwoProducersWithOneIDOneHasPushedIt(t *testing.T) {
	t.Parallel()
	a, _, cli := pushQueue(t, nil)
	b := queue.New[string](etcdtest.Client(t), a.Name(), nil)
	const ids = 100
	var going sync.WaitGroup
	for _, q := range []*queue.Queue[string]{a, b, a, b} {
		going.Go(func() {
			for i := range ids {
				if _, err := q.Push(t.Context(), "item", &queue.PushOptions{ID: fmt.Sprint("id/", i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	going.Wait()
	known := map[any]bool{}
	for _, j := range pushedJobs(t, cli, a.Name()) {
		if known[j.header["id"]] {
			t.Errorf("twice: %v", j.header["id"])
		}
		known[j.header["id"]] = true
		if kvs := pushGet(t, cli, fmt.Sprint(queue.Root, a.Name(), "//ids/", j.header["id"])).Kvs; len(kvs) != 1 || string(kvs[0].Value) != j.place {
			t.Errorf("%v: %v, want %s", j.header["id"], kvs, j.place)
		}
	}
	if len(known) != ids {
		t.Errorf("%d jobs, want %d", len(known), ids)
	}
}
