package lockcli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// defaultTTL is package session's; its margin is a tenth.
	defaultTTL = 10 * time.Second

	// marginShare and graceShare are what of the TTL is kept before the lease can expire, and what the command has between SIGTERM and
	// the end of trust. mostShare is what the two may come to: a renewal is due after a third, and needs time to be answered.
	marginShare, graceShare, mostShare = 10, 5, 2
)

// flags are what lock and elect have in common.
type flags struct {
	cli.Connection
	try     bool
	timeout time.Duration
	ttl     time.Duration
	grace   time.Duration
	quiet   bool
}

func (f *flags) register(c *cobra.Command, what string) {
	set := c.Flags()
	f.Register(set, "table")
	_ = set.MarkHidden("output") // it exists, and there is nothing to print: standard output is the command's
	set.BoolVar(&f.try, "try", false, "do not wait: end with 124 if it "+what)
	set.DurationVar(&f.timeout, "timeout", 0, "wait for so long at most, then end with 124 (default for ever)")
	set.DurationVar(&f.ttl, "ttl", defaultTTL, "how soon others go on after this machine died; whole seconds, at least 2s")
	set.DurationVar(&f.grace, "grace", 0, "what the command has between SIGTERM and SIGKILL when renewals fail\n(default a fifth of the TTL)")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "do not say who is waited for")
}

// check returns an error of usage, and fills in defaults.
func (f *flags) check(c *cobra.Command) error {
	if err := f.Check(); err != nil {
		return err
	}
	switch {
	case f.try && f.timeout != 0:
		return errors.New("--try and --timeout: only one of them can be meant")
	case c.Flags().Changed("timeout") && f.timeout <= 0:
		return fmt.Errorf("--timeout %v: it must be positive", f.timeout)
	case c.Flags().Changed("ttl") && f.ttl <= 0:
		return fmt.Errorf("--ttl %v: it must be positive", f.ttl)
	}
	if err := (&session.Options{TTL: f.ttl}).Validate(); err != nil {
		return fmt.Errorf("--ttl %v: %s", f.ttl, cli.Plainly(err.Error()))
	}
	f.ttl = (f.ttl + time.Second - 1).Truncate(time.Second) // as etcd counts it
	if !c.Flags().Changed("grace") {
		f.grace = f.ttl / graceShare
	}
	most := f.ttl/mostShare - f.ttl/marginShare
	if f.grace < 0 || f.grace > most {
		return fmt.Errorf("--grace %v: with a TTL of %v it must be 0 to %v, so that a renewal that is late does not end the command", f.grace, f.ttl, most)
	}
	return nil
}

// arguments are NAME -- CMD [ARG...].
func arguments(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	switch {
	case dash == 0 || len(args) == 0:
		return exit.Usage(errors.New("NAME is missing"))
	case args[0] == "":
		return exit.Usage(errors.New("NAME is empty"))
	case dash < 0:
		return exit.Usage(errors.New("-- is missing: the command to run comes after it"))
	case dash > 1:
		return exit.Usage(fmt.Errorf("unexpected argument %q", args[1]))
	case len(args) == 1:
		return exit.Usage(errors.New("the command to run is missing"))
	}
	return nil
}

// run makes a kind of thing to hold what a command does with it. What can be known to be wrong without etcd ends it before etcd is
// asked for anything.
func run(f *flags, prepare func(name string) (kind, error), again *bool) func(c *cobra.Command, args []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f.check(c); err != nil {
			return exit.Usage(err)
		}
		what, err := prepare(args[0])
		if err != nil {
			return exit.Usage(err)
		}
		path, err := child.Find(args[1])
		if err != nil {
			return err
		}
		ctx, signals := child.Catch(c.Context())
		defer signals.Close()
		h := &holder{flags: f, kind: what, command: c, name: args[0], path: path, args: args[1:], signals: signals}
		if h.use, err = f.Open(ctx, c); err == nil {
			err = h.hold(ctx, *again)
			h.use.Close(ctx)
		}
		return explain(ctx, c, err)
	}
}

// explain is what is said of an error. An interrupted wait has nothing else to say.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil || exit.Silent(err) {
		return err
	}
	if errors.Is(err, exit.ErrInterrupted) {
		return exit.With(exit.Interrupted, exit.ErrInterrupted)
	}
	if code := exit.Code(err); code != exit.Failed {
		return exit.With(code, cli.Reword(cli.Plainly(err.Error()), err))
	}
	return cli.Plain(ctx, c, err)
}

// codes are the exit codes that lock and elect have in common.
const codes = `
Exit codes:
       its own of the command, as a shell has it: 128+n if signal n ended it
    1  failed otherwise
    2  the command line is wrong
  124  not obtained: --try, or --timeout has passed; the command was not run
  125  lost while the command ran; it was stopped
  126  the command cannot be run
  127  the command does not exist
  130  interrupted while waiting`

// stopping is what lock and elect say of the end of a command.
const stopping = `
What is held stands on a lease, which is renewed all the time. If that fails, the command gets SIGTERM a
--grace before it can no longer be relied on, and SIGKILL then: before etcd can give to anybody else what
was held. It is stopped at once if the lease is revoked or the key deleted, which frees it first: within a
second somebody else may hold it too. What it writes is protected against that, and against a machine that
stands still, only where its fencing token is checked.

A second process watches over the deadline, so that it is kept if etcdkit hangs, is frozen or killed: then
the command is killed, too. It is in a process group of its own; the whole group is signalled, and on Linux
everything that it has started is killed, daemons too. What it leaves behind when it ends is told to end,
and killed after the grace, before anything is given back. Commands that get other rights (sudo), or have
others do their work (docker, systemd-run), are beyond that.

SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command; when it has ended, what
was held is given back. A command that is stopped with Ctrl-Z is not renewed for: it loses what it held.
`
