package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// slotWorker works on a queue, by a client without faults, one job after the other, and returns the items that were delivered before one
// that is pushed last.
func slotWorker(t *testing.T, name string) (delivered func() []string) {
	t.Helper()
	var (
		q     = queue.New[string](etcdtest.Client(t), name, nil)
		items = make(chan string, 10_000)
		ended = make(chan error, 1)
	)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- q.Work(ctx, &queue.WorkOptions{Concurrency: 1}, func(_ context.Context, d *queue.Delivery[string]) error {
			items <- d.Item
			return nil
		})
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return func() (all []string) {
		if _, err := q.Push(t.Context(), "the last", &queue.PushOptions{Priority: -1}); err != nil {
			t.Fatal(err)
		}
		for {
			item := etcdtest.Receive(t, pushSoon, "a delivery", items)
			if item == "the last" {
				stop()
				return all
			}
			all = append(all, item)
		}
	}
}

// slotKeys are the slots of a queue.
func slotKeys(t *testing.T, cli *clientv3.Client, name string) (keys []string, leases []int64) {
	t.Helper()
	for _, kv := range pushGet(t, cli, queue.Root+name+"//pushed/", clientv3.WithPrefix()).Kvs {
		keys, leases = append(keys, string(kv.Key)), append(leases, kv.Lease)
	}
	return keys, leases
}

// slotPushes pushes n jobs that are done before the test goes on.
func slotPushes(t *testing.T, q *queue.Queue[string], n int) (items []string) {
	t.Helper()
	for i := range n {
		items = append(items, fmt.Sprint("before ", i))
		if _, err := q.Push(t.Context(), items[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	return items
}

// The first copy is applied and its job done before the repetition comes.
func TestALostReplyIsNoSecondDeliveryThoughTheJobIsDone(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 2} {
		for name, opts := range map[string]*queue.Options[string]{"plain": nil, "with an ID that is not remembered": {DedupFor: -1}} {
			t.Run(fmt.Sprintf("%s/before=%d", name, before), func(t *testing.T) {
				t.Parallel()
				q, calls, cli := pushQueue(t, opts)
				delivered := slotWorker(t, q.Name())
				want := slotPushes(t, q, before)
				done := make(chan struct{})
				lost := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Hold: done, Err: rpctypes.ErrGRPCTimeout})
				go func() {
					<-lost.Hit()
					etcdtest.WaitQueueEmpty(t, pushSoon, etcdtest.Client(t), q.Name())
					close(done)
				}()
				var jobs []queue.Job[string]
				for _, item := range []string{"a", "b", "c"} {
					jobs = append(jobs, queue.Job[string]{Item: item})
					want = append(want, item)
				}
				if opts != nil {
					jobs[1].ID = "mine"
				}
				if _, err := q.PushJobs(t.Context(), jobs); err != nil {
					t.Fatal(err)
				}
				<-done
				calls.Reset()
				want = append(want, "after")
				if _, err := q.Push(t.Context(), "after", nil); err != nil || calls.Sent() != 1 {
					t.Error(err, calls.Counts())
				}
				if got := delivered(); !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
				if keys, _ := slotKeys(t, cli, q.Name()); len(keys) != 2 { // and that of the last
					t.Errorf("%q", keys)
				}
			})
		}
	}
}

// slotCopy keeps the next transaction from being answered, or sent, and returns it.
func slotCopy(calls *etcdtest.Calls, f etcdtest.Fault) func() *etcdserverpb.TxnRequest {
	var copied atomic.Pointer[etcdserverpb.TxnRequest]
	f.Call, f.Match = "Txn", func(m any) bool {
		copied.Store(m.(*etcdserverpb.TxnRequest))
		return true
	}
	calls.Inject(f)
	return copied.Load
}

// slotLate sends a copy that was held up.
func slotLate(t *testing.T, cli *clientv3.Client, late *etcdserverpb.TxnRequest) (applied bool, err error) {
	t.Helper()
	resp, err := etcdserverpb.NewKVClient(cli.ActiveConnection()).Txn(t.Context(), late)
	return resp.GetSucceeded(), err
}

