package queuecli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/queue"
)

func newPeek(f *cli.Connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "peek NAME",
		Short: "The first jobs in the line",
		Long: `The first jobs in the line, by priority and then by time, those in flight among them. Nothing is changed.

JSON, one object a job: id, state (waiting, delayed, in flight, unreadable), priority, key, attempts, error (of the
last attempt), pushed, due (of a delayed one), worker (of one in flight), problem (of an unreadable one), item or
itemBase64.`,
		Example: `  etcdkit queue peek mail -n 5
  etcdkit queue peek mail -n 0 -o json | jq -r .item`,
		Args: cli.Arguments(1, "NAME"),
	}
	most := number(c, "jobs")
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := most()
		if err != nil {
			return err
		}
		return run(f, func(ctx context.Context, u *use, args []string) error { return u.peek(ctx, args[0], n) })(c, args)
	}
	return c
}

// peek prints the head of the line.
func (u *use) peek(ctx context.Context, name string, n int) error {
	jobs, err := u.queue(name).Peek(ctx, n)
	if err != nil {
		return err
	}
	rows := make([][]string, len(jobs))
	for i, j := range jobs {
		state, shown := "waiting", ""
		switch {
		case j.Err != nil:
			state = "unreadable"
		case j.Worker != "":
			state, shown = "in flight", " by "+cut(j.Worker, mostName)
		case !j.Due.IsZero():
			state, shown = "delayed", " by "+lasting(time.Until(j.Due))
		}
		if u.JSON {
			u.Emit(jobFacts(j, state))
			continue
		}
		rows[i] = []string{
			cut(j.ID, mostName), strconv.Itoa(j.Priority), cli.Ago(j.Pushed), state + shown, strconv.Itoa(j.Attempts), cut(j.Key, mostKey), itemOf(j),
		}
	}
	switch {
	case u.JSON:
	case len(rows) == 0:
		u.Say("no jobs")
	default:
		u.table([]string{"ID", "PRIORITY", "PUSHED", "STATE", "ATTEMPTS", "KEY", "ITEM"}, rows)
	}
	return nil
}

// Columns of what others have named.
const (
	mostName = 64
	mostKey  = 24
)

// itemOf is an item for a table: as much of it as can ever be shown.
func itemOf(i queue.Info[[]byte]) string {
	return string(i.Raw[:min(len(i.Raw), 4*wideItem)])
}

func newDead(f *cli.Connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "dead NAME",
		Short: "Jobs that failed too often, or for good, and why",
		Long: `Jobs that failed too often, or for good, and why: dead letters, in the order of their IDs. redrive puts them back,
discard deletes them.

JSON, one object a job: id, state (dead, unreadable), priority, key, attempts, error (of the last one), pushed, died,
problem (of an unreadable one), item or itemBase64.`,
		Args: cli.Arguments(1, "NAME"),
	}
	most := number(c, "of them")
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := most()
		if err != nil {
			return err
		}
		return run(f, func(ctx context.Context, u *use, args []string) error { return u.dead(ctx, args[0], n) })(c, args)
	}
	return c
}

// dead prints dead letters.
func (u *use) dead(ctx context.Context, name string, n int) error {
	letters, err := u.queue(name).Dead(ctx, n)
	if err != nil {
		return err
	}
	rows := make([][]string, len(letters))
	for i, l := range letters {
		state, why := "dead", l.LastErr
		if l.Err != nil {
			state, why = "unreadable", "unreadable"
		}
		if u.JSON {
			u.Emit(jobFacts(l, state))
			continue
		}
		rows[i] = []string{
			cut(l.ID, mostName), strconv.Itoa(l.Priority), cli.Ago(l.Died), strconv.Itoa(l.Attempts), cut(l.Key, mostKey), cut(why, mostReason), itemOf(l),
		}
	}
	switch {
	case u.JSON:
	case len(rows) == 0:
		u.Say("no dead letters")
	default:
		u.table([]string{"ID", "PRIORITY", "DIED", "ATTEMPTS", "KEY", "ERROR", "ITEM"}, rows)
	}
	return nil
}
