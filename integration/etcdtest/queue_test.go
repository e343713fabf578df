package etcdtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

func TestAQueueIsDrainedInTheOrderOfItsLine(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"jobs"
	q := queue.New[string](cli, name, nil)
	etcdtest.WaitQueueEmpty(t, soon, cli, name)
	ids, err := q.PushJobs(t.Context(), []queue.Job[string]{
		{Item: "third"},
		{Item: "fourth", PushOptions: queue.PushOptions{Delay: 300 * time.Millisecond}},
		{Item: "second", PushOptions: queue.PushOptions{Priority: 1}},
		{Item: "first", PushOptions: queue.PushOptions{Priority: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	said := failure(t, func(fake testing.TB) { etcdtest.WaitQueueEmpty(fake, 100*time.Millisecond, cli, name) })
	if !strings.Contains(said, ids[3]) {
		t.Errorf("%q does not name the first job %s", said, ids[3])
	}
	var got []string
	for _, d := range etcdtest.DrainQueue(t, soon, cli, q) {
		got = append(got, d.Item)
	}
	if want := "first second third fourth"; strings.Join(got, " ") != want {
		t.Errorf("drained %v, want %s", got, want)
	}
	etcdtest.WaitQueueEmpty(t, soon, cli, name)
	if again := etcdtest.DrainQueue(t, soon, cli, q); len(again) > 0 {
		t.Errorf("drained again: %v", again)
	}
}

func TestDeadLettersAreWaitedFor(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"jobs"
	q := queue.New[string](cli, name, nil)
	id, err := q.Push(t.Context(), "cannot be done", nil)
	if err != nil {
		t.Fatal(err)
	}
	failure(t, func(fake testing.TB) { etcdtest.WaitDeadLetters(fake, 100*time.Millisecond, cli, q, 1) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Work(ctx, nil, func(context.Context, *queue.Delivery[string]) error { return retry.Permanent(context.Canceled) })
	}()
	dead := etcdtest.WaitDeadLetters(t, soon, cli, q, 1)
	if len(dead) != 1 || dead[0].ID != id || dead[0].Item != "cannot be done" || dead[0].LastErr == "" {
		t.Errorf("dead letters: %+v", dead)
	}
	cancel()
	if err := etcdtest.Receive(t, soon, "the end of the worker", ended); err != nil {
		t.Error(err)
	}
}
