package servicecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// closeWithin bounds the saying goodbye.
const closeWithin = 2 * time.Second

// announcement is what the flags of register say.
type announcement struct {
	instance registry.Instance
	health   string // the command, "" for none
	check    registry.Check
	ttl      time.Duration
	drain    time.Duration
	grace    time.Duration
}

// NewRegister returns the command.
func NewRegister() *cobra.Command {
	f := &cli.Connection{}
	a := &announcement{}
	c := &cobra.Command{
		Use:   "register SERVICE ADDR [-- COMMAND...]",
		Short: "Announce an instance while a command runs",
		Long: `Announce an instance at ADDR, host:port, while a command runs, or until Ctrl-C without one. It is put back whatever
becomes of its key or lease, for as long as it takes. What happens is told on standard error; standard output is the command's.

With --health-cmd, which a shell runs, the instance is starting until the command has ended with 0, and again when it has failed
as often in a row as --health-failures says. Without one it is ready as soon as the command has been started.

At SIGTERM, SIGINT or SIGHUP the instance is draining first, so that callers choose others, for as long as --drain says; then the
command gets SIGTERM, and SIGKILL after --grace; and then the instance goes. A second signal ends it at once. If the command ends by
itself the instance goes with it, and so does the command with etcdkit, however that ends.

If etcd is lost the command goes on: it is still there, and is found again when etcd is back.

Exit codes:
    0  ended by a signal, without a command
    1  failed: the instance could not be announced, and the command was not run
    2  the command line is wrong
  126  the command cannot be run
  127  there is no such command
  130  interrupted before it was announced
  else the command's own; 128+n if signal n has ended it`,
		Example: `  etcdkit register mail 10.0.0.7:8080 --zone eu-1b -- ./mail-server --port 8080
  etcdkit register db 10.0.0.9:5432 --health-cmd 'pg_isready -q' --health-interval 5s`,
	}
	f.Register(c.Flags(), "text")
	flags := c.Flags()
	host, _ := os.Hostname()
	flags.StringVar(&a.instance.ID, "id", host, "what tells it from the service's other instances, the same after a restart")
	flags.StringVar(&a.instance.Zone, "zone", "", "its zone")
	flags.StringVar(&a.instance.Version, "version", "", "its version")
	flags.IntVar(&a.instance.Weight, "weight", 100, "its share of the load, relative to the others")
	flags.StringToStringVar(&a.instance.Metadata, "meta", nil, "metadata, key=value; may be repeated")
	flags.StringVar(&a.health, "health-cmd", "", "what a shell runs to find out whether it takes work")
	flags.DurationVar(&a.check.Period, "health-interval", 10*time.Second, "how often")
	flags.DurationVar(&a.check.Timeout, "health-timeout", 0, "how long it may take (default 5s, or --health-interval if that is less)")
	flags.IntVar(&a.check.FailureThreshold, "health-failures", 3, "how many failures in a row take it out, 2 at least")
	flags.IntVar(&a.check.SuccessThreshold, "health-successes", 1, "how many successes in a row bring it back")
	flags.DurationVar(&a.ttl, "ttl", 10*time.Second, "for how long it is still found if this machine dies, 2s at least")
	flags.DurationVar(&a.drain, "drain", 2*time.Second, "how long it is draining before the command is told to end")
	flags.DurationVar(&a.grace, "grace", 10*time.Second, "how long the command has then")
	below := prefixed(c)
	c.Args = exit.Arguments(func(c *cobra.Command, args []string) error {
		dash := c.ArgsLenAtDash()
		if dash < 0 {
			dash = len(args)
		}
		switch {
		case dash < 1:
			return errors.New("SERVICE is missing")
		case dash < 2:
			return errors.New("ADDR is missing")
		case dash > 2:
			return fmt.Errorf("unexpected argument %q: the command comes after --", args[2])
		case c.ArgsLenAtDash() >= 0 && len(args) == dash:
			return errors.New("COMMAND is missing after --")
		}
		return nil
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		prefix, err := below()
		if err != nil {
			return err
		}
		a.instance.Service, a.instance.Addr = args[0], args[1]
		if err := a.validate(); err != nil {
			return exit.Usage(err)
		}
		var command *child.Command
		if len(args) > 2 {
			path, err := child.Find(args[2])
			if err != nil {
				return err
			}
			command = &child.Command{Path: path, Args: args[2:], Stdin: c.InOrStdin(), Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr(), Grace: a.grace}
		}
		return cli.Run(f, explain, func(ctx context.Context, u *cli.Use, _ []string) error {
			return a.run(ctx, u, prefix[:len(prefix)-1], command)
		})(c, args)
	}
	return c
}

// validate returns an error of usage.
func (a *announcement) validate() error {
	switch {
	case a.drain < 0:
		return fmt.Errorf("--drain %v: it must not be negative", a.drain)
	case a.grace < 0:
		return fmt.Errorf("--grace %v: it must not be negative", a.grace)
	case a.check.Period <= 0:
		return fmt.Errorf("--health-interval %v: it must be positive", a.check.Period)
	case a.check.Timeout < 0 || a.check.Timeout > a.check.Period:
		return fmt.Errorf("--health-timeout %v: it must be positive, and --health-interval at the most", a.check.Timeout)
	case a.check.FailureThreshold < 2:
		return fmt.Errorf("--health-failures %d: it must be 2 at least, as one failure is to take nobody out", a.check.FailureThreshold)
	case a.check.SuccessThreshold < 1:
		return fmt.Errorf("--health-successes %d: it must be positive", a.check.SuccessThreshold)
	}
	if err := (&session.Options{TTL: a.ttl}).Validate(); err != nil {
		return fmt.Errorf("--ttl %v: it must be whole seconds, 2s at least", a.ttl)
	}
	return nil
}

// run announces the instance while the command runs, if there is one.
func (a *announcement) run(ctx context.Context, u *cli.Use, prefix string, command *child.Command) error {
	opts := &registry.Options{Prefix: prefix, Session: &session.Options{TTL: a.ttl}, Logger: newTeller(u)}
	if a.health != "" {
		a.check.Name, a.check.Probe = "health command", probe(u, a.health)
		if a.check.Timeout == 0 {
			a.check.Timeout = min(defaultHealthTimeout, a.check.Period)
		}
		opts.Checks = []registry.Check{a.check}
	}
	what := ask(a.instance.Service, a.instance.ID)
	first := a.instance
	if command != nil {
		first.State = registry.Starting // nobody is to call before the command is there
	}
	reg, err := registry.Register(ctx, u.Client(), first, opts)
	if err != nil {
		return err
	}
	closed := func() error {
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		return reg.Close(goodbye)
	}
	u.Say("%s: announced at %s", what, cli.Visible(a.instance.Addr))
	if command == nil {
		<-ctx.Done()
		a.leave(ctx, u, reg, nil)
		if err := closed(); err != nil {
			return ending{exit.Failed, fmt.Sprintf("%s: it may still be found for %v: %s", what, a.ttl, cli.Plainly(err.Error()))}
		}
		return cli.ErrEnough
	}
	p, err := child.Start(*command)
	if err != nil {
		_ = closed()
		return err
	}
	ready, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // which may take as long as etcd is away
		_ = reg.Update(ready, func(i *registry.Instance) { i.State = registry.Ready })
	}()
	select {
	case <-p.Done():
	case <-ctx.Done():
		cancel()
		a.leave(ctx, u, reg, p.Done())
		p.Stop(a.grace)
	}
	status := p.Wait()
	if err := closed(); err != nil {
		u.Say("%s: it may still be found for %v: %s", what, a.ttl, cli.Plainly(err.Error()))
	}
	return ended(status)
}

