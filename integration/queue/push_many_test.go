package queue_test

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestPushManyKeepsTheOrderOfItsItems(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	items := pushItems(1000)
	ids, err := q.PushMany(t.Context(), items[:900], nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := calls.Sent(); n != 9 || calls.Count("LeaseGrant") != 1 {
		t.Errorf("%d calls for 900 jobs, want 9, one of them for a lease: %v", n, calls.Counts())
	}
	for _, item := range items[900:] {
		id, err := q.Push(t.Context(), item, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	pushedInOrder(t, cli, q.Name(), ids, items)
}

func TestNothingPushedIsNothingSent(t *testing.T) {
	t.Parallel()
	q, calls, _ := pushQueue(t, nil)
	if ids, err := q.PushMany(t.Context(), nil, nil); len(ids) > 0 || err != nil {
		t.Error(ids, err)
	}
	if ids, err := q.PushJobs(t.Context(), nil); len(ids) > 0 || err != nil {
		t.Error(ids, err)
	}
	if calls.Sent() != 0 {
		t.Errorf("%v", calls.Counts())
	}
}

// At the limits of etcd: 128 operations, which those on a level below share, and 1.5 MiB.
func TestBatchesFitIntoWhatEtcdTakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\"", 255)
	for _, c := range []struct {
		size, jobs   int
		id           bool
		transactions int
	}{
		{1, 127, false, 1},
		{1, 128, false, 2},
		{1, 124, true, 1},
		{1, 125, true, 2},
		{100 << 10, 40, false, 3},
		{100 << 10, 40, true, 3},
		{queue.MaxItem, 3, false, 3},
		{queue.MaxItem, 2, true, 2},
		{(3<<19 - 4<<10) / 128, 128, false, 2},
		{3<<18 - 200, 2, false, 2}, // with their keys a little more than etcd takes
	} {
		t.Run(fmt.Sprintf("size=%d/jobs=%d/id=%t", c.size, c.jobs, c.id), func(t *testing.T) {
			t.Parallel()
			_, calls, cli := pushQueue(t, nil)
			q := queue.New(cli, strings.Repeat("n", 256)+pushName(t), &queue.Options[string]{Codec: pushText{}})
			jobs := make([]queue.Job[string], c.jobs)
			for i := range jobs {
				jobs[i].Item = strings.Repeat(string(rune('a'+i%26)), c.size)
				if c.id { // and the longest that goes with an item
					jobs[i].Key, jobs[i].ID, jobs[i].Delay = long+"k", fmt.Sprintf("%s%04d", long[:252], i), 1
				}
			}
			if _, err := q.PushJobs(t.Context(), jobs); err != nil {
				t.Fatal(err)
			}
			if n := calls.Count("Txn"); n != c.transactions {
				t.Errorf("%d transactions, want %d", n, c.transactions)
			}
			there := pushedJobs(t, cli, q.Name())
			if len(there) != len(jobs) {
				t.Fatalf("%d jobs, want %d", len(there), len(jobs))
			}
			for i, j := range there {
				if j.item != jobs[i].Item || i > 0 && j.created < there[i-1].created {
					t.Fatalf("job %d", i)
				}
			}
		})
	}
}

func TestPushOpGoesWithTheCallersOwn(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	calls.Reset()
	plain, cmps, err := q.PushOp("plain", &queue.PushOptions{Priority: 1})
	if err != nil || len(plain) != 1 || len(cmps) != 0 {
		t.Fatal(plain, cmps, err)
	}
	named, fresh, err := q.PushOp("named", &queue.PushOptions{ID: "a"})
	if err != nil || len(named) != 2 || len(fresh) != 2 {
		t.Fatal(named, fresh, err)
	}
	if calls.Sent() != 0 {
		t.Errorf("%v", calls.Counts())
	}
	mine := etcdtest.Prefix(t) + "mine"
	resp, err := cli.Txn(t.Context()).If(fresh...).Then(append(append(plain, named...), clientv3.OpPut(mine, ""))...).Commit()
	if err != nil || !resp.Succeeded {
		t.Fatal(resp, err)
	}
	jobs := pushedJobs(t, cli, q.Name())
	if len(jobs) != 2 || jobs[0].item != `"plain"` || jobs[1].item != `"named"` || jobs[0].created != jobs[1].created ||
		pushGet(t, cli, mine).Kvs[0].CreateRevision != jobs[0].created {
		t.Errorf("%+v", jobs)
	}
	// The ID is known now, to both ways.
	again, fresh, err := q.PushOp("again", &queue.PushOptions{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := cli.Txn(t.Context()).If(fresh...).Then(again...).Commit(); err != nil || resp.Succeeded {
		t.Error(resp, err)
	}
	if id, err := q.Push(t.Context(), "again", &queue.PushOptions{ID: "a"}); id != "a" || err != nil {
		t.Error(id, err)
	}
	// And no more when it is done, unless it was pushed the other way.
	pushDone(t, cli, q.Name())
	if _, err := q.Push(t.Context(), "anew", &queue.PushOptions{ID: "a"}); err != nil {
		t.Error(err)
	}
	if jobs := pushedJobs(t, cli, q.Name()); len(jobs) != 1 || jobs[0].item != `"anew"` {
		t.Errorf("%+v", jobs)
	}
	pushDone(t, cli, q.Name())
	if resp, err := cli.Txn(t.Context()).If(fresh...).Then(again...).Commit(); err != nil || resp.Succeeded {
		t.Error("a remembered ID was pushed", resp, err)
	}
}
