package snapshotcli

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
	"github.com/etcdkit/etcdkit/retry"
)

// unverified is the exit code of what was looked at, and is no good.
const unverified = 3

// New returns the command.
func New() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Take backups, verified",
		Long: `Take backups of etcd, verify that they can be restored and hold what the cluster holds, and delete old ones.

Where etcd is, and as whom to connect, is read from etcdctl's environment (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT,
ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER, ETCDCTL_PASSWORD and so on) or from the flags below, which win. With
authentication on it takes a user with the role root.

A snapshot is a file as etcdctl saves it, and etcdutl restores it. It holds everything, in the clear.

With -o json a result is an object, and a list is one object a line.

Exit codes:
    0  done
    1  failed
    2  the command line is wrong
    3  the snapshot did not verify: it is damaged, differs from the cluster, or could not be compared with it
  130  interrupted; nothing is left of what was not done`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	c.AddCommand(newSave(f), newVerify(f), newList(f))
	return c
}

// use is one use of the command, connected or not.
type use struct{ *cli.Use }

// run makes a function of a use what a command does that is connected.
func run(f *cli.Connection, fn func(ctx context.Context, u use, args []string) error) func(c *cobra.Command, args []string) error {
	return cli.Run(f, explain, func(ctx context.Context, u *cli.Use, args []string) error { return fn(ctx, use{u}, args) })
}

// runHere is run of what asks nothing of etcd.
func runHere(f *cli.Connection, fn func(ctx context.Context, u use, args []string) error) func(c *cobra.Command, args []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f.Check(); err != nil {
			return exit.Usage(err)
		}
		ctx, stop := exit.Interruptible(c.Context())
		defer stop()
		u := use{&cli.Use{Connection: f, Terminal: cli.NewTerminal(c), Raw: c.OutOrStdout(), Out: screen.New(c.OutOrStdout())}}
		return explain(ctx, c, errors.Join(fn(ctx, u, args), u.Out.Err()))
	}
}

// explain gives an error its words and its exit code.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	text, code := cli.Said(ctx, c, err)
	switch {
	case code != exit.Failed:
	case errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrDiffers), errors.Is(err, snapshot.ErrNotCompared), errors.Is(err, snapshot.ErrBehind):
		code = unverified
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok && strings.HasSuffix(at.Op, "stat") {
		text = cli.Visible(at.Path + ": " + at.Err.Error())
	}
	if errors.Is(retry.EtcdError(err), rpctypes.ErrPermissionDenied) {
		text += ": snapshots and hashes are for users with the role root"
	}
	return exit.With(code, cli.Reword(text, err))
}
