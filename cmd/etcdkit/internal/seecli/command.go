package seecli

import (
	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// NewList returns the command.
func NewList() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the locks and elections that there are",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}

// NewInspect returns the command.
func NewInspect() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "inspect",
		Short: "Show who holds a lock or leads, and who waits",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}

// NewSessions returns the command.
func NewSessions() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "sessions",
		Short: "See and revoke leases",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	return c
}
