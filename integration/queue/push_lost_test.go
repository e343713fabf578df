package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestAPushWhoseReplyIsLostIsWrittenOnce(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for _, how := range []etcdtest.Fault{{}, {Silent: true}, {Err: rpctypes.ErrGRPCTimeout}} {
			for name, opts := range map[string]*queue.PushOptions{
				"plain": nil, "delayed": {Delay: time.Hour, Key: "k"}, "with an ID": {ID: "mine"},
			} {
				t.Run(fmt.Sprintf("%s/after=%t/silent=%t/err=%t", name, after, how.Silent, how.Err != nil), func(t *testing.T) {
					t.Parallel()
					q, calls, cli := pushQueue(t, nil)
					lost := how
					lost.Call, lost.After, lost.Times = "Txn", after, 2
					calls.Inject(lost)
					id, err := q.Push(t.Context(), "item", opts)
					if err != nil {
						t.Fatal(err)
					}
					if n := calls.Count("Txn"); n != 3 {
						t.Errorf("%d transactions, want 3", n)
					}
					if opts != nil && opts.ID != "" && id != opts.ID {
						t.Errorf("ID %q", id)
					}
					if jobs := pushedJobs(t, cli, q.Name()); len(jobs) != 1 || jobs[0].version != 1 {
						t.Errorf("%+v", jobs)
					}
				})
			}
		}
	}
}

func TestAPushManyWhoseRepliesAreLostIsWrittenOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%t", after), func(t *testing.T) {
			t.Parallel()
			q, calls, cli := pushQueue(t, nil)
			items := pushItems(500)
			for _, nth := range []int{0, 2, 5} {
				calls.Inject(etcdtest.Fault{Call: "Txn", Skip: nth, After: after})
			}
			ids, err := q.PushMany(t.Context(), items, nil)
			if err != nil {
				t.Fatal(err)
			}
			pushedInOrder(t, cli, q.Name(), ids, items)
		})
	}
}

// A copy that was held up on its way comes when the job has been delivered, and put back with its attempts.
func TestALateCopyOfAPushDoesNotTouchTheJob(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	var (
		mu   sync.Mutex
		late *etcdserverpb.TxnRequest
	)
	calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Match: func(m any) bool {
		mu.Lock()
		defer mu.Unlock()
		late = m.(*etcdserverpb.TxnRequest)
		return true
	}})
	ids, err := q.PushMany(t.Context(), []string{"a", "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jobs := pushedJobs(t, cli, q.Name())
	if len(jobs) != 2 {
		t.Fatalf("%+v", jobs)
	}
	// The first one is done, the second one was put back.
	if _, err := cli.Delete(t.Context(), jobs[0].key); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(t.Context(), jobs[1].key, "{\"n\":1}\n\"b\""); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if _, err := etcdserverpb.NewKVClient(cli.ActiveConnection()).Txn(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	left := pushedJobs(t, cli, q.Name())
	if len(left) != 1 || left[0].header["n"] != 1.0 || left[0].key != jobs[1].key {
		t.Errorf("IDs %q, left %+v", ids, left)
	}
}

func TestAPushThatIsNeverAnsweredSaysThatTheJobIsPerhapsThere(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Times: -1})
	_, err := q.Push(t.Context(), "item", nil)
	var failed *queue.PushError
	if !errors.As(err, &failed) || failed.Written != 0 || failed.Unknown != 1 {
		t.Fatalf("%v", err)
	}
	if n := len(pushedJobs(t, cli, q.Name())); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

func TestAPushManyThatFailsInTheMiddleSaysWhatWasWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		fault            etcdtest.Fault
		is               error
		written, unknown int
		there            int
	}{
		{"refused", etcdtest.Fault{Skip: 2, Err: rpctypes.ErrGRPCPermissionDenied}, rpctypes.ErrPermissionDenied, 254, 0, 254},
		{"refused first", etcdtest.Fault{Err: rpctypes.ErrGRPCPermissionDenied}, rpctypes.ErrPermissionDenied, 0, 0, 0},
		{"full, perhaps after the write", etcdtest.Fault{Skip: 2, After: true, Err: rpctypes.ErrGRPCNoSpace}, rpctypes.ErrNoSpace, 254, 127, 381},
		{"never answered", etcdtest.Fault{Skip: 3, After: true, Times: -1}, nil, 381, 119, 500},
		{"never sent", etcdtest.Fault{Skip: 3, Times: -1}, nil, 381, 119, 381},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, calls, cli := pushQueue(t, nil)
			c.fault.Call = "Txn"
			calls.Inject(c.fault)
			items := pushItems(500)
			ids, err := q.PushMany(t.Context(), items, nil)
			var failed *queue.PushError
			if !errors.As(err, &failed) || failed.Written != c.written || failed.Unknown != c.unknown || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("%#v: %v", failed, err)
			}
			if len(ids) != c.written {
				t.Errorf("%d IDs", len(ids))
			}
			jobs := pushedJobs(t, cli, q.Name())
			if len(jobs) != c.there {
				t.Errorf("%d jobs, want %d", len(jobs), c.there)
			}
			for i, id := range ids {
				if jobs[i].place != "100/"+id {
					t.Fatalf("job %d is %q, not %q", i, jobs[i].place, id)
				}
			}
		})
	}
}

// Refused after an answer was lost is not refused.
func TestARefusalAfterALostAnswerLeavesItOpen(t *testing.T) {
	t.Parallel()
	q, calls, _ := pushQueue(t, nil)
	calls.Inject(etcdtest.Fault{Call: "Txn", After: true})
	calls.Inject(etcdtest.Fault{Call: "Txn", Err: rpctypes.ErrGRPCPermissionDenied})
	_, err := q.Push(t.Context(), "item", nil)
	var failed *queue.PushError
	if !errors.As(err, &failed) || failed.Unknown != 1 || !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("%v", err)
	}
}

func TestKnownIDsDoNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	if _, err := q.Push(t.Context(), "first", &queue.PushOptions{ID: "known"}); err != nil {
		t.Fatal(err)
	}
	jobs := make([]queue.Job[string], 300)
	var want []string
	for i, item := range pushItems(len(jobs)) {
		jobs[i].Item = item
		switch {
		case i == 150:
			jobs[i].ID = "known"
			continue
		case i%3 == 0:
			jobs[i].ID = fmt.Sprintf("job/%d", i)
		}
		want = append(want, item)
	}
	calls.Inject(etcdtest.Fault{Call: "Txn", Skip: 1, After: true})
	ids, err := q.PushJobs(t.Context(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(jobs) || ids[150] != "known" || ids[3] != "job/3" || ids[1] == "" {
		t.Errorf("%q", ids)
	}
	there := pushedJobs(t, cli, q.Name())
	if !slices.EqualFunc(there[1:], want, func(j pushed, item string) bool { return j.item == `"`+item+`"` && j.version == 1 }) || there[0].item != `"first"` {
		t.Errorf("%d jobs, want %d", len(there), len(want)+1)
	}
	if n := calls.Count("LeaseGrant"); n != 2 { // and one for slots
		t.Errorf("%d leases", n)
	}
}
