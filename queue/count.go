package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// mostKnown bounds the priorities that one transaction counts: it may have 128 operations.
	mostKnown = 30

	// firstInLine is how many jobs are looked at for the first that nobody has claimed, before a second read.
	firstInLine = 64
)

// count counts what a queue holds at one revision. If there are jobs of no other priority than those that are known, and few enough are in
// flight, it takes one transaction, in which each key is counted once; else another for each priority that is not known. It returns the
// priorities for which there are jobs.
func count(ctx context.Context, client *clientv3.Client, keys layout, now time.Time, known []int) (Stats, []int, error) {
	for attempt := 1; ; attempt++ {
		c := census{client: client, keys: keys, now: now}
		err := c.take(ctx, known)
		if errors.Is(err, rpctypes.ErrCompacted) && attempt < 3 {
			continue
		}
		c.InFlight = max(c.InFlight, 0)
		c.Waiting = max(c.Waiting-c.InFlight, 0) // a claimed job is due, unless clocks differ
		return c.Stats, c.inUse, err
	}
}

// census is one count. Its Waiting holds what is due, claimed or not, until it is through.
type census struct {
	Stats
	client   *clientv3.Client
	keys     layout
	now      time.Time
	revision int64
	inUse    []int
}

// span is a range of keys.
type span struct{ from, to string }

func (s span) count() clientv3.Op {
	return clientv3.OpGet(s.from, clientv3.WithRange(s.to), clientv3.WithCountOnly())
}

// due is the part of a priority's jobs of which the time has come, and later the other part.
func (c *census) due(priority int) (due, later span) {
	from, to := prefixOf(c.keys.lane(priority))
	border := from + fmt.Sprintf("%0*x", clockDigits, c.now.UnixMicro()+1)
	return span{from, border}, span{border, to}
}

// lane is what counts the jobs of a priority.
func (c *census) lane(priority int) []clientv3.Op {
	due, later := c.due(priority)
	claims, end := prefixOf(c.keys.claimed(priority))
	first := []clientv3.OpOption{clientv3.WithKeysOnly(), clientv3.WithLimit(firstInLine), clientv3.WithRev(c.revision)}
	return []clientv3.Op{
		clientv3.OpGet(due.from, append(slices.Clip(first), clientv3.WithRange(due.to))...),
		clientv3.OpGet(later.from, clientv3.WithRange(later.to), clientv3.WithCountOnly(), clientv3.WithRev(c.revision)),
		clientv3.OpGet(claims, append(slices.Clip(first), clientv3.WithRange(end))...),
	}
}

const laneOps = 3

func (c *census) commit(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	return call.Do(ctx, c.client, "count", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.client.KV.Txn(ctx).Then(ops...).Commit()
	})
}

func (c *census) take(ctx context.Context, known []int) error {
	known = slices.Clone(known)
	if !slices.Contains(known, 0) {
		known = append(known, 0)
	}
	slices.Sort(known)
	slices.Reverse(known)
	if len(known) > mostKnown {
		known = known[:mostKnown]
	}
	// The priorities that are known, and the gaps between them.
	claims, dead, workers := (span{}), (span{}), (span{})
	claims.from, claims.to = prefixOf(c.keys.claims())
	dead.from, dead.to = prefixOf(c.keys.deads())
	workers.from, workers.to = prefixOf(c.keys.workers())
	ops := []clientv3.Op{claims.count(), dead.count(), workers.count(), clientv3.OpGet(c.keys.paused())}
	from, end := prefixOf(c.keys.jobs())
	var gaps []span
	for _, priority := range known {
		lane, next := prefixOf(c.keys.lane(priority))
		gaps = append(gaps, span{from, lane})
		ops = append(ops, gaps[len(gaps)-1].count())
		ops = append(ops, c.lane(priority)...)
		from = next
	}
	gaps = append(gaps, span{from, end})
	ops = append(ops, gaps[len(gaps)-1].count())

	resp, err := c.commit(ctx, ops)
	if err != nil {
		return err
	}
	c.revision = resp.Header.GetRevision()
	got := make([]*pb.RangeResponse, len(ops))
	for i, r := range resp.Responses {
		got[i] = r.GetResponseRange()
	}
	c.InFlight, c.Dead, c.Workers = int(got[0].GetCount()), int(got[1].GetCount()), int(got[2].GetCount())
	for _, kv := range got[3].GetKvs() {
		c.readPause(kv.Value)
	}
	got = got[4:]
	for i, gap := range gaps {
		if got[0].GetCount() > 0 {
			if err := c.explore(ctx, gap); err != nil {
				return err
			}
		}
		if got = got[1:]; i < len(known) {
			if err := c.add(ctx, known[i], got[:laneOps]); err != nil {
				return err
			}
			got = got[laneOps:]
		}
	}
	return nil
}

