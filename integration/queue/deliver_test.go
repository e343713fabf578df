package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