// leave has callers choose others, unless the command ends before.
func (a *announcement) leave(ctx context.Context, u *cli.Use, reg *registry.Registration, over <-chan struct{}) {
	if a.drain == 0 {
		return
	}
	// The drain's own time begins when etcd has it: if etcd is away it is not waited for longer than that.
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.drain+closeWithin)
	defer cancel()
	u.Say("%s: draining for %v", ask(a.instance.Service, a.instance.ID), a.drain)
	done := make(chan error, 1)
	go func() { done <- reg.Drain(draining, a.drain) }()
	var err error
	select {
	case err = <-done:
	case <-over: // that readers were not waited for is no news then
		cancel()
		if err = <-done; errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	if err != nil {
		u.Say("%s", cli.Plainly(err.Error()))
	}
}

// ending is how an announcement has ended that was told to, or whose command has ended.
type ending struct {
	code int
	text string
}

func (e ending) Error() string { return e.text }

// explain gives an error its words and its exit code: that of the command, also when a signal has come.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if e, ok := errors.AsType[ending](err); ok {
		return exit.With(e.code, e)
	}
	return cli.Plain(ctx, c, err)
}

// ended is how the command has ended, as this command does.
func ended(s child.Status) error {
	switch {
	case s.Err != nil:
		return ending{exit.Failed, fmt.Sprintf("nothing is known of the command's end: %v", s.Err)}
	case len(s.Left) > 0:
		return ending{max(s.Code, exit.Failed), fmt.Sprintf("processes of the command could not be killed: %v", s.Left)}
	case s.Signal != 0:
		return ending{s.Code, fmt.Sprintf("the command was ended by a signal: %v", s.Signal)}
	case s.Code != 0:
		return ending{s.Code, fmt.Sprintf("the command has ended with %d", s.Code)}
	}
	return nil
}
