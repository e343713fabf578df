package seecli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/live"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
)

// NewInspect returns the command.
func NewInspect() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show who holds a lock or leads, and who waits",
		Long: `Show who holds a lock or leads, and who waits, in order: whichever kind of lock it is, and whoever stands there,
by etcdkit, etcdctl or etcd's concurrency package. Nothing is changed.

Who has come by etcdkit says from which host and process, and when by its own clock. An election's candidates say
what they like. TOKEN is the fencing token. LEFT is when the lease ends unless it is renewed, and for how long it was
granted. Whoever shows less than two thirds of that, again and again, has not renewed it: it hangs, or is cut off.

With --watch it goes on until Ctrl-C: on a terminal in place, where the time left is asked for every two seconds, as
etcd tells nobody of renewals; elsewhere a line for each change, or with -o json an object of the whole line.

JSON: name, time (with --watch), revision, kind (mutex, readers, semaphore, election, schedule), size, holders and waiting, each a
list of key, token, lease, holds, takes (all, reads, permits), weight, size, slot, who, host, pid, since, trace, value
or valueBase64 (a candidate's), otherClient (it came by etcdctl or the like), unknownForm, grantedSeconds, leftSeconds.

Exit codes:
    0  shown
    1  failed, or nobody holds it and nobody waits
    2  the command line is wrong
  130  interrupted`,
		Example: `  etcdkit inspect migrations
  etcdkit inspect orders --watch
  etcdkit inspect orders -o json | jq -r '.holders[].host'`,
		Args: cli.Arguments(1, "NAME"),
	}
	f.Register(c.Flags(), "table")
	watch := c.Flags().BoolP("watch", "w", false, "go on showing it")
	c.RunE = cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
		name := args[0]
		if err := names.Opaque("lock", name); err != nil {
			return err
		}
		switch {
		case *watch && u.Out.Moving() && !u.JSON:
			return live.Show(ctx, u, turn.Prefix(name), func(ctx context.Context, s live.State) (live.Picture, error) {
				return picture(ctx, u, name, s)
			})
		case *watch:
			return report(ctx, u, name)
		}
		return inspect(ctx, u, name)
	})
	return c
}

// errNobody is what becomes of a name that is not in use.
var errNobody = errors.New("nobody holds it, and nobody waits")

// inspect prints a line.
func inspect(ctx context.Context, u *cli.Use, name string) error {
	resp, err := call.Do(ctx, u.Client(), "read the line", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return u.Client().Get(ctx, turn.Prefix(name), clientv3.WithPrefix())
	})
	if err != nil {
		return err
	}
	l := readLine(name, resp.Kvs)
	if len(l.all()) == 0 {
		return fmt.Errorf("%s: %w", name, errNobody)
	}
	known, err := leasesOf(ctx, u, l)
	if err != nil {
		return err
	}
	if u.JSON {
		o := l.facts(known)
		o.Revision = resp.Header.GetRevision()
		u.Emit(o)
		return nil
	}
	u.Out.Print(cli.Visible(l.title()))
	cli.Fitted(u.Out, placeHeader, l.rows(known), "LEASE", "LEFT")
	return nil
}

// leasesOf asks for the leases of all in a line.
func leasesOf(ctx context.Context, u *cli.Use, l line) (map[clientv3.LeaseID]leases.Lease, error) {
	var ids []clientv3.LeaseID
	for _, p := range l.all() {
		ids = append(ids, p.lease())
	}
	return leases.Ask(ctx, u.Client(), ids, false)
}

// placeHeader are the columns of a line; those that are empty are not shown.
var placeHeader = []string{"STATE", "TOKEN", "PROGRAM", "HOST", "PID", "CAME", "TAKES", "SLOT", "LEASE", "LEFT", "VALUE"}

