package queue_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestAPushIsOneTransactionOfTheJobAndASlot(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, nil)
	for n := range 3 {
		calls.Reset()
		id, err := q.Push(t.Context(), "item", nil)
		if err != nil {
			t.Fatal(err)
		}
		leases := 0
		if n == 0 {
			leases = 1
		}
		if calls.Count("Txn") != 1 || calls.Count("LeaseGrant") != leases || calls.Sent() != 1+leases {
			t.Errorf("push %d, calls: %v", n, calls.Counts())
		}
		all := pushGet(t, cli, queue.Root+q.Name()+"//", clientv3.WithPrefix()).Kvs
		if len(all) != n+2 {
			t.Fatalf("%d keys: %v", len(all), all)
		}
		job, slot := all[n], all[n+1]
		if string(job.Key) != queue.Root+q.Name()+"//"+"line/jobs/100/"+id || string(job.Value) != "\n\"item\"" {
			t.Errorf("%q = %q, ID %q", job.Key, job.Value, id)
		}
		_, producer, _ := strings.Cut(id, "-")
		if string(slot.Key) != queue.Root+q.Name()+"//pushed/"+producer+"-1" || string(slot.Value) != "100/"+id || slot.Lease == 0 {
			t.Errorf("%q = %q, lease %x", slot.Key, slot.Value, slot.Lease)
		}
	}
}

func TestAPushWritesWhatItsOptionsSay(t *testing.T) {
	t.Parallel()
	q, _, cli := pushQueue(t, nil)
	before := time.Now()
	id, err := q.Push(t.Context(), "item", &queue.PushOptions{ID: "a/b", Priority: 7, Delay: time.Hour, Key: "customer \"4\""})
	if err != nil || id != "a/b" {
		t.Fatal(id, err)
	}
	j := pushedJobs(t, cli, q.Name())[0]
	due := fmt.Sprintf("093/%013x", before.Add(time.Hour).UnixMicro())[:10]
	if !strings.HasPrefix(j.place, due) || !strings.Contains(j.place, "-d.") {
		t.Errorf("place %q, want one of %s, delayed, with a key", j.place, due)
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(j.header["at"]))
	if err != nil || at.Before(before.Truncate(time.Microsecond)) || at.After(time.Now()) {
		t.Errorf("pushed at %v, %v", at, err)
	}
	delete(j.header, "at")
	if !maps.Equal(j.header, map[string]any{"id": "a/b", "key": "customer \"4\""}) {
		t.Errorf("header %v", j.header)
	}
	for _, of := range []string{"ids/", "seen/"} {
		kvs := pushGet(t, cli, queue.Root+q.Name()+"//"+of+"a/b").Kvs
		if len(kvs) != 1 || string(kvs[0].Value) != j.place || (kvs[0].Lease != 0) != (of == "seen/") {
			t.Errorf("%s: %v", of, kvs)
		}
	}
}

func TestTheTraceGoesWithTheJob(t *testing.T) {
	t.Parallel()
	q, _, cli := pushQueue(t, nil)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{2}, TraceFlags: trace.FlagsSampled})
	if _, err := q.Push(trace.ContextWithSpanContext(t.Context(), span), "item", nil); err != nil {
		t.Fatal(err)
	}
	if got, want := pushedJobs(t, cli, q.Name())[0].header["trace"], "00-01000000000000000000000000000000-0200000000000000-01"; got != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// Two delays that end in one microsecond are as likely as any two pushes in one.
func TestDelaysThatEndTogetherAreTwoJobs(t *testing.T) {
	t.Parallel()
	q, _, cli := pushQueue(t, nil)
	jobs := make([]queue.Job[string], 20)
	for i := range jobs { // readings of the clock are consecutive, in microseconds
		jobs[i] = queue.Job[string]{Item: "item", PushOptions: queue.PushOptions{Delay: time.Hour - time.Duration(i)*time.Microsecond}}
	}
	ids, err := q.PushJobs(t.Context(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	different := map[string]bool{}
	for _, id := range ids {
		different[id] = true
	}
	if got := pushedJobs(t, cli, q.Name()); len(got) != len(jobs) || len(different) != len(jobs) {
		t.Errorf("%d jobs and %d IDs of %d pushes", len(got), len(different), len(jobs))
	}
}

func TestPushesAtOnceAreAllWritten(t *testing.T) {
	t.Parallel()
	q, _, cli := pushQueue(t, nil)
	const writers, pushes = 16, 20
	var (
		mu    sync.Mutex
		ids   = map[string]bool{}
		going sync.WaitGroup
	)
	for range writers {
		going.Go(func() {
			last := ""
			for range pushes {
				id, err := q.Push(t.Context(), "item", nil)
				if err != nil || id <= last {
					t.Errorf("%q after %q, %v", id, last, err)
				}
				last = id
				mu.Lock()
				ids[id] = true
				mu.Unlock()
			}
		})
	}
	going.Wait()
	if got := len(pushedJobs(t, cli, q.Name())); got != writers*pushes || len(ids) != got {
		t.Errorf("%d jobs, %d IDs", got, len(ids))
	}
}

func TestAFullDatabaseIsToldAtOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	q := queue.New[string](c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "full", nil)
	c.FillUp()
	for _, opts := range []*queue.PushOptions{nil, {ID: "a"}} {
		calls.Reset()
		_, err := q.Push(t.Context(), "item", opts)
		var failed *queue.PushError
		if !errors.Is(err, rpctypes.ErrNoSpace) || !errors.As(err, &failed) || failed.Written != 0 || !strings.Contains(err.Error(), `queue "full"`) {
			t.Errorf("%v", err)
		}
		if calls.Count("Txn") > 1 {
			t.Errorf("calls: %v", calls.Counts())
		}
	}
	c.FreeUp()
	if _, err := q.Push(t.Context(), "item", nil); err != nil {
		t.Error(err)
	}
}

func TestAnEtcdThatIsAwayIsNamed(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	q := queue.New[string](c.Client(), "away", &queue.Options[string]{})
	if _, err := q.Push(t.Context(), "item", nil); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	etcdtest.Returns(t, pushSoon, "Push", func() {
		_, err := q.Push(t.Context(), "item", nil)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(c.Endpoint(0), "http://")) || !strings.Contains(err.Error(), `queue "away"`) {
			t.Errorf("%v, want one that names %s", err, c.Endpoint(0))
		}
	})
}
