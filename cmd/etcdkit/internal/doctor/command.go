package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// How the command ends if it could examine the cluster, and not all was well.
const (
	exitWarned = 3
	exitFailed = 4
)

// flags are those of the command, beside the connection's.
type flags struct {
	only, recipes, keys []string
	root                string
	patient             Patient // what is known of the cluster
}

// New returns the command.
func New() *cobra.Command {
	conn, f := &cli.Connection{}, &flags{}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a cluster before it goes live",
		Long: `Examine a cluster before it goes live, in eight checks. Each is ok, warn, fail or skipped, and says why, what was
seen, and what to do about it.

` + list() + `
Connect as the application will, with its user and its certificate: that is what is judged. What etcd shows
only to root (users, roles, snapshots, hashes) is read as the user of --root, and skipped without.

Nothing is written unless --write or --snapshot allows it: probes, below a prefix of the doctor's own that is
deleted afterwards, and a snapshot in a directory here. What was not looked at is skipped, never ok. Handshakes
that the members are to refuse leave lines about refused connections in their logs, and logins with an
empty password, which --root has tried for each user, leave lines about failed ones.

With -o json each check is an object in a line, with "number", "check", "verdict" and "findings": these have a
"verdict", a "subject", a "reason", and perhaps "evidence" (a list) and a "remedy".

Exit codes:
    0  all is well, as far as it was looked at
    1  the cluster could not be examined: nothing answers, or the user was refused
    2  the command line is wrong
    3  there are warnings
    4  something fails
  130  interrupted`,
		Example: `  etcdkit doctor --user app --root root --recipe lock=orders --keys app/
  etcdkit doctor --only tls,auth -o json
  etcdkit doctor --root root --write --snapshot /var/backups --heartbeat-interval 100ms --election-timeout 1s`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c, conn) },
	}
	conn.Register(c.Flags(), "table")
	set, p := c.Flags(), &f.patient
	set.StringSliceVar(&f.only, "only", nil, "the checks to make, by name (default all)")
	set.StringVar(&f.root, "root", "", "user that may see users, roles and snapshots; the password is asked for, unless it is in\n$ETCDKIT_ROOT_PASSWORD")
	set.StringArrayVar(&f.recipes, "recipe", nil, "what the application uses, as RECIPE=NAME (see etcdkit rbac); may be repeated")
	set.StringArrayVar(&f.keys, "keys", nil, "prefix of keys that the application reads and writes itself; may be repeated")
	set.BoolVar(&p.Write, "write", false, "allow probe writes, below a prefix of the doctor's own")
	set.StringVar(&p.Snapshot, "snapshot", "", "directory to take a snapshot in, which is restored and compared, and deleted")
	set.DurationVar(&p.Heartbeat, "heartbeat-interval", 0, "the members' own setting, as in 100ms")
	set.DurationVar(&p.Election, "election-timeout", 0, "the members' own setting, as in 1s")
	set.Int64Var(&p.Quota, "quota-backend-bytes", 0, "the members' own setting, where they do not tell it")
	set.DurationVar(&p.SessionTTL, "session-ttl", 0, "that of the application's sessions")
	set.StringSliceVar(&p.MetricsURLs, "metrics-urls", nil, "where the members serve their metrics, if not at the endpoints: as many, in the same order")
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(names(), cobra.ShellCompDirectiveNoFileComp)) // there is such a flag
	return c
}

// names are those of all checks.
func names() (all []string) {
	for _, c := range checks {
		all = append(all, c.name)
	}
	return all
}

// list is the checks for the help.
func list() string {
	var b strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&b, "  %d  %s  %s\n", c.number, screen.Pad(c.name, 12), c.title)
	}
	return b.String()
}

// check returns an error of usage.
func (f *flags) check() error {
	for _, name := range f.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("--only %s: there is no such check (%s)", name, strings.Join(names(), ", "))
		}
	}
	p := &f.patient
	for name, d := range map[string]time.Duration{"heartbeat-interval": p.Heartbeat, "election-timeout": p.Election, "session-ttl": p.SessionTTL} {
		if d < 0 {
			return fmt.Errorf("--%s %v: it must be positive", name, d)
		}
	}
	if p.Quota < 0 {
		return fmt.Errorf("--quota-backend-bytes %d: it must be positive", p.Quota)
	}
	var err error
	p.declared, err = declare(f.recipes, f.keys)
	return err
}

// run examines a cluster.
func (f *flags) run(c *cobra.Command, conn *cli.Connection) error {
	if err := errors.Join(conn.Check()); err != nil {
		return exit.Usage(err)
	}
	if err := f.check(); err != nil {
		return exit.Usage(err)
	}
	ctx, stop := exit.Interruptible(c.Context())
	defer stop()
	terminal := cli.NewTerminal(c)
	p := &f.patient
	p.Connection = conn
	defer p.close(ctx)
	err := p.open(ctx, terminal, f.root)
	if err == nil {
		out := &printer{Screen: screen.New(c.OutOrStdout()), verbose: conn.Verbose}
		err = errors.Join(f.examine(ctx, out, conn.JSON), out.Err())
	}
	return cli.Plain(ctx, c, err)
}

// examine makes the checks, one after the other: they are not to disturb each other's measurements.
func (f *flags) examine(ctx context.Context, out *printer, objects bool) error {
	var reports []Report
	for _, c := range checks {
		if len(f.only) > 0 && !slices.Contains(f.only, c.name) {
			continue
		}
		out.working(c)
		r := c.report(ctx, &f.patient)
		if ctx.Err() != nil {
			out.Status("")
			return context.Cause(ctx)
		}
		reports = append(reports, r)
		if !objects {
			out.report(c, r)
		} else if err := out.object(r); err != nil {
			return err
		}
	}
	if !objects {
		out.summary(reports)
	}
	return outcome(reports, f.patient.Unreached)
}

// outcome is the error that reports end the command with.
func outcome(reports []Report, unreached error) error {
	failed, warned := having(reports, Fail), having(reports, Warn)
	switch {
	case len(failed) > 0:
		return exit.With(exitFailed, fmt.Errorf("%s failed: %s", cli.Plural(len(failed), "check", "checks"), strings.Join(failed, ", ")))
	case unreached != nil:
		return unreached
	case len(warned) > 0:
		return exit.With(exitWarned, fmt.Errorf("%s: %s", cli.Plural(len(warned), "check with a warning", "checks with warnings"), strings.Join(warned, ", ")))
	}
	return nil
}

// having are the names of the checks with a verdict.
func having(reports []Report, v Verdict) (all []string) {
	for _, r := range reports {
		if r.Verdict == v {
			all = append(all, r.Name)
		}
	}
	return all
}
