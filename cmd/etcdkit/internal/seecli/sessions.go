package seecli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/internal/call"
)

// NewSessions returns the command.
func NewSessions() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "sessions",
		Short: "See and revoke leases",
		Long: `See and revoke leases: the sessions of processes, on which their locks, candidacies, instances and the like hang. Whose one
is, is told by the keys on it. Leases are written in hexadecimal, as in keys and by etcdctl.

Exit codes:
    0  done
    1  failed, or not wanted when asked
    2  the command line is wrong
  130  interrupted`,
		Args: exit.Arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.Register(c.PersistentFlags(), "table")
	c.AddCommand(newSessionsList(f), newSessionsShow(f), newSessionsRevoke(f))
	return c
}

func newSessionsList(f *cli.Connection) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [PREFIX]",
		Aliases: []string{"list"},
		Short:   "All leases, or those of the keys below a prefix",
		Long: `All leases, whose they are, and how many keys each has; or those only that keys have which begin with PREFIX.

etcd lists leases only for who may read every key that has one. Others name a PREFIX below which they may read all; of a
lease that has other keys too they see how long it lasts.

It takes two requests a lease, sixteen at a time; all that begins with PREFIX is read, with the values.

JSON, one object a lease: lease, owner (a process, an instance, or what a candidate says), grantedSeconds, leftSeconds, keys (how many), what
(the key by which the owner is told), problem.`,
		Args: cli.Arguments(0, "PREFIX"),
		RunE: cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
			return sessions(ctx, u, strings.Join(args, ""))
		}),
	}
}

// sessions lists leases.
func sessions(ctx context.Context, u *cli.Use, prefix string) error {
	ids, err := leaseIDs(ctx, u, prefix)
	if err != nil {
		return err
	}
	known, err := leases.Ask(ctx, u.Client(), ids, true)
	if err != nil {
		return err
	}
	var all []leases.Lease
	for _, l := range known {
		if !l.Gone {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b leases.Lease) int { return strings.Compare(hexOrder(a.ID), hexOrder(b.ID)) })
	owners := make([]thing, len(all))
	if err := each(ctx, len(all), func(ctx context.Context, i int) error {
		things, err := thingsOf(ctx, u, all[i].ID, telling(all[i]))
		owners[i], _ = best(things)
		return err
	}); err != nil {
		return err
	}
	rows := make([][]string, len(all))
	for i, l := range all {
		o := sessionFacts(l)
		o.Owner, o.What = owners[i].owner, owners[i].what
		if u.JSON {
			u.Emit(o)
			continue
		}
		keys := strconv.Itoa(len(l.Keys))
		if l.Err != nil {
			keys, o.What = "", l.Err.Error()
		}
		rows[i] = []string{leases.Hex(l.ID), o.Owner, l.Text(), keys, o.What}
	}
	switch {
	case u.JSON:
	case len(all) == 0:
		u.Say("no leases")
	default:
		cli.Fitted(u.Out, []string{"LEASE", "OWNER", "LEFT", "KEYS", "TOLD BY"}, rows, "LEASE", "LEFT")
	}
	return nil
}

func hexOrder(id clientv3.LeaseID) string { return fmt.Sprintf("%016x", int64(id)) }

// leaseIDs lists the leases that there are, or those of the keys below a prefix.
func leaseIDs(ctx context.Context, u *cli.Use, prefix string) (ids []clientv3.LeaseID, err error) {
	if prefix == "" {
		resp, err := call.Do(ctx, u.Client(), "list the leases", func(ctx context.Context) (*clientv3.LeaseLeasesResponse, error) {
			return u.Client().Leases(ctx)
		})
		if errors.Is(err, rpctypes.ErrPermissionDenied) {
			return nil, cli.Reword("permission denied: etcd lists leases only for who may read every key that has one; name a PREFIX", err)
		}
		if err != nil {
			return nil, err
		}
		for _, l := range resp.Leases {
			ids = append(ids, l.ID)
		}
		return ids, nil
	}
	// With their values: since etcd 3.7 a read of keys alone does not tell leases.
	from, to, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for more := true; more; {
		resp, err := call.Do(ctx, u.Client(), "list the keys", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return u.Client().Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(values), clientv3.WithRev(revision))
		})
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			revision = resp.Header.GetRevision()
		}
		for _, kv := range resp.Kvs {
			if kv.Lease != 0 {
				ids = append(ids, clientv3.LeaseID(kv.Lease))
			}
		}
		if more = resp.More; more {
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// mostTelling is how many keys are read to tell whose a lease is.
const mostTelling = 4

// telling are the keys that may tell best whose a lease is.
func telling(l leases.Lease) []string {
	keys := slices.Clone(l.Keys)
	slices.SortStableFunc(keys, func(a, b string) int { return guess(a, l.ID) - guess(b, l.ID) })
	return keys[:min(len(keys), mostTelling)]
}

// thingsOf reads keys of a lease, and tells what they are. One that has gone meanwhile, or hangs on another lease, is left out.
func thingsOf(ctx context.Context, u *cli.Use, lease clientv3.LeaseID, keys []string) (things []thing, err error) {
	for part := range slices.Chunk(keys, values) {
		ops := make([]clientv3.Op, len(part))
		for i, key := range part {
			ops[i] = clientv3.OpGet(key)
		}
		resp, err := call.Do(ctx, u.Client(), "read what has the lease", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return u.Client().Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return nil, err
		}
		for _, r := range resp.Responses {
			if kvs := r.GetResponseRange().GetKvs(); len(kvs) == 1 && clientv3.LeaseID(kvs[0].Lease) == lease {
				things = append(things, thingOf(kvs[0]))
			}
		}
	}
	return things, nil
}

// sessionJSON is a lease.
type sessionJSON struct {
	Lease   string      `json:"lease"`
	Owner   string      `json:"owner,omitempty"`
	Granted float64     `json:"grantedSeconds"`
	Left    float64     `json:"leftSeconds"`
	Count   *int        `json:"keys,omitempty"`
	What    string      `json:"what,omitempty"`
	List    []thingJSON `json:"list,omitempty"`
	Problem string      `json:"problem,omitempty"`
}

// thingJSON is a key of a lease.
type thingJSON struct {
	Key   string `json:"key"`
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	What  string `json:"what"`
	Owner string `json:"owner,omitempty"`
}

func sessionFacts(l leases.Lease) sessionJSON {
	o := sessionJSON{Lease: leases.Hex(l.ID), Granted: l.Granted.Seconds(), Left: l.Left.Seconds()}
	if l.Err != nil {
		o.Problem = l.Err.Error()
	} else {
		n := len(l.Keys)
		o.Count = &n
	}
	return o
}

// atOnce is how many questions are under way at a time.
const atOnce = 16

// each calls fn with 0 to n-1, several at a time, and returns its first error.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	var work sync.WaitGroup
	for range min(atOnce, n) {
		work.Go(func() {
			for i := range todo {
				if ctx.Err() != nil {
					return
				}
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}
