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

// survey looks for workers, and for the beginning of each line.
func (ld loader) survey(ctx context.Context) (survey, error) {
	var s survey
	from, to := prefixOf(ld.keys.jobs())
	workers, workersEnd := prefixOf(ld.keys.workers())
	resp, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return ld.client.KV.Txn(ctx).Then(
			clientv3.OpGet(workers, clientv3.WithRange(workersEnd)),
			clientv3.OpGet(ld.keys.paused(), clientv3.WithCountOnly()),
			clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(1)),
		).Commit()
	})
	if err != nil {
		return s, fmt.Errorf("look for the beginning: %w", err)
	}
	s.workers = resp.Responses[0].GetResponseRange().GetKvs()
	s.paused = resp.Responses[1].GetResponseRange().GetCount() > 0
	first := resp.Responses[2].GetResponseRange()
	for len(first.GetKvs()) > 0 {
		path := string(first.GetKvs()[0].Key[len(from):])
		next := from + path + "\x00" // of a key that is not of ours
		if _, err := parsePlace(path); err == nil {
			s.heads = append(s.heads, path)
			next = clientv3.GetPrefixRangeEnd(from + path[:len("000/")])
		}
		if !first.GetMore() {
			break
		}
		got, err := call.Persist(ctx, ld.client, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return ld.client.KV.Get(ctx, next, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
		})
		if err != nil {
			return s, fmt.Errorf("look for the beginning of a line: %w", err)
		}
		first = (*etcdserverpb.RangeResponse)(got)
	}
	return s, nil
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
