package queue_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// collect has n jobs delivered to one worker, one after the other, and returns them in the order of delivery.
func collect[T any](t *testing.T, q *queue.Queue[T], n int) []T {
	t.Helper()
	items := make(chan T, n)
	stop := workBeside(t, q, &queue.WorkOptions{Prefetch: -1}, func(_ context.Context, d *queue.Delivery[T]) error {
		items <- d.Item
		return nil
	})
	var got []T
	for range n {
		got = append(got, etcdtest.Receive(t, soon, "a job", items))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	return got
}

func TestJobsAreDeliveredByPriorityThenInTheOrderOfTheirPushes(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	for i := range 40 {
		push(t, q, i, &queue.PushOptions{Priority: []int{0, -99, 7, 99}[i%4]})
	}
	got := collect(t, q, 40)
	var want []int
	for _, class := range []int{3, 2, 0, 1} {
		for i := class; i < 40; i += 4 {
			want = append(want, i)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
}

func TestAHigherPriorityIsClaimedFirstThoughALineWaits(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	for range 100 {
		push(t, q, "low", nil)
	}
	items, goOn := make(chan string, 200), make(chan struct{}, 200)
	workBeside(t, q, &queue.WorkOptions{Prefetch: -1}, func(_ context.Context, d *queue.Delivery[string]) error {
		items <- d.Item
		<-goOn
		return nil
	})
	etcdtest.Receive(t, soon, "the first", items)
	push(t, q, "high", &queue.PushOptions{Priority: 1})
	<-time.After(100 * time.Millisecond) // less than the second that is promised
	goOn <- struct{}{}
	if next := etcdtest.Receive(t, soon, "the second", items); next != "high" {
		t.Errorf("a %s job was claimed before the high one", next)
	}
	for range 100 {
		goOn <- struct{}{}
	}
	emptied(t, cli, name)
}

func TestADelayedJobWaitsForItsTimeAndNoLonger(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	const delay = 500 * time.Millisecond
	start := time.Now()
	push(t, q, "later", &queue.PushOptions{Delay: delay})
	push(t, q, "much later", &queue.PushOptions{Delay: time.Hour})
	push(t, q, "now", nil)
	items := make(chan string, 3)
	stop := workBeside(t, q, nil, func(_ context.Context, d *queue.Delivery[string]) error {
		items <- d.Item
		return nil
	})
	if first := etcdtest.Receive(t, soon, "the first", items); first != "now" {
		t.Errorf("first came %q", first)
	}
	if second := etcdtest.Receive(t, soon, "the second", items); second != "later" {
		t.Errorf("then came %q", second)
	}
	if took := time.Since(start); took < delay || took > delay+2*time.Second {
		t.Errorf("a job with a delay of %v came after %v", delay, took)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", 1)
}

func TestOneJobOfAKeyIsInFlightAtATimeInTheirOrder(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	const keys, each = 5, 20
	for i := range keys * each {
		push(t, q, i, &queue.PushOptions{Key: fmt.Sprint("key ", i%keys)})
	}
	var mu sync.Mutex
	flying, order := map[string]bool{}, map[string][]int{}
	for range 3 {
		q := queue.New[int](etcdtest.Client(t), name, nil)
		workBeside(t, q, &queue.WorkOptions{Concurrency: 8}, func(_ context.Context, d *queue.Delivery[int]) error {
			mu.Lock()
			if flying[d.Key] {
				t.Errorf("two jobs of %q are in flight", d.Key)
			}
			flying[d.Key] = true
			order[d.Key] = append(order[d.Key], d.Item)
			mu.Unlock()
			<-time.After(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			flying[d.Key] = false
			return nil
		})
	}
	emptied(t, cli, name)
	mu.Lock()
	defer mu.Unlock()
	for key, got := range order {
		if len(got) != each || !slices.IsSorted(got) {
			t.Errorf("the jobs of %q came as %v", key, got)
		}
	}
	if len(order) != keys {
		t.Errorf("%d keys of %d", len(order), keys)
	}
}

// A claim and the hold of its ordering key come and go together, unless somebody deletes one by hand.
func TestAnOrderingKeyWhoseClaimWasDeletedByAStrangerIsFreeAgain(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "a", &queue.PushOptions{Key: "k"})
	deliveries := make(chan *queue.Delivery[string], 4)
	workBeside(t, q, nil, func(_ context.Context, d *queue.Delivery[string]) error {
		deliveries <- d
		return nil
	})
	etcdtest.Receive(t, soon, "the first", deliveries)
	emptied(t, cli, name)
	hold := sha256.Sum256([]byte("k"))
	if _, err := cli.Put(t.Context(), fmt.Sprintf("%skeys/%x", root(name), hold[:8]), "100/660d3f518476a-19f3kqkj"); err != nil {
		t.Fatal(err)
	}
	push(t, q, "b", &queue.PushOptions{Key: "k"})
	if d := etcdtest.Receive(t, soon, "the second", deliveries); d.Item != "b" {
		t.Errorf("%q was delivered", d.Item)
	}
	emptied(t, cli, name)
}
