package seecli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/live"
	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// page is how many keys are read at a time, and values how many values.
	page   = 2000
	values = 100
)

// NewList returns the command.
func NewList() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:     "ls [PREFIX]",
		Aliases: []string{"list"},
		Short:   "List the locks and elections that there are",
		Long: `List the locks and elections that somebody holds or waits for, with who is first and how many wait: those whose names
begin with PREFIX, or all. They are told by the form of their keys, which name the lease that they hang on, so that
those of etcdctl and of etcd's concurrency package are among them. Nothing is changed.

The names of all keys that begin with PREFIX are read, and whole those that look like places in line. Name one if there are
many, or if you may not read all.

With --watch, which needs a PREFIX, it goes on until Ctrl-C: on a terminal in place, elsewhere a line for each line of
which something has changed, or with -o json an object. What is below PREFIX is kept in memory, values too.

JSON, one object a line: name, time (with --watch), kind (mutex, readers, semaphore, election, schedule; none if it is free again), size,
holders and waiting, how many of each, first, as inspect has it.

Exit codes:
    0  listed
    1  failed
    2  the command line is wrong
  130  interrupted`,
		Example: `  etcdkit ls
  etcdkit ls orders/ --watch`,
		Args: cli.Arguments(0, "PREFIX"),
	}
	f.Register(c.Flags(), "table")
	watch := c.Flags().BoolP("watch", "w", false, "go on showing them")
	run := cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
		prefix := strings.Join(args, "")
		switch {
		case *watch && u.Out.Moving() && !u.JSON:
			return live.Show(ctx, u, prefix, func(_ context.Context, s live.State) (live.Picture, error) {
				lines := linesOf(s.Keys)
				return live.Picture{
					Title: fmt.Sprintf("%s: %s", prefix, cli.Plural(len(lines), "lock or election", "locks and elections")), Header: listHeader, Rows: listRows(lines), Whole: []string{"NAME"},
				}, nil
			})
		case *watch:
			return reportAll(ctx, u, prefix)
		}
		return list(ctx, u, prefix)
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if *watch && strings.Join(args, "") == "" {
			return exit.Usage(errors.New("PREFIX is missing: --watch keeps in memory what is below it"))
		}
		return run(c, args)
	}
	return c
}

// list prints the lines below a prefix.
func list(ctx context.Context, u *cli.Use, prefix string) error {
	keys, revision, err := linesBelow(ctx, u, prefix)
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		if prefix == "" {
			return cli.Reword("permission denied: name a PREFIX below which all may be read", err)
		}
		return cli.Reword(fmt.Sprintf("permission denied: not all keys that begin with %s may be read", cli.Visible(prefix)), err)
	}
	if err != nil {
		return err
	}
	lines := linesOf(keys)
	for i := range lines {
		if u.JSON {
			u.Emit(lines[i].listed(revision))
		}
	}
	switch {
	case u.JSON:
	case len(lines) == 0:
		u.Say("nobody holds or waits for anything")
	default:
		cli.Fitted(u.Out, listHeader, listRows(lines), "NAME")
	}
	return nil
}

// linesBelow reads the keys below a prefix that stand in lines, as of one revision. A key alone does not tell its lease, and since
// etcd 3.7 a read of keys does not either, so that those which look like it are read whole.
func linesBelow(ctx context.Context, u *cli.Use, prefix string) (keys []*mvccpb.KeyValue, revision int64, err error) {
	from, to := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, to = "\x00", "\x00"
	}
	for more := true; more; {
		resp, err := call.Do(ctx, u.Client(), "list the keys", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return u.Client().Get(ctx, from, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(page), clientv3.WithRev(revision))
		})
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Header.GetRevision()
		}
		var candidates []string
		for _, kv := range resp.Kvs {
			if looksPlaced(string(kv.Key)) {
				candidates = append(candidates, string(kv.Key))
			}
		}
		placed, err := placedOf(ctx, u, candidates, revision)
		if err != nil {
			return nil, 0, err
		}
		keys = append(keys, placed...)
		if more = resp.More; more {
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
	}
	return keys, revision, nil
}

