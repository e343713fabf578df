package benchcli

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

// Bounds of the flags: what is measured lives, and is not to be worn out by a zero too many.
const (
	mostDuration = 10 * time.Minute
	mostCount    = 1_000_000
	mostClients  = 1000
	mostRate     = 1_000_000
)

// plan is what is to be measured, and how.
type plan struct {
	only     []string
	duration time.Duration
	count    int // instead of a duration, unless it is 0
	clients  int
	rate     int // operations a second, of all clients together; 0 for as many as there can be
}

// New returns the command.
func New() *cobra.Command {
	f, p := &cli.Connection{}, &plan{}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster with the recipes",
		Long: `Measure a cluster with the recipes: how long each operation takes, from this machine, as percentiles.

` + list() + `
It writes to the cluster: below etcdkit/bench/ and a name of this run's own, which is all that its user needs READWRITE on. All of
it is deleted afterwards, also after Ctrl-C, and by leases of 10 seconds if this process is killed. What remains until
the cluster's next compaction is the history of those keys, as of any others.

It is gentle unless told otherwise: one measurement after the other, two seconds each, with 2 clients that
do no more than 100 operations a second together. --rate 0 lifts that, and finds the cluster's limit at the cost of all
others who use it. Clients are sessions that share this process's connections.

JSON, one object a measurement: measured, operation, clients, count, seconds, perSecond, p50Seconds, p90Seconds,
p99Seconds, maxSeconds.

Exit codes:
    0  measured
    1  failed: nothing answers, the user was refused, or what was written could not be deleted
    2  the command line is wrong
  130  interrupted; what was measured until then is printed`,
		Example: `  etcdkit bench
  etcdkit bench --only lock,hand-over --clients 8 --duration 10s
  etcdkit bench --rate 0 --count 10000 -o json | jq .p99Seconds`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(c.Flags().Changed("duration")); err != nil {
				return exit.Usage(err)
			}
			return cli.Run(f, nil, func(ctx context.Context, u *cli.Use, _ []string) error { return run(ctx, u, p) })(c, args)
		},
	}
	f.Register(c.Flags(), "table")
	set := c.Flags()
	set.StringSliceVar(&p.only, "only", nil, "what to measure, by name (default all)")
	set.DurationVar(&p.duration, "duration", 2*time.Second, "how long each measurement takes")
	set.IntVar(&p.count, "count", 0, "how many operations each measurement takes, however long they last; instead of --duration")
	set.IntVar(&p.clients, "clients", 2, "how many work at a time; hand-over has 2 at least")
	set.IntVar(&p.rate, "rate", 100, "how many operations a second all of them do at most; 0 for no bound")
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(names(), cobra.ShellCompDirectiveNoFileComp)) // there is such a flag
	return c
}

var errBoth = errors.New("--count and --duration: only one of them can be meant")

// check returns an error of usage.
func (p *plan) check(timed bool) error {
	for _, name := range p.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("--only %s: there is no such measurement (%s)", cli.Visible(name), strings.Join(names(), ", "))
		}
	}
	switch {
	case p.count != 0 && timed:
		return errBoth
	case p.count < 0 || p.count > mostCount:
		return fmt.Errorf("--count %d: it must be from 1 to %d", p.count, mostCount)
	case p.duration <= 0 || p.duration > mostDuration:
		return fmt.Errorf("--duration %v: it must be positive, and %v at most", p.duration, mostDuration)
	case p.clients < 1 || p.clients > mostClients:
		return fmt.Errorf("--clients %d: it must be from 1 to %d", p.clients, mostClients)
	case p.rate < 0 || p.rate > mostRate:
		return fmt.Errorf("--rate %d: it must be from 0 to %d", p.rate, mostRate)
	}
	return nil
}

// chosen are the measurements to make, in the order of the table.
func (p *plan) chosen() (all []measurement) {
	for _, m := range measurements {
		if len(p.only) == 0 || slices.Contains(p.only, m.name) {
			all = append(all, m)
		}
	}
	return all
}

// said is the plan in words.
func (p *plan) said() string {
	length := fmt.Sprintf("%v each", p.duration)
	if p.count > 0 {
		length = fmt.Sprintf("%s each", cli.Plural(p.count, "operation", "operations"))
	}
	pace := "as fast as the cluster can"
	if p.rate > 0 {
		pace = fmt.Sprintf("at most %d a second", p.rate)
	}
	return fmt.Sprintf("%s, %s, %s", length, cli.Plural(p.clients, "client", "clients"), pace)
}

// names are those of all measurements.
func names() (all []string) {
	for _, m := range measurements {
		all = append(all, m.name)
	}
	return all
}

// list is the measurements for the help.
func list() string {
	var b strings.Builder
	for _, m := range measurements {
		fmt.Fprintf(&b, "  %s  %s\n", screen.Pad(m.name, 9), m.operation)
	}
	return b.String()
}
