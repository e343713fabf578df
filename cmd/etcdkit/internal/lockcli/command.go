package lockcli

import (
	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// NewLock returns the command.
func NewLock() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "lock",
		Short: "Run a command while holding a lock",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}

// NewElect returns the command.
func NewElect() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "elect",
		Short: "Run a command while leading",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}
