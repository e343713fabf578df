package configcli

import (
	"bytes"
	"context"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/config"
)

func newExport(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Print all keys below a prefix, for import or for version control",
		Long: `Print all keys below a prefix with their values, as of one revision: YAML that import reads. Equal keys make equal
text, but for the revision. The prefix may be left out where --env is given. Sealed values stay sealed.

JSON, one object a key: key, revision, value or valueBase64.`,
		Example: `  etcdkit config export /config/prod > prod.yaml`,
		Args:    cli.Arguments(0, "PREFIX"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			prefix, err := u.below(args)
			if err != nil {
				return err
			}
			if !u.JSON {
				return u.store.Export(ctx, prefix, u.Raw)
			}
			l, err := u.store.At(ctx, prefix, 0)
			if err != nil {
				return err
			}
			for _, e := range l.Entries {
				u.Emit(struct {
					Key      string `json:"key"`
					Revision int64  `json:"revision"`
					cli.Value
				}{e.Key, e.Revision, cli.ValueOf(e.Value)})
			}
			return nil
		}),
	}
}

func newImport(f *flags) *cobra.Command {
	var t transferFlags
	var to string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make keys what an export says",
		Long: `Make keys what an export says: those below the prefix that the export is of, or another one. What differs is shown,
and somebody has to agree to it; if a key changes meanwhile, it is not overwritten. - is standard input.

Keys that are not in the export stay, unless --delete is given. An import that failed in the middle is finished by
another one.

JSON: as that of promote.`,
		Example: `  etcdkit config import prod.yaml --dry-run
  etcdkit config import prod.yaml --yes --reason "release 4.2"`,
		Args: cli.Arguments(1, "FILE"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			if to != "" {
				to = u.prefix(to)
			}
			return u.importFile(ctx, args[0], to, &t)
		}),
	}
	t.register(c)
	c.Flags().StringVar(&to, "to", "", "below that prefix (default the one that the export is of)")
	return c
}

// importFile makes the keys below a prefix what an export says.
func (u *use) importFile(ctx context.Context, name, to string, f *transferFlags) error {
	text, err := u.read(name, maxImport)
	if err != nil {
		return err
	}
	o := f.options()
	o.DryRun = true
	dry, err := u.store.Import(ctx, to, bytes.NewReader(text), o)
	if err != nil {
		return err
	}
	return u.settle(ctx, f, dry.Comparison, jsonTransfer{To: to}, "Write %s?", func(o config.TransferOptions) (config.Transfer, error) {
		o.AsOf = dry.Revision
		return u.store.Import(ctx, to, bytes.NewReader(text), o)
	})
}
