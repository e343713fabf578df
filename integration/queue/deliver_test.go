package queue_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// soon is the patience with what has no bound of its own; a busy machine may need it.
const soon = 10 * time.Second

// quick are waits that a test does not notice.
var quick = retry.Policy{Initial: 10 * time.Millisecond, Max: 20 * time.Millisecond}

// root is the prefix of a queue's keys.
func root(name string) string { return queue.Root + name + "//" }

// emptied waits until a queue holds no job and no claim.
func emptied(t *testing.T, cli *clientv3.Client, name string) {
	t.Helper()
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", 0)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 0)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"keys/", 0)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"ids/", 0)
}

func push[T any](t *testing.T, q *queue.Queue[T], item T, o *queue.PushOptions) string {
	t.Helper()
	id, err := q.Push(t.Context(), item, o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAnErrorHasTheJobDeliveredAgainUntilItIsADeadLetter(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New(cli, name, &queue.Options[string]{MaxAttempts: 3})
	id := push(t, q, "job", nil)
	attempts := make(chan string, 10)
	workBeside(t, q, &queue.WorkOptions{Backoff: quick}, func(_ context.Context, d *queue.Delivery[string]) error {
		attempts <- fmt.Sprintf("%s %s %d %q", d.ID, d.Item, d.Attempt, d.LastErr)
		return fmt.Errorf("failure %d", d.Attempt)
	})
	for i, want := range []string{`""`, `"failure 1"`, `"failure 2"`} {
		got := etcdtest.Receive(t, soon, "a delivery", attempts)
		if want := fmt.Sprintf("%s job %d %s", id, i+1, want); got != want {
			t.Errorf("delivery %s, want %s", got, want)
		}
	}
	etcdtest.WaitKey(t, soon, cli, root(name)+"dead/"+id)
	emptied(t, cli, name)
	etcdtest.Nothing(t, 100*time.Millisecond, "another delivery", attempts)
	dead, err := cli.Get(t.Context(), root(name)+"dead/"+id)
	if err != nil || len(dead.Kvs) != 1 || !strings.Contains(string(dead.Kvs[0].Value), "failure 3") {
		t.Errorf("the dead letter is %v, %v", dead, err)
	}
}

func TestWhatAHandlerReturnsDecides(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		handle func(d *queue.Delivery[string]) error
		dead   bool
		within time.Duration // of the second delivery; 0 if there is none
	}{
		"permanent": {func(*queue.Delivery[string]) error { return retry.Permanent(errors.New("never")) }, true, 0},
		"panic":     {func(*queue.Delivery[string]) error { panic("oh") }, false, soon},
		"after":     {func(*queue.Delivery[string]) error { return retry.After(0, errors.New("now")) }, false, time.Second},
		"nack":      {func(d *queue.Delivery[string]) error { return d.Nack(d.Context(), 0) }, false, time.Second},
		"nack and an error": {func(d *queue.Delivery[string]) error {
			return errors.Join(d.Nack(d.Context(), time.Millisecond), errors.New("and more"))
		}, false, time.Second},
		"ack and an error": {func(d *queue.Delivery[string]) error {
			return errors.Join(d.Ack(d.Context()), errors.New("of no matter"))
		}, false, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
			q := queue.New[string](cli, name, nil)
			id := push(t, q, "job", nil)
			deliveries := make(chan int, 10)
			workBeside(t, q, &queue.WorkOptions{Backoff: quick}, func(_ context.Context, d *queue.Delivery[string]) error {
				deliveries <- d.Attempt
				if d.Attempt > 1 {
					return nil
				}
				return c.handle(d)
			})
			if n := etcdtest.Receive(t, soon, "the delivery", deliveries); n != 1 {
				t.Errorf("the first attempt is number %d", n)
			}
			if c.within > 0 {
				if n := etcdtest.Receive(t, c.within, "the second delivery", deliveries); n != 2 {
					t.Errorf("the second attempt is number %d", n)
				}
			}
			emptied(t, cli, name)
			if c.dead {
				etcdtest.WaitKey(t, soon, cli, root(name)+"dead/"+id)
			} else {
				etcdtest.WaitKeys(t, soon, cli, root(name)+"dead/", 0)
			}
		})
	}
}

