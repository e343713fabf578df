package snapshotcli

import (
	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// New returns the command.
func New() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Take backups, verified",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}
