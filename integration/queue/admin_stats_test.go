package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestStatsCountEveryPriorityAtOneRevision(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	if s := w.stats(); s != (queue.Stats{}) {
		t.Errorf("an empty queue has %+v", s)
	}
	now := time.Now()
	claimed := w.job(5, now.Add(-3*time.Hour), "", "in flight")
	w.claim(claimed, "w1")
	w.job(5, now.Add(-2*time.Hour), "", "oldest")
	w.job(5, now.Add(time.Hour), "", "delayed")
	w.job(0, now.Add(-time.Minute), "", "waits")
	w.job(0, now.Add(time.Hour), "", "delayed")
	w.job(-99, now.Add(-time.Minute), "", "waits")
	w.job(99, now.Add(time.Hour), "", "delayed")
	w.put("line/workers/w1", "{}")
	w.put("line/workers/w2", "{}")
	w.put("dead/x", "\n")
	w.put("keys/k", "w1")
	w.put("ids/y", "")
	w.put("line/jobs/0zz/garbage", "") // nobody's
	w.put("line/jobs/garbage", "")
	for range 2 {
		s, err := w.q.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Oldest < 2*time.Hour-time.Second || s.Oldest > 2*time.Hour+time.Minute {
			t.Errorf("the oldest waits for %v", s.Oldest)
		}
		s.Oldest = 0
		if want := (queue.Stats{Waiting: 3, Delayed: 3, InFlight: 1, Dead: 1, Workers: 2}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	if n := calls.Count("Txn"); n > 9 || n < 2 {
		t.Errorf("%d transactions", n)
	}
}

// A queue whose priorities are known is counted in one transaction, and counts are shared for a second.
func TestStatsAreSharedAndCheapOnceThePrioritiesAreKnown(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	w.job(0, time.Now().Add(-time.Minute), "", "a")
	w.job(7, time.Now().Add(-time.Minute), "", "a")
	first := adminMust(w.q.Stats(t.Context()))(t)
	if n := calls.Count("Txn"); n != 3 {
		t.Errorf("the first count took %d transactions", n)
	}
	w.job(0, time.Now().Add(-time.Minute), "", "b")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if s, err := w.q.Stats(t.Context()); err != nil || s != first {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
	wg.Wait()
	if n := calls.Count("Txn"); n != 3 {
		t.Errorf("%d transactions for 21 answers", n)
	}
	etcdtest.Eventually(t, adminSoon, "the second is over", func(ctx context.Context) error {
		if s, err := w.q.Stats(ctx); err != nil || s.Waiting != 3 {
			return fmt.Errorf("%+v, %w", s, errors.Join(err, errors.New("as before")))
		}
		return nil
	})
	if n := calls.Count("Txn"); n != 4 {
		t.Errorf("the second count took %d transactions", n-3)
	}
	if err := w.q.Pause(t.Context(), "why"); err != nil {
		t.Fatal(err)
	}
	if s := adminMust(w.q.Stats(t.Context()))(t); !s.Paused || s.PauseReason != "why" || time.Since(s.PausedSince) > adminSoon {
		t.Errorf("after a pause of its own: %+v", s)
	}
}

// One who goes away while counting for others does not have them fail; a failure is everybody's.
func TestStatsOutliveWhoAskedFirst(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	w.job(0, time.Now().Add(-time.Minute), "", "a")
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: hold})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := w.q.Stats(ctx); first <- err }()
	<-held.Hit()
	second := make(chan error, 1)
	go func() {
		s, err := w.q.Stats(t.Context())
		if err == nil && s.Waiting != 1 {
			err = fmt.Errorf("%+v", s)
		}
		second <- err
	}()
	cancel()
	if err := etcdtest.Receive(t, adminSoon, "the end of the first", first); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(hold)
	if err := etcdtest.Receive(t, adminSoon, "the second answer", second); err != nil {
		t.Error(err)
	}
	w = adminQueue(t, client)
	refuse := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Err: status.Error(codes.PermissionDenied, "etcdserver: permission denied")})
	if _, err := w.q.Stats(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("queue %q: count: etcdserver: permission denied", w.name)) {
		t.Error(err)
	}
	refuse.Remove()
	if _, err := w.q.Stats(t.Context()); err != nil {
		t.Errorf("a failure is kept: %v", err)
	}
}

// The head of the line is in flight, more of it than one read sees.
func TestTheOldestIsFoundBehindManyInFlight(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	keys := map[string]string{}
	at := time.Now().Add(-time.Hour)
	for range 1500 {
		path := "100/" + w.stem(at)
		keys["line/jobs/"+path], keys["line/claims/"+path] = "\n", "w"
	}
	w.many(keys)
	if s := w.stats(); s != (queue.Stats{InFlight: 1500}) {
		t.Errorf("%+v", s)
	}
	w.job(0, time.Now().Add(-10*time.Minute), "", "a")
	if s := w.stats(); s.Waiting != 1 || s.Oldest < 599*time.Second || s.Oldest > 11*time.Minute {
		t.Errorf("%+v", s)
	}
}

func TestMorePrioritiesThanATransactionCanHold(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	keys := map[string]string{}
	for rank := 1; rank <= 199; rank++ {
		keys[fmt.Sprintf("line/jobs/%03d/%s", rank, w.stem(time.Now().Add(-time.Minute)))] = "\n"
	}
	w.many(keys)
	for range 2 {
		if s := adminMust(w.q.Stats(t.Context()))(t); s.Waiting != 199 || s.Delayed != 0 {
			t.Errorf("%+v", s)
		}
		if err := w.q.Resume(t.Context()); err != nil { // counts anew
			t.Fatal(err)
		}
	}
}

func TestQueuesAreThoseThatHaveKeys(t *testing.T) {
	t.Parallel()
	client := etcdtest.Shared(t).Dial(clientv3.Config{})
	etcdtest.Within(client, etcdtest.Prefix(t))
	if all, err := queue.Queues(t.Context(), client); err != nil || len(all) != 0 {
		t.Errorf("%q, %v", all, err)
	}
	names := []string{"/b", "/b/c", "a", "a-b", "a/-b", "a/b", "é"}
	for _, name := range names {
		for _, key := range []string{"line/jobs/100/x", "dead/a//b", "~"} {
			if _, err := client.Put(t.Context(), queue.Root+name+"//"+key, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, key := range []string{"", "stray", "a/stray", "a\x01//x", "/", "//"} {
		if _, err := client.Put(t.Context(), queue.Root+key, ""); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := queue.Queues(t.Context(), client); err != nil || !slices.Equal(all, names) {
		t.Errorf("%q, %v", all, err)
	}
}