func TestAckDoesTheEffectOnceAndWithTheAcknowledgement(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	done := make(chan error, 4)
	workBeside(t, q, nil, func(ctx context.Context, d *queue.Delivery[string]) error {
		done <- d.Ack(ctx, clientv3.OpPut(name+"-effect", d.Item))
		done <- d.Ack(ctx, clientv3.OpPut(name+"-effect", "again"))
		done <- d.Nack(ctx, 0)
		if _, err := d.Guard().Commit(context.WithoutCancel(ctx), cli, clientv3.OpPut(name+"-late", "")); !errors.Is(err, fence.ErrLost) {
			done <- fmt.Errorf("a write after the acknowledgement: %w", err)
		}
		close(done)
		return nil
	})
	for range 3 {
		if err := etcdtest.Receive(t, soon, "an answer", done); err != nil {
			t.Errorf("acknowledging: %v", err)
		}
	}
	emptied(t, cli, name)
	got, err := cli.Get(t.Context(), name+"-effect")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "job" || got.Kvs[0].Version != 1 {
		t.Errorf("the effect is %v, %v", got, err)
	}
}

func TestAnAcknowledgementThatIsRefusedLeavesTheJobHeld(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	results := make(chan error, 2)
	workBeside(t, q, nil, func(ctx context.Context, d *queue.Delivery[string]) error {
		var many []clientv3.Op
		for i := range 200 {
			many = append(many, clientv3.OpPut(fmt.Sprint(name, "-", i), ""))
		}
		results <- d.Ack(ctx, many...)
		results <- d.Ack(ctx, many[0])
		return nil
	})
	if err := etcdtest.Receive(t, soon, "the refusal", results); err == nil || errors.Is(err, fence.ErrLost) {
		t.Errorf("200 operations: %v", err)
	}
	if err := etcdtest.Receive(t, soon, "the second try", results); err != nil {
		t.Errorf("one operation after that: %v", err)
	}
	emptied(t, cli, name)
}

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

func TestATimeoutEndsTheHandlersContext(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	causes := make(chan error, 2)
	workBeside(t, q, &queue.WorkOptions{Timeout: 50 * time.Millisecond, Backoff: quick}, func(ctx context.Context, d *queue.Delivery[string]) error {
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	})
	if cause := etcdtest.Receive(t, soon, "the end", causes); !errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("the cause is %v", cause)
	}
	emptied(t, cli, name)
}

func TestALostSessionEndsItsDeliveriesAndTheWorkGoesOn(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "job", nil)
	type delivery struct {
		*queue.Delivery[string]
		over chan error
	}
	deliveries := make(chan delivery, 4)
	workBeside(t, q, &queue.WorkOptions{Session: &session.Options{TTL: time.Minute}}, func(ctx context.Context, d *queue.Delivery[string]) error {
		it := delivery{d, make(chan error, 1)}
		deliveries <- it
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		it.over <- context.Cause(ctx)
		return nil // too late to count
	})
	first := etcdtest.Receive(t, soon, "the delivery", deliveries)
	workers, err := cli.Get(t.Context(), root(name)+"line/workers/", clientv3.WithPrefix())
	if err != nil || len(workers.Kvs) != 1 {
		t.Fatalf("workers: %v, %v", workers, err)
	}
	c.Revoke(clientv3.LeaseID(workers.Kvs[0].Lease))
	if cause := etcdtest.Receive(t, time.Second, "the end of the delivery", first.over); !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	for range 2 {
		if err := first.Ack(t.Context(), clientv3.OpPut(name+"-late", "")); !errors.Is(err, fence.ErrLost) {
			t.Errorf("a late acknowledgement: %v", err)
		}
	}
	second := etcdtest.Receive(t, soon, "the second delivery", deliveries)
	if second.Attempt != 2 || second.ID != first.ID || !strings.Contains(second.LastErr, "worker lost") {
		t.Errorf("the second delivery is attempt %d of %s after %q", second.Attempt, second.ID, second.LastErr)
	}
	if second.Guard().Token <= first.Guard().Token {
		t.Errorf("token %d follows %d", second.Guard().Token, first.Guard().Token)
	}
	if _, err := first.Guard().Commit(t.Context(), cli, clientv3.OpPut(name+"-late", "")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("a write under the first delivery's guard: %v", err)
	}
	emptied(t, cli, name)
	if late, err := cli.Get(t.Context(), name+"-late"); err != nil || late.Count != 0 {
		t.Errorf("what came late was written: %v, %v", late, err)
	}
}