// The repetition is applied and its job done before the first copy comes.
func TestALateCopyIsNoSecondDeliveryThoughTheJobIsDone(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 2} {
		for _, when := range []string{"at once", "after another push", "after the lease"} {
			t.Run(fmt.Sprintf("before=%d/%s", before, when), func(t *testing.T) {
				t.Parallel()
				q, calls, cli := pushQueue(t, nil)
				delivered := slotWorker(t, q.Name())
				want := append(slotPushes(t, q, before), "a", "b")
				late := slotCopy(calls, etcdtest.Fault{Silent: true})
				if _, err := q.PushMany(t.Context(), want[before:], nil); err != nil {
					t.Fatal(err)
				}
				etcdtest.WaitQueueEmpty(t, pushSoon, cli, q.Name())
				switch when {
				case "after another push":
					want = append(want, "c")
					if _, err := q.Push(t.Context(), "c", nil); err != nil {
						t.Fatal(err)
					}
				case "after the lease":
					_, leases := slotKeys(t, cli, q.Name())
					if _, err := cli.Revoke(t.Context(), clientv3.LeaseID(leases[0])); err != nil {
						t.Fatal(err)
					}
				}
				if applied, err := slotLate(t, cli, late()); applied || err != nil && (before > 0 || when != "after the lease") {
					t.Errorf("the late copy: %t, %v", applied, err)
				}
				if got := delivered(); !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
			})
		}
	}
}

// Who gives up does not know, and may be followed by others; the copy that comes then is the first and the last.
func TestAPushThatWasGivenUpIsAppliedOnceAtTheMost(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 2} {
		t.Run(fmt.Sprint("before=", before), func(t *testing.T) {
			t.Parallel()
			q, calls, cli := pushQueue(t, nil)
			delivered := slotWorker(t, q.Name())
			want := slotPushes(t, q, before)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			late := slotCopy(calls, etcdtest.Fault{Silent: true})
			go func() {
				calls.WaitCount(t, pushSoon, "Txn", before+1)
				cancel()
			}()
			_, err := q.Push(ctx, "late", nil)
			if failed, ok := errors.AsType[*queue.PushError](err); !ok || failed.Unknown != 1 {
				t.Fatal(err)
			}
			want = append(want, slotPushes(t, q, 2)...)
			for n := range 2 {
				if n == 1 {
					etcdtest.WaitQueueEmpty(t, pushSoon, cli, q.Name())
				}
				if applied, err := slotLate(t, cli, late()); err != nil || applied != (n == 0) {
					t.Errorf("copy %d: %t, %v", n, applied, err)
				}
			}
			want = append(want, slotPushes(t, q, 1)...)
			got := delivered()
			slices.Sort(got)
			want = append(want, "late")
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("delivered %q, want %q", got, want)
			}
		})
	}
}

func TestALeaseThatIsRevokedUnderASlotIsReplaced(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	want := slotPushes(t, q, 3)
	for range 3 {
		_, leases := slotKeys(t, cli, q.Name())
		if _, err := cli.Revoke(t.Context(), clientv3.LeaseID(leases[0])); err != nil {
			t.Fatal(err)
		}
		calls.Reset()
		want = append(want, slotPushes(t, q, 2)...)
		if calls.Count("LeaseGrant") != 1 || calls.Count("Txn") != 3 {
			t.Errorf("%v", calls.Counts())
		}
	}
	if jobs := pushedJobs(t, cli, q.Name()); !slices.EqualFunc(jobs, want, func(j pushed, item string) bool { return j.item == `"`+item+`"` }) {
		t.Errorf("%+v, want %q", jobs, want)
	}
}

