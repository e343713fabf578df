package queuecli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/queue"
)

var (
	errNoItem   = errors.New("ITEM is missing: name it, or -")
	errMixed    = errors.New("- and an item: only one of them can be meant")
	errManyByID = errors.New("--id: it names one job, and there may be more")
)

func newPush(f *cli.Connection) *cobra.Command {
	var o queue.PushOptions
	c := &cobra.Command{
		Use:   "push NAME ITEM...",
		Short: "Put jobs in line",
		Long: `Put jobs in line, each with an item that is taken as it is: for programs that use the default codec it must be JSON. -
reads them from standard input, one a line; empty lines are left out. An item that begins with - comes after --.

The IDs are printed, one a line. A push of an --id that is in the queue, or was pushed a short time ago, changes nothing.

JSON, one object a job: id.`,
		Example: `  etcdkit queue push mail '{"to": "ada"}' --priority 5
  etcdkit queue push mail '{"to": "bob"}' --id welcome/bob --delay 1h
  generate | etcdkit queue push mail -`,
	}
	c.Args = exit.Arguments(func(_ *cobra.Command, args []string) error {
		stdin := 0
		for _, a := range args[min(1, len(args)):] {
			if a == "-" {
				stdin++
			}
		}
		switch {
		case len(args) == 0:
			return errors.New("NAME is missing")
		case len(args) == 1:
			return errNoItem
		case stdin > 0 && len(args) > 2:
			return errMixed
		case o.ID != "" && (stdin > 0 || len(args) > 2):
			return errManyByID
		case o.Delay < 0:
			return fmt.Errorf("--delay %v: it must not be negative", o.Delay)
		case o.Priority < -queue.MaxPriority || o.Priority > queue.MaxPriority:
			return fmt.Errorf("--priority %d: it must be from %d to %d", o.Priority, -queue.MaxPriority, queue.MaxPriority)
		}
		return nil
	})
	c.RunE = run(f, func(ctx context.Context, u *use, args []string) error { return u.push(ctx, args[0], args[1:], &o) })
	set := c.Flags()
	set.StringVar(&o.ID, "id", "", "a name for the job, so that it is pushed once")
	set.IntVar(&o.Priority, "priority", 0, "those of a higher one are done first")
	set.DurationVar(&o.Delay, "delay", 0, "not to be done before, as 90s or 1h")
	set.StringVar(&o.Key, "key", "", "of the jobs with one key, one at a time is done, in their order")
	return c
}

// pushAtOnce is how many lines are pushed together.
const pushAtOnce = 1000

// push puts items in line.
func (u *use) push(ctx context.Context, name string, items []string, o *queue.PushOptions) error {
	q, done := u.queue(name), 0
	send := func(batch [][]byte) error {
		var ids []string
		var err error
		if o.ID != "" {
			var id string
			if id, err = q.Push(ctx, batch[0], o); err == nil {
				ids = []string{id}
			}
		} else {
			ids, err = q.PushMany(ctx, batch, o)
		}
		for _, id := range ids {
			if u.JSON {
				u.Emit(struct {
					ID string `json:"id"`
				}{id})
			} else {
				u.Out.Print(cli.Visible(id))
			}
		}
		done += len(ids)
		return part(err, done, "job is in the queue", "jobs are in the queue")
	}
	if items[0] != "-" {
		batch := make([][]byte, len(items))
		for i, item := range items {
			batch[i] = []byte(item)
		}
		return send(batch)
	}
	return u.lines(ctx, send, func(err error) error { return part(err, done, "job is in the queue", "jobs are in the queue") })
}

// lines reads standard input and sends its lines on. Who has typed a few is not made to wait for more.
func (u *use) lines(ctx context.Context, send func([][]byte) error, failed func(error) error) error {
	type line struct {
		item []byte
		err  error
	}
	in := make(chan line)
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a read cannot be called off; it goes on until the process ends
		defer close(in)
		s := bufio.NewScanner(u.In)
		s.Buffer(nil, queue.MaxItem+2)
		pass := func(l line) bool {
			select {
			case in <- l:
				return true
			case <-ended:
				return false
			}
		}
		for s.Scan() {
			if len(s.Bytes()) > 0 && !pass(line{item: append([]byte(nil), s.Bytes()...)}) {
				return
			}
		}
		if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
			pass(line{err: fmt.Errorf("a line of standard input: %w: more than %d bytes", queue.ErrTooLarge, queue.MaxItem)})
		} else if err != nil && !errors.Is(err, io.EOF) {
			pass(line{err: err})
		}
	}()
	var batch [][]byte
	var pause <-chan time.Time
	for {
		flush := false
		var last error
		end := false
		select {
		case l, more := <-in:
			switch {
			case !more:
				flush, end = true, true
			case l.err != nil:
				flush, end, last = true, true, l.err
			default:
				if batch = append(batch, l.item); len(batch) == 1 {
					pause = time.After(lineWait)
				}
				flush = len(batch) == pushAtOnce
			}
		case <-pause:
			flush = true
		case <-ctx.Done():
			return failed(context.Cause(ctx))
		}
		if flush && len(batch) > 0 {
			if err := send(batch); err != nil {
				return err
			}
			batch, pause = nil, nil
		}
		if end {
			return failed(last)
		}
	}
}

// lineWait is how long a line waits for more to be pushed with it.
const lineWait = 100 * time.Millisecond
