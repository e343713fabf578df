package configcli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

func newDelete(f *flags) *cobra.Command {
	var by changer
	c := &cobra.Command{
		Use:   "delete KEY",
		Short: "Delete a key",
		Long: `Delete a key. Its history stays, and rollback brings it back. Programs that read the key keep its last value until
they are started anew, and those with a copy on disk then too.

JSON: changed, and the version as in history.`,
		Example: `  etcdkit config delete /config/prod/mail/limits --reason "not read by anybody since 4.2"`,
		Args:    cli.Arguments(1, "KEY"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			key := u.named(args[0])
			v, err := u.find(ctx, key, 0, 0, time.Time{})
			if err != nil {
				return err
			}
			if !by.yes {
				u.Say("%s: %s", key, described(v))
				if err := u.Confirm(ctx, fmt.Sprintf("Delete %s?", key)); err != nil {
					return err
				}
			}
			v, err = u.store.Delete(ctx, key, by.options(held{Version: v, exists: true}.expect()))
			if err != nil {
				return err
			}
			u.done(v, true)
			return nil
		}),
	}
	by.register(c)
	by.registerIgnore(c)
	return c
}
