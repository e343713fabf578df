package queue

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// loader reads what the tail does not bring: what was there before it, and what lies beyond a window. None of its reads
// spans a backlog, but for the first, which looks for the beginning of each line.
type loader struct {
	client *clientv3.Client
	keys   layout
}

// survey is what is there when a tail begins.
type survey struct {
	workers []*follow.Entry
	paused  bool
	heads   []string // paths of the first jobs of each priority
}

// surveyed is how many lines one transaction looks at.
const surveyed = 100

// survey looks for workers, and for the beginning of each line. It takes as many round trips however many priorities are in use: it is a
// worker's way back after every interruption.
func (ld loader) survey(ctx context.Context) (survey, error) {
	var s survey
	workers, workersEnd := prefixOf(ld.keys.workers())
	resp, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return ld.client.KV.Txn(ctx).Then(
			clientv3.OpGet(workers, clientv3.WithRange(workersEnd)),
			clientv3.OpGet(ld.keys.paused(), clientv3.WithCountOnly()),
			clientv3.OpGet(ld.keys.claims(), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		).Commit()
	})
	if err != nil {
		return s, fmt.Errorf("look for the beginning: %w", err)
	}
	s.workers = resp.Responses[0].GetResponseRange().GetKvs()
	s.paused = resp.Responses[1].GetResponseRange().GetCount() > 0
	claims := map[string]string{} // the first of each line: one may have been left behind by its job
	for _, kv := range resp.Responses[2].GetResponseRange().GetKvs() {
		path := string(kv.Key[len(ld.keys.claims()):])
		if _, err := parsePlace(path); err == nil && claims[path[:3]] == "" {
			claims[path[:3]] = path
		}
	}
	for first := MaxPriority; first >= -MaxPriority; first -= surveyed {
		var ops []clientv3.Op
		for priority := first; priority > first-surveyed && priority >= -MaxPriority; priority-- {
			ops = append(ops, firstOf(prefixOf(ld.keys.lane(priority))))
		}
		resp, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return ld.client.KV.Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return s, fmt.Errorf("look for the beginning of each line: %w", err)
		}
		for i, r := range resp.Responses {
			head, err := ld.head(ctx, r.GetResponseRange())
			if err != nil {
				return s, fmt.Errorf("look for the beginning of a line: %w", err)
			}
			if claim := claims[rank(first-i)]; head == "" || claim != "" && claim < head {
				head = claim
			}
			if head != "" {
				s.heads = append(s.heads, head)
			}
		}
	}
	return s, nil
}

// firstOf reads the first key of a range.
func firstOf(from, to string) clientv3.Op {
	return clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
}

// head is the path of the first job in a line of which the first key was read, or "". A key that is not of ours is passed over.
func (ld loader) head(ctx context.Context, first *etcdserverpb.RangeResponse) (string, error) {
	for len(first.GetKvs()) > 0 {
		path := string(first.GetKvs()[0].Key[len(ld.keys.jobs()):])
		if _, err := parsePlace(path); err == nil {
			return path, nil
		}
		if !first.GetMore() {
			return "", nil
		}
		op := firstOf(ld.keys.jobs()+path+"\x00", clientv3.GetPrefixRangeEnd(ld.keys.jobs()+path[:len("000/")]))
		got, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return ld.client.KV.Txn(ctx).Then(op).Commit()
		})
		if err != nil {
			return "", err
		}
		first = got.Responses[0].GetResponseRange()
	}
	return "", nil
}

// begin makes a survey the window's contents; what has come meanwhile follows.
func (w *window) begin(keys layout, s survey) {
	w.ready, w.paused = true, s.paused
	for _, kv := range s.workers {
		w.peer(string(kv.Key[len(keys.workers()):]), kv)
	}
	for _, path := range s.heads {
		w.open(path[:3], path)
	}
	missed := w.missed
	w.missed = nil
	for _, e := range missed {
		w.event(keys, e)
	}
}

// beyond reads what comes after a path: jobs by their keys alone, and claims.
func (ld loader) beyond(ctx context.Context, rank, from string, span int64) (stretch, error) {
	s := stretch{from: from}
	end := rank + "0" // what comes after "/"
	if until := clockOf(from) + span; until>>(4*clockDigits) == 0 {
		s.to = fmt.Sprintf("%s/%0*x", rank, clockDigits, until)
		end = s.to
	}
	resp, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return ld.client.KV.Txn(ctx).Then(
			clientv3.OpGet(ld.keys.jobs()+from, clientv3.WithRange(ld.keys.jobs()+end),
				clientv3.WithKeysOnly(), clientv3.WithLimit(windowJobs)),
			clientv3.OpGet(ld.keys.claims()+from, clientv3.WithRange(ld.keys.claims()+end)),
		).Commit()
	})
	if err != nil {
		return s, fmt.Errorf("read on: %w", err)
	}
	s.revision = resp.Header.GetRevision()
	jobs := resp.Responses[0].GetResponseRange()
	s.jobs, s.claims = jobs.GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
	if jobs.GetMore() {
		s.to = string(s.jobs[len(s.jobs)-1].Key[len(ld.keys.jobs()):]) + "\x00"
	}
	return s, nil
}

// nextSpan is how far to read next, after a reading that brought so many: about half a window's jobs at a time.
func nextSpan(span int64, jobs int) int64 {
	switch {
	case jobs == 0:
		return min(span<<5, 1<<(4*clockDigits))
	case jobs < windowJobs/4:
		return min(span<<2, 1<<(4*clockDigits))
	case jobs >= windowJobs:
		return max(span>>2, 1)
	default:
		return span
	}
}