// placedOf reads keys as of a revision, and returns those that stand in lines.
func placedOf(ctx context.Context, u *cli.Use, candidates []string, revision int64) (placed []*mvccpb.KeyValue, err error) {
	for part := range slices.Chunk(candidates, values) {
		ops := make([]clientv3.Op, len(part))
		for i, key := range part {
			ops[i] = clientv3.OpGet(key, clientv3.WithRev(revision))
		}
		resp, err := call.Do(ctx, u.Client(), "read who stands in line", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return u.Client().Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return nil, err
		}
		for _, r := range resp.Responses {
			for _, kv := range r.GetResponseRange().GetKvs() {
				_, _, place := placeOf(string(kv.Key), kv.Lease)
				_, _, slot := slotOf(string(kv.Key), kv.Lease)
				if place || slot {
					placed = append(placed, kv)
				}
			}
		}
	}
	return placed, nil
}

// linesOf gathers keys into lines, in the order of their names. An instance of a service whose ID is its lease is none, though it looks
// like one.
func linesOf(keys []*mvccpb.KeyValue) []line {
	below, certain := map[string][]*mvccpb.KeyValue{}, map[string]bool{}
	for _, kv := range keys {
		name, _, ok := placeOf(string(kv.Key), kv.Lease) // of those that are watched not all are
		switch {
		case ok && instanceOf(string(kv.Key), kv.Value) == nil:
			certain[name] = true
		case ok:
			continue
		default:
			if name, _, ok = cutLast(string(kv.Key)); !ok {
				continue
			}
		}
		below[name] = append(below[name], kv)
	}
	var lines []line
	for _, name := range slices.Sorted(maps.Keys(certain)) {
		lines = append(lines, readLine(name, below[name]))
	}
	return lines
}

var listHeader = []string{"NAME", "KIND", "HOLDING", "WAITING", "TOKEN", "CAME", "FIRST"}

func listRows(lines []line) [][]string {
	rows := make([][]string, len(lines))
	for i, l := range lines {
		first, kind := l.all()[0], l.kind
		if kind == semaphore {
			kind = fmt.Sprintf("%s %d", kind, l.size)
		}
		rows[i] = []string{
			l.name, kind, strconv.Itoa(len(l.holders)), strconv.Itoa(len(l.waiting)), strconv.FormatInt(first.CreateRevision, 10),
			cli.Ago(first.Since), first.by(),
		}
	}
	return rows
}

// listedJSON is a line in a list.
type listedJSON struct {
	Name     string     `json:"name"`
	Time     time.Time  `json:"time,omitzero"` // of a watch
	Revision int64      `json:"revision,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	Size     int        `json:"size,omitempty"`
	Holders  int        `json:"holders"`
	Waiting  int        `json:"waiting"`
	First    *placeJSON `json:"first,omitempty"`
}

func (l *line) listed(revision int64) listedJSON {
	o := listedJSON{Name: l.name, Revision: revision, Size: l.size, Holders: len(l.holders), Waiting: len(l.waiting)}
	if all := l.all(); len(all) > 0 {
		first := all[0].facts(nil)
		o.Kind, o.First = l.kind, &first
	}
	return o
}

// reportAll prints each line below a prefix of which something has changed.
func reportAll(ctx context.Context, u *cli.Use, prefix string) error {
	before := map[string]string{}
	told := live.CutOff{Use: u}
	return live.Follow(ctx, u.Client(), prefix, 0, func(s live.State) error {
		told.Note(s.Cut)
		now := map[string]string{}
		lines := linesOf(s.Keys)
		for name := range before {
			if !slices.ContainsFunc(lines, func(l line) bool { return l.name == name }) {
				lines = append(lines, line{name: name})
			}
		}
		slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.name, b.name) })
		for _, l := range lines {
			o := l.listed(0)
			text, err := cli.Line(o)
			if err != nil {
				return err
			}
			if o.First != nil {
				now[l.name] = text
			}
			switch {
			case before[l.name] == text:
			case u.JSON:
				o.Time, o.Revision = time.Now().UTC().Truncate(time.Millisecond), s.Revision
				u.Emit(o)
			default:
				text := l.title()
				if o.First != nil {
					first := l.all()[0]
					text += "; first token " + strconv.FormatInt(o.First.Token, 10)
					if by := first.by(); by != "" {
						text += ", " + by
					}
				}
				u.Out.Print(live.Moment(text))
			}
		}
		before = now
		return u.Out.Err()
	})
}
