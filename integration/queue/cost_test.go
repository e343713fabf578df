package queue_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// costName is a queue of the test's own.
func costName(t *testing.T) string { return strings.TrimSuffix(etcdtest.Prefix(t), "/") }

// costKeys is the prefix of a queue's keys of one kind, of those that workers watch.
func costKeys(name, kind string) string { return queue.Root + name + "//" + "line/" + kind + "/" }

// costFill puts jobs from to to-1, whose items are these numbers, 128 at a time: as a producer would whose clock was so far off and went
// on by a microsecond a job.
func costFill(t *testing.T, cli *clientv3.Client, name string, from, to int, off time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	clock, mark := time.Now().Add(off).UnixMicro(), ""
	if off > 0 {
		mark = "-d"
	}
	for from < to {
		ops := make([]clientv3.Op, min(128, to-from))
		for i := range ops {
			key := fmt.Sprintf("%s100/%013x-cost0000%s", costKeys(name, "jobs"), clock+int64(i), mark)
			ops[i] = clientv3.OpPut(key, fmt.Sprintf("\n%d", from+i))
		}
		if _, err := cli.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		from, clock = from+len(ops), clock+int64(len(ops))
	}
}

// costWork runs a worker until the test ends, or the caller does.
func costWork(
	t *testing.T, cli *clientv3.Client, name string, opts *queue.WorkOptions, handle func(context.Context, *queue.Delivery[int]) error,
) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := queue.New[int](cli, name, nil).Work(ctx, opts, handle); ctx.Err() == nil {
			t.Errorf("the worker has ended: %v", err)
		}
	}()
	end = sync.OnceFunc(func() {
		cancel()
		etcdtest.Done(t, 10*time.Second, "the worker's end", ended)
	})
	t.Cleanup(end)
	return end
}

// costWorkers waits until so many workers are there.
func costWorkers(t *testing.T, cli *clientv3.Client, name string, n int) {
	t.Helper()
	etcdtest.WaitKeys(t, 10*time.Second, cli, costKeys(name, "workers"), n)
}

// costQuiet fails the test unless the worker asks etcd for nothing but what keeps its session and shows that its watch is alive. What it
// has begun with may take it a moment.
func costQuiet(t *testing.T, calls *etcdtest.Calls, during time.Duration) {
	t.Helper()
	etcdtest.Nothing(t, 1500*time.Millisecond, "settling", (<-chan struct{})(nil))
	calls.Quiet(t, during, etcdtest.KeepAliveSend, "LeaseKeepAlive", etcdtest.WatchProgress)
	if n := calls.Count(etcdtest.WatchProgress); n > 2+int((during+2*time.Second)/time.Second) {
		t.Errorf("%d questions whether the watch is alive in %v, want one a second", n, during)
	}
}

// A worker that has nothing to do asks for nothing, whatever there is that it cannot do: workers are many, and idle most of the time.
func TestAWorkerWithoutWorkMakesNoCalls(t *testing.T) {
	idle := func(context.Context, *queue.Delivery[int]) error { return nil }
	const during = 4 * time.Second
	dial := func(t *testing.T) (*clientv3.Client, *etcdtest.Calls) {
		calls := &etcdtest.Calls{}
		return etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), calls
	}
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		cli, calls := dial(t)
		name := costName(t)
		costWork(t, cli, name, nil, idle)
		costWorkers(t, etcdtest.Client(t), name, 1)
		costQuiet(t, calls, during)
	})
	t.Run("done", func(t *testing.T) {
		t.Parallel()
		cli, calls := dial(t)
		name, oracle := costName(t), etcdtest.Client(t)
		costFill(t, oracle, name, 0, 500, -time.Minute)
		costWork(t, cli, name, &queue.WorkOptions{Concurrency: 8}, idle)
		etcdtest.WaitKeys(t, 20*time.Second, oracle, costKeys(name, "jobs"), 0)
		costQuiet(t, calls, during)
	})
	t.Run("delayed", func(t *testing.T) {
		t.Parallel()
		cli, calls := dial(t)
		name, oracle := costName(t), etcdtest.Client(t)
		costFill(t, oracle, name, 0, 500, time.Hour)
		costWork(t, cli, name, nil, func(_ context.Context, d *queue.Delivery[int]) error {
			t.Errorf("job %d was delivered an hour too early", d.Item)
			return nil
		})
		costWorkers(t, oracle, name, 1)
		costQuiet(t, calls, during)
	})
	t.Run("claimed", func(t *testing.T) {
		t.Parallel()
		cli, calls := dial(t)
		name, oracle := costName(t), etcdtest.Client(t)
		const jobs = 100
		var busy atomic.Int64
		costFill(t, oracle, name, 0, jobs, -time.Minute)
		end := make(chan struct{})
		defer close(end)
		costWork(t, etcdtest.Client(t), name, &queue.WorkOptions{Concurrency: jobs, Prefetch: -1, DrainTimeout: time.Millisecond},
			func(ctx context.Context, _ *queue.Delivery[int]) error {
				busy.Add(1)
				select {
				case <-end:
				case <-ctx.Done():
				}
				return ctx.Err()
			})
		etcdtest.WaitKeys(t, 10*time.Second, oracle, costKeys(name, "claims"), jobs)
		costWork(t, cli, name, nil, func(_ context.Context, d *queue.Delivery[int]) error {
			if t.Context().Err() == nil { // or else the other has given it back, at the test's end
				t.Errorf("job %d was delivered while another has it", d.Item)
			}
			return nil
		})
		costWorkers(t, oracle, name, 2)
		costQuiet(t, calls, during)
		if n := busy.Load(); n != jobs {
			t.Errorf("%d of %d jobs are being handled", n, jobs)
		}
	})
}

// Claims and acknowledgements travel together: 640 jobs by 64 handlers are ten rounds of 64, and not 1,280 transactions.
func TestAJobCostsAFractionOfATransaction(t *testing.T) { // not beside other tests: on a busy machine they travel in smaller groups
	const rounds, handlers = 10, 64
	const jobs = rounds * handlers
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	name, oracle := costName(t), etcdtest.Client(t)
	costFill(t, oracle, name, 0, 2*handlers, -time.Minute) // to warm up with: the connection, the session, the window on the line

	var once [2*handlers + jobs]atomic.Int64
	handled := make(chan int, len(once))
	end := costWork(t, cli, name, &queue.WorkOptions{Concurrency: handlers}, func(_ context.Context, d *queue.Delivery[int]) error {
		once[d.Item].Add(1)
		handled <- d.Item
		return nil
	})
	none := func() { etcdtest.WaitKeys(t, 20*time.Second, oracle, costKeys(name, "jobs"), 0) }
	none()
	calls.Reset()
	costFill(t, oracle, name, 2*handlers, len(once), -time.Second)
	for range once {
		etcdtest.Receive(t, 20*time.Second, "a job", handled)
	}
	none()
	counts := calls.Counts()
	t.Logf("%d jobs cost %v", jobs, counts)
	end()
	for n := range once {
		if c := once[n].Load(); c != 1 {
			t.Errorf("job %d was delivered %d times", n, c)
		}
	}
	// The least is a claim and an acknowledgement a round.
	if n := counts["Txn"]; n >= 6*rounds {
		t.Errorf("%d jobs by %d handlers cost %d transactions, want less than %d", jobs, handlers, n, 6*rounds)
	}
	if n := counts["Range"]; n > rounds {
		t.Errorf("%d jobs cost %d reads", jobs, n)
	}
	if n := counts["Put"] + counts["DeleteRange"]; n > 0 {
		t.Errorf("%d jobs cost %d single writes", jobs, n)
	}
}
