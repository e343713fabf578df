package rbaccli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// options are the flags of the command, besides those of the connection.
type options struct {
	params  roles.Params
	tenant  string
	apply   bool
	role    string
	grantTo string
}

// New returns the command.
func New() *cobra.Command {
	f, o := &cli.Connection{}, &options{}
	c := &cobra.Command{
		Use:   "rbac RECIPE NAME",
		Short: "Print or grant the least role that a recipe needs",
		Long: `Print the least role that a recipe needs, as commands of etcdctl, or grant it with --apply.

The recipes, and what they take as NAME:

` + listing() + `
A configuration key that ends in a slash means all keys below it. What a program writes besides, under a
guard or in the transaction of an Ack, needs permissions of its own; and so does each further recipe whose keys
are put on the same session, as etcd asks for WRITE on all keys of a lease.

--tenant confines to a namespace: without a recipe the role has READWRITE on all keys that begin with it, and
with one the ranges of the recipe are put below it. It is for clients that put it before all their keys
(pool.Config.Namespace, clientv3/namespace).

Nothing is asked of etcd without --apply. With it a role that exists gets what it lacks, and loses nothing.
Granting takes a user with the role root, where authentication is on. Where etcd is, and as whom to connect,
is read from etcdctl's environment (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY,
ETCDCTL_USER, ETCDCTL_PASSWORD and so on) or from the flags below, which win.

JSON, one object: recipe, name, id, tenant, role, does, others, permissions (access, key, prefix, rangeEnd,
for); with --apply also applied, added (how many permissions the role did not have), grantedTo, and excess: what the
role has and the recipe does not need.

Exit codes:
    0  done
    1  failed, as without the permission to grant
    2  the command line is wrong: an unknown recipe, a name that etcdkit refuses
  130  interrupted`,
		Example: `  etcdkit rbac lock orders
  etcdkit rbac registry-instance mail --id mail-1 --apply --grant-to mail-1
  etcdkit rbac config-publisher /config/prod/ --apply --role prod-writer --grant-to ada
  etcdkit rbac --tenant team-a/ --apply --grant-to team-a`,
		Args: arguments(o),
	}
	f.Register(c.Flags(), "text")
	set := c.Flags()
	set.StringVar(&o.params.ID, "id", "", "the instance's ID, for registry-instance and config-instance (default any)")
	set.StringVar(&o.params.Prefix, "prefix", "", "what the keys of services begin with (default services)")
	set.StringVar(&o.tenant, "tenant", "", "namespace that everything is in; it ends in a slash")
	set.BoolVar(&o.apply, "apply", false, "grant it, and do not print commands")
	set.StringVar(&o.role, "role", "", "name of the role (default RECIPE:NAME)")
	set.StringVar(&o.grantTo, "grant-to", "", "user that is to have the role, and exists")
	c.RunE = func(c *cobra.Command, args []string) error {
		g, err := newGrant(o, args)
		if err != nil {
			return exit.Usage(errors.New(cli.Plainly(err.Error())))
		}
		if o.apply {
			return cli.Run(f, explain, func(ctx context.Context, u *cli.Use, _ []string) error { return g.apply(ctx, u) })(c, args)
		}
		if err := f.Check(); err != nil {
			return exit.Usage(err)
		}
		out := screen.New(c.OutOrStdout())
		g.print(&cli.Use{Connection: f, Terminal: cli.NewTerminal(c), Out: out})
		return out.Err()
	}
	return c
}

// listing are the recipes for the help.
func listing() string {
	var b strings.Builder
	for _, r := range roles.All() {
		of := r.Of
		if of == "" {
			of = "nothing"
		}
		fmt.Fprintf(&b, "  %-18s %s\n", r.Name, of)
		for _, line := range screen.Wrap(r.Does, 84) {
			fmt.Fprintf(&b, "  %-18s   %s\n", "", line)
		}
	}
	return b.String()
}

// arguments are a recipe and a name; the recipe may be left out where there is a tenant.
func arguments(o *options) cobra.PositionalArgs {
	return exit.Arguments(func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && o.tenant != "":
			return nil
		case len(args) == 1:
			if r, err := roles.Find(args[0]); err == nil && r.Of == "" {
				return nil
			} else if err != nil {
				return err
			}
		}
		return cli.Arguments(2, "RECIPE", "NAME")(c, args)
	})
}