func TestAClaimDeletedByAStrangerEndsItsDeliveryAlone(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[string](cli, name, nil)
	push(t, q, "a", nil)
	push(t, q, "b", nil)
	deliveries := make(chan *queue.Delivery[string], 4)
	goOn := make(chan struct{})
	workBeside(t, q, &queue.WorkOptions{Concurrency: 2}, func(ctx context.Context, d *queue.Delivery[string]) error {
		deliveries <- d
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-goOn:
			return nil
		}
	})
	a, b := etcdtest.Receive(t, soon, "one", deliveries), etcdtest.Receive(t, soon, "the other", deliveries)
	if _, err := cli.Delete(t.Context(), a.Guard().Key); err != nil {
		t.Fatal(err)
	}
	etcdtest.Returns(t, time.Second, "the loss", func() { <-a.Context().Done() })
	if cause := context.Cause(a.Context()); !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	again := etcdtest.Receive(t, soon, "the job again", deliveries)
	if again.ID != a.ID {
		t.Errorf("%s came again, want %s", again.ID, a.ID)
	}
	if b.Context().Err() != nil {
		t.Errorf("the other delivery has ended: %v", context.Cause(b.Context()))
	}
	close(goOn)
	emptied(t, cli, name)
}

func TestAWorkerThatStopsGivesBackWhatItHasNotBegun(t *testing.T) {
	t.Parallel()
	const quickly, all = 200, 230 // jobs that are done at once, so that it is worth to have some at hand
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	items := make([]int, all)
	for i := range items {
		items[i] = i
	}
	if _, err := q.PushMany(t.Context(), items, nil); err != nil {
		t.Fatal(err)
	}
	began, goOn := make(chan int, all), make(chan struct{})
	free := sync.OnceFunc(func() { close(goOn) })
	defer free()
	stop := workBeside(t, q, &queue.WorkOptions{Prefetch: 5}, func(_ context.Context, d *queue.Delivery[int]) error {
		if d.Item >= quickly {
			began <- d.Item
			<-goOn
		}
		return nil
	})
	if first := etcdtest.Receive(t, soon, "the first that takes long", began); first != quickly {
		t.Errorf("job %d came, want %d", first, quickly)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 6)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/workers/", 1) // it waits for its handler
	free()
	if err := etcdtest.Receive(t, soon, "the end of the work", stopped); err != nil {
		t.Errorf("Work returned %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", all-quickly-1-len(began))
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 0)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/workers/", 0)
	if got := collect(t, q, all-quickly-1); !slices.Equal(got, items[quickly+1:]) {
		t.Errorf("given back and delivered again: %v", got)
	}
}

func TestAHandlerThatDoesNotReturnIsToldAfterTheDrainTimeout(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"q"
	q := queue.New[int](cli, name, nil)
	push(t, q, 1, nil)
	began := make(chan struct{})
	stop := workBeside(t, q, &queue.WorkOptions{DrainTimeout: 50 * time.Millisecond}, func(ctx context.Context, _ *queue.Delivery[int]) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	etcdtest.Returns(t, soon, "the beginning", func() { <-began })
	if err := stop(); err != nil {
		t.Errorf("Work returned %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/jobs/", 1)
	etcdtest.WaitKeys(t, soon, cli, root(name)+"line/claims/", 0)
}

func TestBadArgumentsOfWorkAreNamed(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	nothing := func(context.Context, *queue.Delivery[int]) error { return nil }
	for want, do := range map[string]func() error{
		"empty":      func() error { return queue.New[int](cli, "", nil).Work(t.Context(), nil, nothing) },
		"no handler": func() error { return queue.New[int](cli, "q", nil).Work(t.Context(), nil, nil) },
		"Concurrency": func() error {
			return queue.New[int](cli, "q", nil).Work(t.Context(), &queue.WorkOptions{Concurrency: -1}, nothing)
		},
		"Prefetch": func() error {
			return queue.New[int](cli, "q", nil).Work(t.Context(), &queue.WorkOptions{Prefetch: 1001}, nothing)
		},
		"Timeout": func() error {
			return queue.New[int](cli, "q", nil).Work(t.Context(), &queue.WorkOptions{Timeout: -1}, nothing)
		},
		"Backoff": func() error {
			return queue.New[int](cli, "q", nil).Work(t.Context(), &queue.WorkOptions{Backoff: retry.Policy{Jitter: 2}}, nothing)
		},
		"TTL": func() error {
			return queue.New[int](cli, "q", nil).Work(t.Context(), &queue.WorkOptions{Session: &session.Options{TTL: 1}}, nothing)
		},
		"after -1s": func() error { return (&queue.Delivery[int]{}).Nack(t.Context(), -time.Second) },
		"MaxDepth": func() error {
			return queue.New(cli, "q", &queue.Options[int]{MaxDepth: -1}).Work(t.Context(), nil, nothing)
		},
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %q, got %v", want, err)
		}
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
