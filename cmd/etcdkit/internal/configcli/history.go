package configcli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

func newHistory(f *flags) *cobra.Command {
	var most int
	c := &cobra.Command{
		Use:   "history KEY",
		Short: "Who has changed a key, when and why",
		Long: `Who has changed a key, when and why, the newest first. Changes by other means than etcdkit, as with etcdctl put, are
there as "outside", as far as they are known.

JSON, one object a version: key, version, revision, kind (published, rolled back, rolled out, taken back, outside,
deleted, malformed), author, reason, time, of (the version that was rolled back to), rollout (its ID), missed
(changes before it that are not known), omitted (the value was too large to be kept), gone (the key did not
exist), size in bytes.`,
		Example: `  etcdkit config history /config/prod/mail/limits -n 5`,
		Args:    cli.Arguments(1, "KEY"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if most < 0 {
			return exit.Usage(fmt.Errorf("-n %d: it must not be negative", most))
		}
		return run(f, func(ctx context.Context, u *use, args []string) error { return u.history(ctx, u.named(args[0]), most) })(c, args)
	}
	c.Flags().IntVarP(&most, "number", "n", 20, "how many versions; 0 for all")
	return c
}

// history prints versions.
func (u *use) history(ctx context.Context, key string, most int) error {
	versions, err := u.store.History(ctx, key, most)
	switch {
	case err != nil:
		return err
	case len(versions) == 0:
		return fmt.Errorf("%s: it has no history", key)
	}
	rows := make([][]string, len(versions))
	for i, v := range versions {
		if u.JSON {
			u.Emit(versionFacts(v))
			continue
		}
		rows[i] = []string{
			strconv.FormatInt(v.Number, 10), strconv.FormatInt(v.Revision, 10), cli.Ago(v.Time), string(v.Kind), v.Author, remarks(v),
		}
	}
	if !u.JSON {
		cli.Table(u.Out, []string{"VERSION", "REVISION", "WHEN", "KIND", "AUTHOR", "REASON"}, rows)
	}
	return nil
}
