package rbaccli

import (
	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// New returns the command.
func New() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "rbac",
		Short: "Print or grant the least role that a recipe needs",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}