// With the lease goes what tells whether the copy was applied that was not answered.
func TestALeaseThatIsRevokedUnderALostReplyLeavesItOpen(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 2} {
		t.Run(fmt.Sprint("before=", before), func(t *testing.T) {
			t.Parallel()
			q, calls, cli := pushQueue(t, nil)
			delivered := slotWorker(t, q.Name())
			want := append(slotPushes(t, q, before), "open", "after")
			done := make(chan struct{})
			lost := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Hold: done, Err: rpctypes.ErrGRPCTimeout})
			go func() {
				defer close(done)
				<-lost.Hit()
				etcdtest.WaitQueueEmpty(t, pushSoon, etcdtest.Client(t), q.Name())
				_, leases := slotKeys(t, cli, q.Name())
				if _, err := cli.Revoke(t.Context(), clientv3.LeaseID(leases[0])); err != nil {
					t.Error(err)
				}
			}()
			_, err := q.Push(t.Context(), "open", nil)
			if failed, ok := errors.AsType[*queue.PushError](err); !ok || failed.Unknown != 1 {
				t.Error(err)
			}
			<-done
			if _, err := q.Push(t.Context(), "after", nil); err != nil {
				t.Error(err)
			}
			if got := delivered(); !slices.Equal(got, want) {
				t.Errorf("delivered %q, want %q", got, want)
			}
		})
	}
}

func TestPushesAtOnceHaveASlotEach(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	delivered := slotWorker(t, q.Name())
	const writers, pushes = 16, 20
	for n := range 20 { // every so often an answer is lost, or what it would have answered
		calls.Inject(etcdtest.Fault{Call: "Txn", Skip: 7 * n, After: n%2 == 0})
	}
	var going sync.WaitGroup
	for w := range writers {
		going.Go(func() {
			for n := range pushes {
				if _, err := q.Push(t.Context(), fmt.Sprint(w, "/", n), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	going.Wait()
	if n := calls.Count("LeaseGrant"); n != 1 {
		t.Errorf("%d leases", n)
	}
	if keys, _ := slotKeys(t, cli, q.Name()); len(keys) > writers {
		t.Errorf("%q", keys)
	}
	got := delivered()
	slices.Sort(got)
	if n := len(got); n != writers*pushes || len(slices.Compact(got)) != n {
		t.Errorf("%d deliveries of %d jobs", n, writers*pushes)
	}
}

// Connections are broken all the time, and workers on others are so fast that jobs are done when they are pushed again.
func TestAStormOfBrokenConnectionsDeliversWhatWasPushedOnce(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	links := w.c.Links()
	for range 2 {
		w.work(w.c.Client(), 4, faultTTL, w.done)
	}
	var stops []func() []error
	for range 4 {
		stops = append(stops, w.pushing(links.Client(), faultSoon))
	}
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for over := time.After(4 * time.Second); over != nil; {
		select {
		case <-every.C:
			links.Drop()
		case <-over:
			over = nil
		}
	}
	for _, stop := range stops {
		stop() // what fails then fails in doubt
	}
	w.empty()
	h := w.judge()
	accepted, doubted := 0, 0
	for _, p := range h.pushes {
		switch p.outcome {
		case modelAccepted:
			accepted++
		case modelUnknown:
			doubted++
		case modelRefused:
		}
	}
	if n := len(h.deliveries); n < accepted || n > accepted+doubted || accepted < 100 {
		t.Errorf("%d deliveries of %d jobs, and of %d perhaps", n, accepted, doubted)
	}
}

// What is left of an empty queue for some minutes does not make it one that is there.
func TestAQueueIsNotThereForItsSlots(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := queue.New[string](c.Client(), name, nil).Push(t.Context(), "item", nil); err != nil {
			t.Fatal(err)
		}
	}
	pushDone(t, c.Client(), "a")
	pushDone(t, c.Client(), "c")
	if _, err := c.Client().Put(t.Context(), queue.Root+"c//schedules/nightly", "{}"); err != nil {
		t.Fatal(err)
	}
	if found, err := queue.Queues(t.Context(), c.Client()); err != nil || !slices.Equal(found, []string{"b", "c"}) {
		t.Errorf("%q, %v", found, err)
	}
}
