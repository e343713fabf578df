package queuecli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// leastInterval is how often a Queue counts at most.
const leastInterval = time.Second

func newStats(f *cli.Connection) *cobra.Command {
	var watch bool
	var every time.Duration
	var most int
	c := &cobra.Command{
		Use:   "stats NAME",
		Short: "What a queue holds, once or again and again",
		Long: `What a queue holds: jobs that wait, that are delayed, and that are in flight; dead letters; workers; and for how long
the job that has waited longest could have been claimed.

With --watch it goes on until Ctrl-C, or until it has counted as often as -n says, also while etcd is away.

JSON: queue, time (with --watch), waiting, delayed, inFlight, dead, workers, oldestSeconds, paused, pausedSince,
pauseReason.`,
		Example: `  etcdkit queue stats mail --watch`,
		Args:    cli.Arguments(1, "NAME"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case every < leastInterval:
			return exit.Usage(fmt.Errorf("--interval %v: it must be a second at least", every))
		case most < 0:
			return exit.Usage(fmt.Errorf("-n %d: it must not be negative", most))
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			if !watch {
				return u.stats(ctx, args[0])
			}
			err := u.watch(ctx, args[0], every, most)
			if errors.Is(context.Cause(ctx), exit.ErrInterrupted) {
				return cli.ErrEnough
			}
			return err
		})(c, args)
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "again and again")
	c.Flags().DurationVar(&every, "interval", 2*time.Second, "with --watch: how often")
	c.Flags().IntVarP(&most, "number", "n", 0, "with --watch: how many times; 0 until Ctrl-C")
	return c
}

// stats prints what a queue holds.
func (u *use) stats(ctx context.Context, name string) error {
	s, err := u.queue(name).Stats(ctx)
	if err != nil {
		return err
	}
	if u.JSON {
		u.Emit(statsFacts(name, s))
		return nil
	}
	cli.Table(u.Out, append([]string{"QUEUE"}, statsHeader...), [][]string{append([]string{name}, statsRow(s)...)})
	return nil
}

// watch prints it again and again: lines of which the columns stay where they are.
func (u *use) watch(ctx context.Context, name string, every time.Duration, most int) error {
	q := u.queue(name)
	tick := time.NewTicker(every)
	defer tick.Stop()
	const columns = "%-8s  %9s  %9s  %9s  %9s  %7s  %6s  %s"
	headed := u.JSON
	for n := 1; ; n++ {
		s, err := q.Stats(ctx)
		switch {
		case err != nil && (n == 1 || ctx.Err() != nil):
			return err
		case err != nil:
			u.Say("%s", cli.Plainly(err.Error()))
		case u.JSON:
			facts := statsFacts(name, s)
			facts.Time = time.Now().UTC().Truncate(time.Millisecond)
			u.Emit(facts)
		default:
			line := func(first string, cells []string) string {
				return cli.Visible(fmt.Sprintf(columns, first, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]))
			}
			if !headed {
				u.Out.Print(line("TIME", statsHeader))
				headed = true
			}
			u.Out.Print(line(time.Now().Format(time.TimeOnly), statsRow(s)))
		}
		if n == most || u.Out.Err() != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
