package queuecli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/queue"
)

func newList(f *cli.Connection) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "The queues that there are, and what they hold",
		Long: `The queues that have a job, a dead letter, a worker or a pause, and what they hold.

JSON, one object a queue: as that of stats.`,
		Args: cli.Arguments(0),
		RunE: run(f, func(ctx context.Context, u *use, _ []string) error { return u.list(ctx) }),
	}
}

var statsHeader = []string{"WAITING", "DELAYED", "IN FLIGHT", "DEAD", "WORKERS", "OLDEST", "PAUSED"}

// statsRow are the cells of a table.
func statsRow(s queue.Stats) []string {
	row := make([]string, 0, len(statsHeader))
	for _, n := range []int{s.Waiting, s.Delayed, s.InFlight, s.Dead, s.Workers} {
		row = append(row, strconv.Itoa(n))
	}
	oldest := ""
	if s.Waiting > 0 {
		oldest = lasting(s.Oldest)
	}
	return append(row, oldest, pausedText(s))
}

// list prints queues.
func (u *use) list(ctx context.Context) error {
	all, err := queue.Queues(ctx, u.Pool.Client())
	if err != nil {
		return err
	}
	var rows [][]string
	for _, name := range all {
		s, err := u.queue(name).Stats(ctx)
		if err != nil {
			return err
		}
		if u.JSON {
			u.Emit(statsFacts(name, s))
			continue
		}
		rows = append(rows, append([]string{name}, statsRow(s)...))
	}
	switch {
	case u.JSON:
	case len(rows) == 0:
		u.Say("no queues")
	default:
		cli.Table(u.Out, append([]string{"QUEUE"}, statsHeader...), rows)
	}
	return nil
}

// pausedText says whether a queue is paused.
func pausedText(s queue.Stats) string {
	if !s.Paused {
		return ""
	}
	text := "yes"
	if !s.PausedSince.IsZero() {
		text = cli.Ago(s.PausedSince)
	}
	if s.PauseReason != "" {
		text += ": " + cut(s.PauseReason, mostReason)
	}
	return text
}

// mostReason is how much of a reason is shown in a table.
const mostReason = 40

// lasting is a duration as people say it.
func lasting(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 2*cli.Day:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d/cli.Day)) + "d"
}
