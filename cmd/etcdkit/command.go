package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/benchcli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/configcli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/demo"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/dev"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/doctor"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/lockcli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/queuecli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/rbaccli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/seecli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/servicecli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshotcli"
)

// execute carries out a command line and returns the exit code.
func execute(args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot(out)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	command, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	code := exit.Code(err)
	if exit.Silent(err) {
		return code
	}
	fmt.Fprintf(errs, "%s: %v\n", command.CommandPath(), err)
	if code == exit.Misused {
		fmt.Fprintf(errs, "See: %s --help\n", command.CommandPath())
	}
	return code
}

func newRoot(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "etcdkit",
		Short: "Try out and operate coordination on etcd",
		Args:  exit.Arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },

		SilenceErrors:      true, // execute prints them
		SilenceUsage:       true,
		DisableSuggestions: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.Usage(err) })
	root.AddCommand(
		newDemo(out), newDev(out),
		lockcli.NewLock(), lockcli.NewElect(),
		seecli.NewList(), seecli.NewInspect(), seecli.NewSessions(),
		servicecli.NewServices(), servicecli.NewRegister(), servicecli.NewDrain(),
		configcli.New(), queuecli.New(),
		snapshotcli.New(), rbaccli.New(), benchcli.New(), doctor.New(),
	)
	return root
}

func newDemo(out io.Writer) *cobra.Command {
	var cfg demo.Config
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show what etcdkit promises, live, on an etcd of its own",
		Long: `Start three etcd members and three processes of a small service, and show what etcdkit promises while
configuration goes wrong and processes are killed, frozen and stopped. Every claim is checked against
etcd's own history. It takes about half a minute, and leaves nothing behind.

With --metrics it goes on before the service is stopped, until Ctrl-C: everything that docs/monitoring shows is
to be seen at the /metrics of that address, of all processes and of etcd's members. The service sends mails
from a queue then, and etcd syncs to disk. After Ctrl-C comes the rest of the demo; a second one ends it.

The exit code is 0 only if everything held.`,
		Example: `  etcdkit demo
  etcdkit demo --metrics :9464`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return exit.Usage(err)
			}
			ctx, stop := exit.Interruptible(c.Context())
			defer stop()
			return demo.Run(ctx, screen.New(out), cfg)
		},
	}
	c.Flags().StringVar(&cfg.Metrics, "metrics", "", "serve metrics at this address, :PORT for this machine only, and go on until Ctrl-C")
	return c
}

func newDev(out io.Writer) *cobra.Command {
	var cfg dev.Config
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run an etcd for development until Ctrl-C",
		Long: `Run an etcd for development, of one member or three, until Ctrl-C. It listens on this machine only,
without TLS and without passwords. Its data are gone at the end, unless --dir says where they are to stay; a
later run with the same directory finds them again.`,
		Example: `  etcdkit dev
  etcdkit dev --members 3 --dir ./etcd-data`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return exit.Usage(err)
			}
			ctx, stop := exit.Interruptible(c.Context())
			defer stop()
			return dev.Run(ctx, screen.New(out), cfg)
		},
	}
	c.Flags().IntVar(&cfg.Members, "members", 0, "number of members, 1 or 3 (default 1, or what --dir holds)")
	c.Flags().IntVar(&cfg.Port, "port", dev.DefaultPort, "port of the first member; 0 for any that is free. Each member takes\ntwo, one after the other")
	c.Flags().StringVar(&cfg.Dir, "dir", "", "directory for the data (default a temporary one)")
	return c
}
