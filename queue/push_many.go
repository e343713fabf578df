package queue

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// maxOps is how many operations etcd takes on one level of a transaction, and nestedOps how many one has with an ID of the caller's
	// own, which go one level down. Those of the level above count there, too.
	maxOps    = 128
	nestedOps = 3

	// maxJobs is how many jobs one transaction takes, beside its slot.
	maxJobs = maxOps - 1

	// leasesLost is how often in a row a lease may be gone when it is used.
	leasesLost = 3
)

// errSlot says that a slot is not as this producer has left it: its lease has ended, somebody has deleted it, or etcd was restored.
var errSlot = errors.New("the key that tells what was written is gone")

// send pushes jobs, a transaction at a time.
func (q *Queue[T]) send(ctx context.Context, drafts []draft) ([]string, error) {
	ids := make([]string, 0, len(drafts))
	for len(drafts) > 0 {
		n, err := q.depth.admit(ctx, cut(drafts, q.keys), q.count)
		if err != nil {
			return ids, q.failed(len(ids), 0, err)
		}
		r := q.newRequest(drafts[:n])
		written, perhaps, err := q.commit(ctx, r)
		if err != nil {
			if perhaps {
				return ids, q.failed(len(ids), n, err)
			}
			return ids, q.failed(len(ids), 0, err)
		}
		q.measures.pushed(ctx, written)
		for i, p := range r.places {
			ids = append(ids, r.drafts[i].idOf(p))
		}
		drafts = drafts[n:]
	}
	return ids, nil
}

func (q *Queue[T]) failed(written, unknown int, err error) error {
	return &PushError{Written: written, Unknown: unknown, Err: fmt.Errorf("queue %q: push: %w", q.name, err)}
}

// count is the queue's depth.
func (q *Queue[T]) count(ctx context.Context) (int, error) {
	resp, err := call.Do(ctx, q.client, "count the jobs", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return q.client.Get(ctx, q.keys.jobs(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, err
	}
	return int(resp.Count), nil
}

// grant grants a lease for so many seconds. One whose answer is lost is granted again, and the first expires by itself.
func (q *Queue[T]) grant(ctx context.Context, ttl int64) (clientv3.LeaseID, error) {
	resp, err := call.Do(ctx, q.client, "grant a lease", func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return q.client.Grant(ctx, ttl)
	})
	if err != nil {
		return clientv3.NoLease, err
	}
	return resp.ID, nil
}

// cut returns how many of the first drafts go into one transaction, at least one.
func cut(drafts []draft, l layout) int {
	size, named := slotSize(l), false
	for i, d := range drafts {
		size += d.size(l)
		named = named || d.opts.ID != ""
		most := maxJobs
		if named {
			most -= nestedOps
		}
		if i > 0 && (i+1 > most || size > maxRequest) {
			return i
		}
	}
	return len(drafts)
}

// request is a transaction of jobs that have their places, the same however often it is sent.
type request struct {
	drafts []draft
	places []place
	named  int // how many have an ID of the caller's own
}

// newRequest places drafts, which fit into one transaction.
func (q *Queue[T]) newRequest(drafts []draft) request {
	r := request{drafts: drafts, places: make([]place, len(drafts))}
	clock := q.producer.take(len(drafts))
	for i, d := range drafts {
		r.places[i] = q.place(d, clock+int64(i))
		if d.opts.ID != "" {
			r.named++
		}
	}
	return r
}

// operations returns what a request does beside its slot. A job with an ID is a transaction within it, so that one that is known
// does not hold up the others.
func (r request) operations(l layout, lease clientv3.LeaseID) []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(r.drafts)+1)
	for i, d := range r.drafts {
		p := r.places[i]
		if d.opts.ID == "" {
			ops = append(ops, d.put(p))
			continue
		}
		puts := []clientv3.Op{d.put(p), clientv3.OpPut(l.waiting(d.opts.ID), p.path())}
		if lease != clientv3.NoLease {
			puts = append(puts, clientv3.OpPut(l.seen(d.opts.ID), p.path(), clientv3.WithLease(lease)))
		}
		ops = append(ops, clientv3.OpTxn(d.fresh(l), puts, nil))
	}
	return ops
}

// name names a request: no other has its first place.
func (r request) name() string { return r.places[0].path() }

// commit writes a request, or finds that it is written, and returns how many jobs are new with it. If it fails, perhaps says whether it may be written all the same, now or later.
//
// A copy whose answer was lost may have been applied, and may be applied later; and clientv3 sends some writes again by itself. What was
// lost is told by sending it again, in the same slot, which each copy compares and changes. These are the ways of a copy c1 whose answer was
// lost, and its repetition c2, whatever became of the jobs meanwhile:
//
//	c1 lost on its way; c2 applied                                     once
//	c1 applied; c2 refused, finds its name in the slot                 once
//	c2 applied; c1, late, refused, as the slot is another              once
//	c2 applied; the slot's lease ends; c1, late, refused, as the slot is absent or its lease is         once
//	c1 applied; the slot's lease ends or is revoked; c2 refused        once, but nobody knows: perhaps
//	c1 and c2 lost, perhaps late; given up                             once or not at all: perhaps
//
// The jobs' own keys could not tell: a job that is done is as absent as one that was never pushed. So the slot is never given up for another
// one while a copy may be under way. Only if etcd has answered every copy, and refused, is the request sent in another slot.
func (q *Queue[T]) commit(ctx context.Context, r request) (written int, perhaps bool, err error) {
	for lost := 1; ; lost++ {
		lease, err := q.memory.take(ctx, r.named, q.grant)
		if err != nil {
			return 0, false, err
		}
		s, err := q.slots.take(ctx, q.grant)
		if err != nil {
			return 0, false, err
		}
		key := s.key(q.keys, q.producer.id)
		ops := append(r.operations(q.keys, lease), clientv3.OpPut(key, r.name(), clientv3.WithLease(s.lease)))
		resp, err := call.Do(ctx, q.client, "write jobs", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			resp, err := q.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", s.mod)).Then(ops...).Else(clientv3.OpGet(key)).Commit()
			perhaps = perhaps || retry.Ambiguous(err)
			return resp, err
		})
		if err == nil {
			if mod, ok := r.applied(resp); ok {
				q.slots.giveBack(s, mod)
				return r.written(resp), false, nil
			}
			err = errSlot
		} else if !call.LeaseGone(err) {
			return 0, perhaps, err
		}
		// Revoked, or this process stood still for longer than it had. etcd looks at all leases before it writes anything, and does not say which
		// one it was.
		q.memory.drop(lease)
		q.slots.drop(s)
		if perhaps || lost == leasesLost {
			return 0, perhaps, err
		}
	}
}

// written is how many jobs of a request that was applied are new: those whose ID was known are not. The answer to another copy than the one
// that was applied does not tell, and they count.
func (r request) written(resp *clientv3.TxnResponse) int {
	n := len(r.drafts)
	if r.named == 0 || !resp.Succeeded {
		return n
	}
	for i, d := range r.drafts {
		if d.opts.ID != "" && !resp.Responses[i].GetResponseTxn().GetSucceeded() {
			n--
		}
	}
	return n
}

// applied tells from an answer whether a copy of the request was applied, and if so the revision of its slot.
func (r request) applied(resp *clientv3.TxnResponse) (mod int64, ok bool) {
	if resp.Succeeded {
		return resp.Header.GetRevision(), true
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		if string(kv.Value) == r.name() {
			return kv.ModRevision, true
		}
	}
	return 0, false
}
