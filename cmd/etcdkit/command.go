package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/demo"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/dev"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell says it of Ctrl-C
)

// errInterrupted is the end of a command that was told to stop before it was through.
var errInterrupted = errors.New("interrupted")

// usageError is a command line that cannot be carried out, whatever the world is like.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// execute carries out a command line and returns the exit code.
func execute(args []string, out, errs io.Writer) int {
	root := newRoot(out)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	command, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	fmt.Fprintf(errs, "%s: %v\n", command.CommandPath(), err)
	_, usage := errors.AsType[usageError](err)
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case usage:
		fmt.Fprintf(errs, "See: %s --help\n", command.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "etcdkit",
		Short: "Try out and operate coordination on etcd",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },

		SilenceErrors:      true, // execute prints them
		SilenceUsage:       true,
		DisableSuggestions: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newDemo(out), newDev(out))
	return root
}

func newDemo(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show what etcdkit promises, live, on an etcd of its own",
		Long: `Start three etcd members and three processes of a small service, and show what etcdkit promises while
configuration goes wrong and processes are killed, frozen and stopped. Every claim is checked against
etcd's own history. It takes about half a minute, and leaves nothing behind.

The exit code is 0 only if everything held.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			return demo.Run(ctx, screen.New(out))
		},
	}
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
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			return dev.Run(ctx, screen.New(out), cfg)
		},
	}
	c.Flags().IntVar(&cfg.Members, "members", 0, "number of members, 1 or 3 (default 1, or what --dir holds)")
	c.Flags().IntVar(&cfg.Port, "port", dev.DefaultPort, "port of the first member; 0 for any that is free. Each member takes\ntwo, one after the other")
	c.Flags().StringVar(&cfg.Dir, "dir", "", "directory for the data (default a temporary one)")
	return c
}

// arguments has an error about a command's arguments known as one of usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// interruptible returns a context that ends with the first SIGINT, SIGTERM or SIGHUP. A second one ends the process, and
// with it all that it has started. A reader that has gone away does not: whoever prints sees an error.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); signal.Stop(signals); signal.Stop(pipe) }
}
