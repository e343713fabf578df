package servicecli

import (
	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// NewServices returns the command.
func NewServices() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "services",
		Short: "List services and their instances",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}

// NewRegister returns the command.
func NewRegister() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "register",
		Short: "Announce an instance while a command runs",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}

// NewDrain returns the command.
func NewDrain() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "drain",
		Short: "Take an instance out of traffic",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}
