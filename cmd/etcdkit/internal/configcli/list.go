package configcli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/config"
)

func newList(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "The keys below a prefix",
		Long: `The keys below a prefix, without their values. The prefix may be left out where --env is given.

JSON, one object a key: key, revision (of its last write), created (the revision), writes (since then).`,
		Example: `  etcdkit config list /config/prod`,
		Args:    cli.Arguments(0, "PREFIX"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			prefix, err := u.below(args)
			if err != nil {
				return err
			}
			l, err := u.store.Keys(ctx, prefix)
			if err != nil {
				return err
			}
			u.list(l)
			return nil
		}),
	}
}

// list prints keys.
func (u *use) list(l config.Listing) {
	rows := make([][]string, len(l.Entries))
	for i, e := range l.Entries {
		if u.JSON {
			u.Emit(struct {
				Key      string `json:"key"`
				Revision int64  `json:"revision"`
				Created  int64  `json:"created"`
				Writes   int64  `json:"writes"`
			}{e.Key, e.Revision, e.Created, e.Writes})
			continue
		}
		rows[i] = []string{e.Key, strconv.FormatInt(e.Revision, 10), strconv.FormatInt(e.Writes, 10)}
	}
	switch {
	case u.JSON:
	case len(rows) == 0:
		u.Say("no keys")
	default:
		cli.Table(u.Out, []string{"KEY", "REVISION", "WRITES"}, rows)
	}
}
