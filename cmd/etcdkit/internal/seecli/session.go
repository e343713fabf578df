package seecli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/turn"
)

func newSessionsShow(f *cli.Connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "show LEASE",
		Short: "A lease, its owner, and what each of its keys is",
		Long: `A lease, its owner, and what each of its keys is: which lock it holds or waits for, with how many behind it, which instance of
which service it announces, and so on.

JSON, an object: as that of ls, with list, a list of key, kind (lock, election, schedule, slot, instance, worker, report,
queue, key), name (of the lock, service, queue), what, owner.`,
		Args: cli.Arguments(1, "LEASE"),
	}
	run := cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
		all, err := wholeSessions(ctx, u, args)
		if err != nil {
			return err
		}
		all[0].print(u)
		return nil
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := parseLeases(args); err != nil {
			return exit.Usage(err)
		}
		return run(c, args)
	}
	return c
}

// parseLeases reads IDs as people write them.
func parseLeases(args []string) ([]clientv3.LeaseID, error) {
	ids := make([]clientv3.LeaseID, len(args))
	for i, a := range args {
		id, err := strconv.ParseInt(strings.TrimPrefix(a, "0x"), 16, 64)
		if err != nil || id <= 0 {
			return nil, fmt.Errorf("lease %q: it must be a number in hexadecimal, as sessions ls shows it", a)
		}
		ids[i] = clientv3.LeaseID(id)
	}
	return ids, nil
}

// wholeSession is a lease and all its keys.
type wholeSession struct {
	leases.Lease
	things []thing
}

var errUnknownLease = errors.New("unknown: it has ended, or never was")

// wholeSessions reads leases and what hangs on them.
func wholeSessions(ctx context.Context, u *cli.Use, args []string) ([]wholeSession, error) {
	ids, err := parseLeases(args)
	if err != nil {
		return nil, err
	}
	known, err := leases.Ask(ctx, u.Client(), ids, true)
	if err != nil {
		return nil, err
	}
	var all []wholeSession
	for _, id := range ids {
		s := wholeSession{Lease: known[id]}
		if s.Gone {
			return nil, fmt.Errorf("lease %s: %w", leases.Hex(id), errUnknownLease)
		}
		if slices.ContainsFunc(all, func(o wholeSession) bool { return o.ID == id }) {
			continue
		}
		slices.Sort(s.Keys)
		if s.things, err = thingsOf(ctx, u, id, s.Keys); err != nil {
			return nil, err
		}
		if err := lookAround(ctx, u, s.things); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// lookAround finds out how places stand in their lines.
func lookAround(ctx context.Context, u *cli.Use, things []thing) error {
	return each(ctx, len(things), func(ctx context.Context, i int) error {
		t := &things[i]
		if t.kind != "lock" && t.kind != election && t.kind != schedule {
			return nil
		}
		resp, err := call.Do(ctx, u.Client(), "read the line", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return u.Client().Get(ctx, turn.Prefix(t.name), clientv3.WithPrefix())
		})
		if err == nil {
			t.stands(readLine(t.name, resp.Kvs))
		}
		return ctx.Err() // of a line that may not be read no more is told than that it is one
	})
}

// title says whose it is, and for how long.
func (s *wholeSession) title() string {
	text := "lease " + leases.Hex(s.ID)
	if t, ok := best(s.things); ok && t.owner != "" {
		text += " of " + t.owner
	}
	text += ", " + s.Lease.Text() + " left"
	if s.Err != nil {
		return text + "; " + s.Err.Error()
	}
	return text + ", " + cli.Plural(len(s.Keys), "key", "keys")
}

// print shows it.
func (s *wholeSession) print(u *cli.Use) {
	if u.JSON {
		o := sessionFacts(s.Lease)
		if t, ok := best(s.things); ok {
			o.Owner, o.What = t.owner, t.what
		}
		for _, t := range s.things {
			o.List = append(o.List, thingJSON{t.key, t.kind, t.name, t.what, t.owner})
		}
		u.Emit(o)
		return
	}
	u.Out.Print(cli.Visible(s.title()))
	if len(s.things) == 0 {
		return
	}
	rows := make([][]string, len(s.things))
	for i, t := range s.things {
		rows[i] = []string{t.kind, t.what, t.key}
	}
	cli.Fitted(u.Out, []string{"KIND", "WHAT IT DOES", "KEY"}, rows, "KEY")
}

// mostLost is how many keys are named that go with a lease.
const mostLost = 20

func newSessionsRevoke(f *cli.Connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke LEASE...",
		Short: "End leases: their keys go, and so does what they held",
		Long: `End leases: etcd deletes all their keys at once. Locks and terms are lost, and the next in line hold; a process that lives
learns of it within a second, and what it writes under its guard is refused from then on. Instances and workers that
live come back on another lease.

Says what will be lost, and asks. Where there is nobody to ask it does nothing, unless it is given --yes. If one of the leases is
unknown none is ended.

JSON, one object a lease: lease, done (revoked), keys (how many went).`,
		Example: `  etcdkit sessions revoke 7d4aa1ff1ad7a4ed`,
		Args: exit.Arguments(func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("LEASE is missing")
			}
			_, err := parseLeases(args)
			return err
		}),
	}
	yes := c.Flags().BoolP("yes", "y", false, "do it without asking")
	c.RunE = cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
		all, err := wholeSessions(ctx, u, args)
		if err != nil {
			return err
		}
		if !*yes {
			for _, s := range all {
				s.mourn(u)
			}
			if err := u.Confirm(ctx, fmt.Sprintf("Revoke %s?", cli.Plural(len(all), "lease", "leases"))); err != nil {
				return err
			}
		}
		for _, s := range all {
			if err := revoke(ctx, u, s); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// mourn says what will be lost.
func (s *wholeSession) mourn(u *cli.Use) {
	u.Say("%s", cli.Visible(s.title()))
	for i, t := range s.things {
		if i == mostLost {
			u.Say("  and %d more", len(s.things)-i)
			return
		}
		u.Say("%s", cli.Visible("  "+t.what+"  ("+t.key+")"))
	}
}

// revoke ends a lease.
func revoke(ctx context.Context, u *cli.Use, s wholeSession) error {
	_, err := call.Do(ctx, u.Client(), "revoke lease "+leases.Hex(s.ID), func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return u.Client().Revoke(ctx, s.ID)
	})
	if err != nil && !call.LeaseGone(err) { // gone: it ended meanwhile, or by an attempt of which the answer was lost
		return err
	}
	if u.JSON {
		u.Emit(struct {
			Lease string `json:"lease"`
			Done  string `json:"done"`
			Keys  int    `json:"keys"`
		}{leases.Hex(s.ID), "revoked", len(s.Keys)})
		return nil
	}
	u.Out.Print(fmt.Sprintf("%s: revoked, with %s", leases.Hex(s.ID), cli.Plural(len(s.Keys), "key", "keys")))
	return nil
}
