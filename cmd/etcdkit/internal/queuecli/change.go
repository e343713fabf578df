package queuecli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

func newRedrive(f *cli.Connection) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "redrive NAME ID... | --all",
		Short: "Put dead letters back at the end of the line",
		Long: `Put dead letters back at the end of the line, with their IDs, keys and priorities; their attempts are counted anew. An
ID that there is no dead letter of is an error, and the others are put back all the same.

JSON: queue, done (redriven), count.`,
		Example: `  etcdkit queue redrive mail welcome/bob
  etcdkit queue redrive mail --all`,
		Args: some(&all),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			n, err := u.queue(args[0]).Redrive(ctx, args[1:]...)
			return u.done(args[0], "redriven", n, part(err, n, "was redriven", "were redriven"))
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "all that there are now")
	return c
}

func newDiscard(f *cli.Connection) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "discard NAME ID... | --all",
		Short: "Delete dead letters",
		Long: `Delete dead letters. An ID that there is no dead letter of is an error, and the others are deleted all the same.

JSON: queue, done (discarded), count.`,
		Args: some(&all),
	}
	agreed := yes(c)
	c.RunE = run(f, func(ctx context.Context, u *use, args []string) error {
		question := fmt.Sprintf("Delete %s of %s?", cli.Plural(len(args)-1, "dead letter", "dead letters"), cli.Visible(args[0]))
		if all {
			question = fmt.Sprintf("Delete all dead letters of %s?", cli.Visible(args[0]))
		}
		if !*agreed {
			if err := u.Confirm(ctx, question); err != nil {
				return err
			}
		}
		n, err := u.queue(args[0]).Discard(ctx, args[1:]...)
		return u.done(args[0], "discarded", n, part(err, n, "was discarded", "were discarded"))
	})
	c.Flags().BoolVar(&all, "all", false, "all that there are now")
	return c
}

func newPurge(f *cli.Connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "purge NAME",
		Short: "Delete all jobs that are not in flight",
		Long: `Delete all jobs that wait or are delayed, as many as there are now. Those in flight stay, and so do dead letters.

JSON: queue, done (purged), count.`,
		Args: cli.Arguments(1, "NAME"),
	}
	agreed := yes(c)
	c.RunE = run(f, func(ctx context.Context, u *use, args []string) error {
		q := u.queue(args[0])
		if !*agreed {
			s, err := q.Stats(ctx)
			if err != nil {
				return err
			}
			question := fmt.Sprintf("Delete %s of %s?", cli.Plural(s.Waiting+s.Delayed, "job", "jobs"), cli.Visible(args[0]))
			if err := u.Confirm(ctx, question); err != nil {
				return err
			}
		}
		n, err := q.Purge(ctx)
		return u.done(args[0], "purged", n, part(err, n, "job was deleted", "jobs were deleted"))
	})
	return c
}

// done tells what came of a change.
func (u *use) done(name, what string, n int, err error) error {
	switch {
	case err != nil:
	case u.JSON:
		u.Emit(jsonDone{name, what, &n})
	default:
		u.Out.Print(cli.Visible(fmt.Sprintf("%s: %d %s", name, n, what)))
	}
	return err
}

func newPause(f *cli.Connection) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "pause NAME",
		Short: "Hand out no jobs until resume",
		Long: `Hand out no jobs until resume. What is in flight is finished, and jobs can be pushed. A queue that is paused stays so,
with the reason of who came first.

JSON: queue, done (paused).`,
		Example: `  etcdkit queue pause mail --reason "the relay is down"`,
		Args:    cli.Arguments(1, "NAME"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			return u.switched(args[0], "paused", u.queue(args[0]).Pause(ctx, reason))
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "why, as stats and ls show it")
	return c
}

func newResume(f *cli.Connection) *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "End a pause",
		Long: `End a pause.

JSON: queue, done (resumed).`,
		Args: cli.Arguments(1, "NAME"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			return u.switched(args[0], "resumed", u.queue(args[0]).Resume(ctx))
		}),
	}
}

// switched tells that a queue was paused or resumed.
func (u *use) switched(name, what string, err error) error {
	switch {
	case err != nil:
	case u.JSON:
		u.Emit(jsonDone{Queue: name, Done: what})
	default:
		u.Out.Print(cli.Visible(name + ": " + what))
	}
	return err
}
