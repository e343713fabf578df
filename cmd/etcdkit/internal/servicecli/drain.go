package servicecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/registry"
)

// NewDrain returns the command.
func NewDrain() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "drain SERVICE ID",
		Short: "Take an instance out of traffic",
		Long: `Take an instance out of traffic, whosever it is: callers give it nothing new, and what is under way ends. Its process goes
on, and stays out until --undo, or until it starts anew: neither its own updates nor its health checks make it ready.

Callers see it at once. The process answers, which is waited for: one whose etcdkit is older, or that registers by other means,
puts the instance back, or leaves it as it is for as long as it does not write. Then stop the process.

Nobody waits until what is under way has ended: only the process knows.

JSON: service, id, done (drained, undone).

Exit codes:
    0  the process has answered
    1  failed, or it has not, which the error says
    2  the command line is wrong
  130  interrupted`,
		Example: `  etcdkit drain mail mail-7
  etcdkit drain mail mail-7 --undo`,
		Args: cli.Arguments(2, "SERVICE", "ID"),
	}
	f.Register(c.Flags(), "text")
	undo := c.Flags().Bool("undo", false, "have it be again what its process says")
	wait := c.Flags().Duration("timeout", 5*time.Second, "how long to wait for the answer, 10s at the most")
	below := prefixed(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		prefix, err := below()
		if err != nil {
			return err
		}
		if *wait <= 0 {
			return exit.Usage(fmt.Errorf("--timeout %v: it must be positive", *wait))
		}
		return cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
			state, done := registry.Draining, "drained"
			if *undo {
				state, done = registry.Ready, "undone"
			}
			within, cancel := context.WithTimeout(ctx, *wait)
			defer cancel()
			opts := &registry.AskOptions{Prefix: prefix[:len(prefix)-1], By: whoAsks()}
			err := registry.Ask(within, u.Client(), args[0], args[1], state, opts)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := said(ask(args[0], args[1]), *undo, err); err != nil {
				return err
			}
			if u.JSON {
				u.Emit(struct {
					Service string `json:"service"`
					ID      string `json:"id"`
					Done    string `json:"done"`
				}{args[0], args[1], done})
				return nil
			}
			text := "draining"
			if *undo {
				text = "what its process says again"
			}
			u.Out.Print(ask(args[0], args[1]) + ": " + text)
			return nil
		})(c, args)
	}
	return c
}

// said gives the errors of asking the words of who has no program to mend.
func said(what string, undo bool, err error) error {
	switch {
	case errors.Is(err, registry.ErrNoInstance):
		return cli.Reword(what+": no such instance", err)
	case errors.Is(err, registry.ErrNotHeeded):
		return cli.Reword(what+": its process has put it back, as its program does not take this request: stop the process instead", err)
	case errors.Is(err, registry.ErrUnanswered) && undo:
		return cli.Reword(what+": its process does not answer, and callers see it as they did", err)
	case errors.Is(err, registry.ErrUnanswered):
		return cli.Reword(what+": its process does not answer; callers see it as draining until it writes or its lease ends", err)
	}
	return err
}

// whoAsks names this user for the log of the process that is asked.
func whoAsks() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
