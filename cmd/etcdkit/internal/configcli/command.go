package configcli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// New returns the command.
func New() *cobra.Command {
	f := &flags{}
	c := &cobra.Command{
		Use:   "config",
		Short: "Read, change and roll out configuration in etcd",
		Long: `Read, change and roll out configuration in etcd. Every change is kept with who made it and why, and can be
taken back.

Where etcd is, and as whom to connect, is read from etcdctl's environment (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT,
ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER, ETCDCTL_PASSWORD and so on) or from the flags below, which win.

With --env a key without a slash at its beginning is one of that environment: with --env /config/prod,
mail/limits is /config/prod/mail/limits, and no key outside can be written.

What replaces something shows what would change and asks first. Where there is nobody to ask it does nothing,
unless it is given --yes.

With -o json a result is an object, and a list is one object a line. Times are in RFC 3339. Fields that are
empty are left out, and new ones may be added.

Exit codes:
    0  done
    1  failed, or not wanted when asked
    2  the command line is wrong
    3  somebody else has changed the key meanwhile; it was not overwritten
    4  the rollout was taken back
  130  interrupted`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.register(c.PersistentFlags())
	c.AddCommand(
		newGet(f), newPut(f), newEdit(f), newDelete(f), newDiff(f), newHistory(f), newRollback(f), newList(f), newWatch(f),
		newPromote(f), newExport(f), newImport(f), newRollout(f), newStatus(f),
	)
	return c
}

// run makes a function of a use what a command does.
func run(f *flags, fn func(ctx context.Context, u *use, args []string) error) func(c *cobra.Command, args []string) error {
	return func(c *cobra.Command, args []string) error {
		secrets, err := newSecrets(f.keyring)
		if err != nil {
			return explain(c.Context(), c, err)
		}
		return cli.Run(&f.Connection, explain, func(ctx context.Context, connected *cli.Use, args []string) (err error) {
			u := &use{Use: connected, environment: f.environment, secrets: secrets}
			if u.store, err = u.storeOf(f.environment); err != nil {
				return err
			}
			return fn(ctx, u, args)
		})(c, args)
	}
}

// now is the clock.
func now() time.Time { return time.Now() }
