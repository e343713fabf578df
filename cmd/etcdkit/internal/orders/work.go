package orders

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// firstPause is what a process waits between two orders until it is told otherwise.
const firstPause = 60 * time.Millisecond

// What a process can be asked to do, a line each.
const (
	// TaskHold has it take the lock, with a session whose TTL is the argument, and go on numbering orders under it
	// until TaskGoOn.
	TaskHold = "hold"

	// TaskStall has it take the lock in the same way, make everything ready to write one order, and wait for
	// TaskGoOn before it does.
	TaskStall = "stall"

	// TaskGoOn ends either.
	TaskGoOn = "go on"

	// TaskPace has it wait for as long as the argument says between two orders, from now on.
	TaskPace = "pace"
)

// hear reads tasks.
func hear(in io.Reader) <-chan string {
	tasks := make(chan string)
	go func() {
		defer close(tasks)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			tasks <- lines.Text()
		}
	}()
	return tasks
}

// worker numbers orders.
type worker struct {
	*service
	book   *book
	prices *config.Value[Prices]
	tasks  <-chan string
	pause  time.Duration // between two orders
}

// work numbers orders until ctx ends, and does what it is asked to.
func (s *service) work(ctx context.Context, prices *config.Value[Prices], tasks <-chan string) {
	w := &worker{service: s, book: &book{kv: s.client, by: s.id}, prices: prices, tasks: tasks, pause: firstPause}
	sessions := session.NewKeeper(s.client, &session.Options{TTL: TTL})
	mutex := lock.NewMutex(sessions, LockName)
	for ctx.Err() == nil {
		err := mutex.Do(ctx, w.one)
		if err != nil && ctx.Err() == nil {
			// A lock that was lost, or could not be had: the next turn takes it anew, with a new session if need be.
			fmt.Fprintln(os.Stderr, "order:", err)
		}
		select {
		case task := <-w.tasks:
			w.do(ctx, task)
		case <-time.After(w.pause):
		case <-ctx.Done():
		}
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := sessions.Close(bound); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// one numbers one order while it holds the lock.
func (w *worker) one(ctx context.Context, g fence.Guard) error {
	return w.book.enter(ctx, w.prices.Get().Discount, g)
}

// do does a task: one that wants the lock, with a session of the task's own.
func (w *worker) do(ctx context.Context, task string) {
	var name, argument string
	if _, err := fmt.Sscan(task, &name, &argument); err != nil {
		w.fail(fmt.Errorf("task %q: %w", task, err))
		return
	}
	fn := map[string]func(context.Context, fence.Guard) error{TaskHold: w.hold, TaskStall: w.stall}[name]
	duration, err := time.ParseDuration(argument)
	if name == TaskPace && err == nil {
		w.pause = duration
		return
	}
	if fn == nil || err != nil {
		w.fail(fmt.Errorf("task %q: not understood", task))
		return
	}
	sess, err := session.Open(ctx, w.client, &session.Options{TTL: duration})
	if err != nil {
		w.fail(err)
		return
	}
	defer func() { _ = sess.Close(ctx) }()
	if err := lock.NewMutex(sess, LockName).Do(ctx, fn); err != nil && !errors.Is(err, fence.ErrLost) {
		w.fail(err)
	}
}

// hold numbers orders, all under this one acquisition, until it is told to go on.
func (w *worker) hold(ctx context.Context, g fence.Guard) (err error) {
	w.tell(Event{Kind: Holding, Token: int64(g.Token)})
	orders := 0
	defer func() {
		released := Event{Kind: Released, Token: int64(g.Token), Orders: orders}
		if err != nil {
			released.Reason = err.Error()
		}
		w.tell(released)
	}()
	for {
		if err := w.one(ctx, g); err != nil {
			return err
		}
		orders++
		select {
		case <-w.tasks:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(w.pause):
		}
	}
}

// stall prepares an order, waits to be told to go on, and writes it. Frozen meanwhile, this is the process that no
// check of its own can save: the freeze lies between the check and the write.
func (w *worker) stall(ctx context.Context, g fence.Guard) error {
	number, err := w.book.next(ctx)
	if err != nil {
		return err
	}
	w.tell(Event{Kind: Stalled, Token: int64(g.Token), Number: number})
	<-w.tasks

	late := Event{Kind: Late, Token: int64(g.Token), Number: number, Told: ctx.Err() != nil}
	// ctx would hold the write back by now. Writes that were on their way have nothing to hold them back; this one goes
	// out as they do.
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err = retry.Do(bound, forever, func(ctx context.Context) error {
		resp, err := g.Commit(ctx, w.client, w.book.write(number, w.prices.Get().Discount, g)...)
		if resp != nil {
			late.Revision = resp.Header.GetRevision()
		}
		return err
	})
	if err != nil {
		late.Lost, late.Reason = errors.Is(err, fence.ErrLost), err.Error()
	}
	w.tell(late)
	return err
}
