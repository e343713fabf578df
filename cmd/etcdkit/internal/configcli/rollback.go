package configcli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/config"
)

func newRollback(f *flags) *cobra.Command {
	var by changer
	c := &cobra.Command{
		Use:   "rollback KEY VERSION",
		Short: "Make a key what it was",
		Long: `Make a key what it was as of a version. That is published as a new version, so what it replaces can be rolled back
to, too. If the key did not exist as of that version, it is deleted.

What would change is shown, and somebody has to agree; if the key changes meanwhile, nothing is written.

JSON: changed, and the version as in history.`,
		Example: `  etcdkit config history /config/prod/mail/limits
  etcdkit config rollback /config/prod/mail/limits 3 --reason "too many bounces"`,
		Args: cli.Arguments(2, "KEY", "VERSION"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		version, err := parseVersion(args[1])
		if err != nil {
			return err
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			return u.rollback(ctx, u.named(args[0]), version, &by)
		})(c, args)
	}
	by.register(c)
	by.registerIgnore(c)
	return c
}

// rollback makes a key what it was as of a version.
func (u *use) rollback(ctx context.Context, key string, version int64, by *changer) error {
	h, err := u.held(ctx, key)
	if err != nil {
		return err
	}
	old, err := u.store.Version(ctx, key, version)
	if err != nil {
		return err
	}
	plain, _, err := u.secrets.open(key, old.Value)
	if err != nil {
		return err
	}
	if !by.yes && !config.DiffValues(h.plain, plain).Same {
		u.show(key, h, plain, described(old))
		if err := u.Confirm(ctx, fmt.Sprintf("Roll %s back to version %d?", key, version)); err != nil {
			return err
		}
	}
	v, err := u.store.Rollback(ctx, key, version, by.options(h.expect()))
	if err != nil {
		return err
	}
	u.done(v, v.Revision != h.Revision)
	return nil
}