// rows are the cells of a table.
func (l *line) rows(known map[clientv3.LeaseID]leases.Lease) [][]string {
	rows := make([][]string, 0, len(l.holders)+len(l.waiting))
	for i, p := range l.all() {
		state := "holds"
		if !p.Owns {
			state = "waits " + strconv.Itoa(i-len(l.holders)+1)
		} else if l.kind == election {
			state = "leads"
		}
		program, value, pid, slot := p.Who, "", "", ""
		if !p.described {
			program, value = "", string(p.Value)
		}
		switch {
		case p.foreign, !p.described && !p.numbered && value == "":
			program, value = p.by(), ""
		case !p.described && !p.numbered:
			program = otherClient
		}
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		if p.Slot >= 0 {
			slot = strconv.Itoa(p.Slot)
		}
		lease := ""
		if p.Lease != 0 {
			lease = leases.Hex(p.lease())
		}
		rows = append(rows, []string{
			state, strconv.FormatInt(p.CreateRevision, 10), program, p.Host, pid, cli.Ago(p.Since), l.takes(p.Share), slot, lease, known[p.lease()].Text(), value,
		})
	}
	return rows
}

// takes says how much a place takes of a line that is shared.
func (l *line) takes(s turn.Share) string {
	switch {
	case l.kind != readers && l.kind != semaphore:
		return ""
	case s == turn.Share{}:
		return "all"
	case s.Size == turn.Unlimited:
		return "reads"
	}
	return fmt.Sprintf("%d of %d", s.Weight, s.Size)
}

// picture is a line on a terminal.
func picture(ctx context.Context, u *cli.Use, name string, s live.State) (live.Picture, error) {
	l := readLine(name, s.Keys)
	known, err := leasesOf(ctx, u, l)
	if err != nil {
		return live.Picture{}, err
	}
	return live.Picture{Title: l.title(), Header: placeHeader, Rows: l.rows(known), Whole: []string{"LEASE", "LEFT"}}, nil
}

// report prints what becomes of a line: changes, or with -o json the whole line after each.
func report(ctx context.Context, u *cli.Use, name string) error {
	before, first := map[string]place{}, true
	told := live.CutOff{Use: u}
	return live.Follow(ctx, u.Client(), turn.Prefix(name), 0, func(s live.State) error {
		told.Note(s.Cut)
		l := readLine(name, s.Keys)
		now := map[string]place{}
		for _, p := range l.all() {
			now[p.id()] = p
		}
		events := compare(before, now, l)
		if before = now; len(events) == 0 && !first {
			return u.Out.Err()
		}
		switch {
		case u.JSON:
			known, err := leasesOf(ctx, u, l)
			if err != nil && ctx.Err() != nil {
				return err
			}
			o := l.facts(known)
			o.Revision, o.Time = s.Revision, time.Now().UTC().Truncate(time.Millisecond)
			u.Emit(o)
		case first && len(events) == 0:
			u.Out.Print(live.Moment("free"))
		}
		first = false
		if !u.JSON {
			for _, e := range events {
				u.Out.Print(live.Moment(e))
			}
			if len(now) == 0 && len(events) > 0 {
				u.Out.Print(live.Moment("free"))
			}
		}
		return u.Out.Err()
	})
}

// compare says what has become of a line: who has gone first, and then the others in order.
func compare(before, now map[string]place, l line) (events []string) {
	tell := func(what string, p place) {
		text := fmt.Sprintf("%-6s  token %d", what, p.CreateRevision)
		if p.Lease != 0 {
			text += "  lease " + leases.Hex(p.lease())
		}
		if by := p.by(); by != "" {
			text += "  " + by
		}
		events = append(events, text)
	}
	var gone []place
	for id, p := range before {
		if _, there := now[id]; !there {
			gone = append(gone, p)
		}
	}
	slices.SortFunc(gone, func(a, b place) int { return int(a.CreateRevision - b.CreateRevision) })
	for _, p := range gone {
		tell("gone", p)
	}
	for _, p := range l.all() {
		was, there := before[p.id()]
		switch {
		case p.Owns && (!there || !was.Owns):
			tell("holds", p)
		case !there:
			tell("waits", p)
		case string(was.Value) != string(p.Value):
			tell("says", p)
		case p.Slot != was.Slot && p.Slot >= 0:
			tell(fmt.Sprintf("slot %d", p.Slot), p)
		}
	}
	return events
}
