package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

// rbacAll is the prefix of all keys of a queue.
func rbacAll(name string) string { return queue.Root + name + "//" }

// rbacCounts waits until there are so many keys below a prefix.
func rbacCounts(ctx context.Context, root *clientv3.Client, prefix string, enough func(n int64) bool) error {
	for range root.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		resp, err := root.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if enough(resp.Count) {
			return nil
		}
	}
	return context.Cause(ctx)
}

// Jobs of all kinds without an ID, in several transactions.
func rbacPush(ctx context.Context, a rbacActors) error {
	q := queue.New[int](a.user, a.name, nil)
	for _, o := range []*queue.PushOptions{nil, {Priority: 5, Key: "k"}, {Delay: time.Hour}} {
		if _, err := q.Push(ctx, 1, o); err != nil {
			return err
		}
	}
	_, err := q.PushMany(ctx, make([]int, 300), nil)
	return err
}

// Jobs with IDs, some of them twice, and a queue with a bound.
func rbacPushIDs(ctx context.Context, a rbacActors) error {
	q := queue.New(a.user, a.name, &queue.Options[int]{MaxDepth: 1000})
	for _, id := range []string{"a", "b", "a"} {
		if _, err := q.Push(ctx, 1, &queue.PushOptions{ID: id}); err != nil {
			return err
		}
	}
	return rbacPush(ctx, a)
}

// A worker does jobs with and without ID and key, one again, and buries one.
func rbacWork(ctx context.Context, a rbacActors) error {
	pushes, works := queue.New[string](a.root, a.name, nil), queue.New(a.user, a.name, &queue.Options[string]{MaxAttempts: 2})
	_, err1 := pushes.Push(ctx, "done", nil)
	_, err2 := pushes.Push(ctx, "done", &queue.PushOptions{ID: "id", Key: "k"})
	_, err3 := pushes.Push(ctx, "done", &queue.PushOptions{Key: "k", Priority: 7})
	_, err4 := pushes.Push(ctx, "again", &queue.PushOptions{ID: "again", Key: "l"})
	_, err5 := pushes.Push(ctx, "buried", &queue.PushOptions{ID: "buried"})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	errDone := errors.New("all is done")
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		err := rbacCounts(ctx, a.root, rbacAll(a.name)+"line/jobs/", func(n int64) bool { return n == 0 })
		if err == nil {
			err = errDone
		}
		stop(err)
	}()
	err := works.Work(working, &queue.WorkOptions{Backoff: retry.Policy{Initial: 10 * time.Millisecond}, DrainTimeout: time.Second},
		func(ctx context.Context, d *queue.Delivery[string]) error {
			switch {
			case d.Item == "buried", d.Item == "again" && d.Attempt == 1:
				return errors.New("not now")
			}
			return nil
		})
	if cause := context.Cause(working); !errors.Is(cause, errDone) {
		return errors.Join(err, cause)
	}
	return rbacCounts(ctx, a.root, rbacAll(a.name)+"dead/", func(n int64) bool { return n == 1 })
}

// A job a second, of which the second is pushed as the first is done.
func rbacSchedule(ctx context.Context, a rbacActors) error {
	q := queue.New[string](a.user, a.name, nil)
	driving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- queue.Schedule(driving, q, "tick", "@every 1s", nil, func(time.Time) (string, *queue.PushOptions, error) { return "tick", nil, nil })
	}()
	jobs := rbacAll(a.name) + "line/jobs/"
	for range 2 {
		if err := rbacCounts(ctx, a.root, jobs, func(n int64) bool { return n > 0 }); err != nil {
			return err
		}
		if _, err := queue.New[string](a.root, a.name, nil).Purge(ctx); err != nil {
			return err
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// rbacFilled fills a queue with all there can be in one.
func rbacFilled(ctx context.Context, root *clientv3.Client, name string) error {
	q := queue.New[string](root, name, nil)
	_, err1 := q.Push(ctx, "x", &queue.PushOptions{ID: "a"})
	_, err2 := q.Push(ctx, "x", &queue.PushOptions{Delay: time.Hour, Key: "k"})
	_, err3 := root.Put(ctx, rbacAll(name)+"dead/d", `{"id":"d","n":3,"place":"100/0000000000001-aaaaaaaa"}`+"\n\"x\"")
	_, err4 := root.Put(ctx, rbacAll(name)+"dead/e", `{"id":"e","n":3,"place":"100/0000000000001-aaaaaaaa"}`+"\n\"x\"")
	_, err5 := root.Put(ctx, rbacAll(name)+"schedules/tick", `{"tick":"2026-05-06T00:30:00Z","cron":"@every 1h","zone":"UTC"}`)
	return errors.Join(err1, err2, err3, err4, err5)
}

// Who looks counts and lists.
func rbacLook(ctx context.Context, a rbacActors) error {
	if err := rbacFilled(ctx, a.root, a.name); err != nil {
		return err
	}
	q := queue.New[string](a.user, a.name, nil)
	_, err1 := q.Stats(ctx)
	_, err2 := q.Peek(ctx, 10)
	_, err3 := q.Dead(ctx, 10)
	_, err4 := q.Schedules(ctx)
	return errors.Join(err1, err2, err3, err4)
}

// Who administers does all of it.
func rbacAdmin(ctx context.Context, a rbacActors) error {
	if err := rbacLook(ctx, a); err != nil {
		return err
	}
	q := queue.New[string](a.user, a.name, nil)
	_, err1 := q.Redrive(ctx, "d")
	_, err2 := q.Discard(ctx, "e")
	if err := errors.Join(err1, err2, q.Pause(ctx, "lunch"), q.Resume(ctx)); err != nil {
		return err
	}
	if err := q.Unschedule(ctx, "tick"); err != nil && !errors.Is(err, queue.ErrUnknownID) { // it was deleted, and the answer was lost
		return err
	}
	if n, err := q.Purge(ctx); err != nil || n == 0 {
		return fmt.Errorf("%d were purged: %w", n, err)
	}
	if err := rbacPushIDs(ctx, a); err != nil {
		return err
	}
	if _, err := q.Purge(ctx); err != nil {
		return err
	}
	if _, err := q.Discard(ctx); err != nil {
		return err
	}
	return rbacSchedule(ctx, a)
}

// Messages are published, until the first of them are trimmed.
func rbacTopic(ctx context.Context, a rbacActors) error {
	t := queue.NewTopic(a.user, a.name, &queue.TopicOptions[int]{KeepMessages: 1})
	if _, err := t.Publish(ctx, 1); err != nil {
		return err
	}
	for range 8 {
		if _, err := t.PublishMany(ctx, make([]int, 120)); err != nil {
			return err
		}
	}
	if _, err := t.End(ctx); err != nil {
		return err
	}
	return rbacCounts(ctx, a.root, queue.TopicRoot+a.name+"//floor", func(n int64) bool { return n == 1 })
}

// Messages are read, those of before and those of now.
func rbacSubscribe(ctx context.Context, a rbacActors) error {
	publishes, t := queue.NewTopic[int](a.root, a.name, nil), queue.NewTopic[int](a.user, a.name, nil)
	if _, err := publishes.PublishMany(ctx, []int{1, 2}); err != nil {
		return err
	}
	if _, err := t.End(ctx); err != nil {
		return err
	}
	for m, err := range t.Subscribe(ctx, queue.Position{}) {
		if err != nil {
			return err
		}
		if m.Item == 2 {
			if _, err := publishes.Publish(ctx, 3); err != nil {
				return err
			}
		}
		if m.Item == 3 {
			return nil
		}
	}
	return context.Cause(ctx)
}