// explore counts the jobs of priorities that were not known.
func (c *census) explore(ctx context.Context, gap span) error {
	first := func() clientv3.Op {
		return clientv3.OpGet(gap.from, clientv3.WithRange(gap.to), clientv3.WithLimit(1), clientv3.WithKeysOnly(), clientv3.WithRev(c.revision))
	}
	resp, err := c.commit(ctx, []clientv3.Op{first()})
	for {
		if err != nil {
			return err
		}
		next := resp.Responses[len(resp.Responses)-1].GetResponseRange().GetKvs()
		if len(next) == 0 {
			return nil
		}
		key := string(next[0].Key)
		segment, _, inLane := strings.Cut(key[len(c.keys.jobs()):], "/")
		priority, ok := priorityOf(segment)
		switch {
		case inLane && ok:
			_, gap.from = prefixOf(c.keys.lane(priority))
			resp, err = c.commit(ctx, append(c.lane(priority), first()))
			if err != nil {
				return err
			}
			got := make([]*pb.RangeResponse, laneOps)
			for i := range got {
				got[i] = resp.Responses[i].GetResponseRange()
			}
			err = c.add(ctx, priority, got)
			continue
		case inLane: // no jobs of ours
			_, gap.from = prefixOf(c.keys.jobs() + segment + "/")
		default:
			gap.from = key + "\x00"
		}
		resp, err = c.commit(ctx, []clientv3.Op{first()})
	}
}

// add adds what was found of a priority.
func (c *census) add(ctx context.Context, priority int, got []*pb.RangeResponse) error {
	due, later, claims := got[0], int(got[1].GetCount()), got[2]
	c.Waiting += int(due.GetCount())
	c.Delayed += later
	if due.GetCount() > 0 || later > 0 {
		c.inUse = append(c.inUse, priority)
	}
	claimed := map[string]bool{}
	for _, kv := range claims.GetKvs() {
		claimed[string(kv.Key[len(c.keys.claims()):])] = true
	}
	for _, kv := range due.GetKvs() {
		if path := string(kv.Key[len(c.keys.jobs()):]); !claimed[path] && c.waits(path) {
			return nil
		}
	}
	if !due.GetMore() {
		return nil
	}
	// All that were looked at are in flight.
	all, _ := c.due(priority)
	p := &pages{
		client: c.client, base: c.keys.jobs(), mirror: c.keys.claims(), keysOnly: true, limit: 4 * firstInLine, revision: c.revision, began: c.revision,
		from: string(due.Kvs[len(due.Kvs)-1].Key) + "\x00", to: all.to,
	}
	for !p.end {
		page, claimed, err := p.next(ctx, "count", math.MaxInt)
		if err != nil {
			return err
		}
		for _, kv := range page {
			path := string(kv.Key[len(c.keys.jobs()):])
			if _, taken := claimed[path]; !taken && c.waits(path) {
				return nil
			}
		}
	}
	return nil
}

// waits notes a job that waits, and reports whether it is one.
func (c *census) waits(path string) bool {
	at, err := parsePlace(path)
	if err == nil {
		c.Oldest = max(c.Oldest, c.now.Sub(at.at()))
	}
	return err == nil
}

// priorityOf reads what rank writes.
func priorityOf(segment string) (int, bool) {
	at, err := parsePlace(segment + "/" + stemOf(0, "0"))
	return at.priority, err == nil
}
