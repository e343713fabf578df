package queuecli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/queue"
)

// New returns the command.
func New() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "queue",
		Short: "See, fill, pause and clear queues of jobs in etcd",
		Long: `See, fill, pause and clear queues of jobs in etcd, and put back or delete jobs that failed too often.

Where etcd is, and as whom to connect, is read from etcdctl's environment (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT,
ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER, ETCDCTL_PASSWORD and so on) or from the flags below, which win.

What deletes something asks first. Where there is nobody to ask it does nothing, unless it is given --yes.

With -o json a result is an object, and a list is one object a line. Times are in RFC 3339. Fields that are
empty are left out, and new ones may be added. Items are shown in full with -o json, and cut off in tables.

Counting and listing takes etcd time that grows with the queue.

Exit codes:
    0  done
    1  failed, or not wanted when asked
    2  the command line is wrong
  130  interrupted`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	c.AddCommand(
		newList(f), newStats(f), newPush(f), newPeek(f), newDead(f), newRedrive(f), newDiscard(f), newPause(f), newResume(f), newPurge(f),
	)
	return c
}

// use is one use of the command.
type use struct{ *cli.Use }

// run makes a function of a use what a command does.
func run(f *cli.Connection, fn func(ctx context.Context, u *use, args []string) error) func(c *cobra.Command, args []string) error {
	return cli.Run(f, explain, func(ctx context.Context, u *cli.Use, args []string) error { return fn(ctx, &use{u}, args) })
}

// queue is a queue of bytes as they are: what they mean is up to who pushes and who works.
func (u *use) queue(name string) *queue.Queue[[]byte] {
	return queue.New(u.Pool.Client(), name, &queue.Options[[]byte]{Codec: plain{}})
}

// plain is the codec of bytes as they are.
type plain struct{}

func (plain) Decode(data []byte) ([]byte, error) { return data, nil }
func (plain) Encode(item []byte) ([]byte, error) { return item, nil }

// yes is the flag of what asks.
func yes(c *cobra.Command) *bool {
	return c.Flags().BoolP("yes", "y", false, "do it without asking")
}

// some are the arguments of what takes IDs, or --all.
func some(all *bool) cobra.PositionalArgs {
	return exit.Arguments(func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("NAME is missing")
		case len(args) == 1 && !*all:
			return errors.New("ID is missing: name some, or --all")
		case len(args) > 1 && *all:
			return errors.New("IDs and --all: only one of them can be meant")
		}
		return nil
	})
}

// number is the flag of how many to show.
func number(c *cobra.Command, what string) func() (int, error) {
	n := c.Flags().IntP("number", "n", 20, "how many "+what+"; 0 for all")
	return func() (int, error) {
		if *n < 0 {
			return 0, exit.Usage(fmt.Errorf("-n %d: it must not be negative", *n))
		}
		return *n, nil
	}
}
