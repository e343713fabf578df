package queue

import (
	"context"
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

	// leasesLost is how often in a row a lease may be gone when it is used.
	leasesLost = 3
)

// send pushes jobs, a transaction at a time.
func (q *Queue[T]) send(ctx context.Context, drafts []draft) ([]string, error) {
	ids := make([]string, 0, len(drafts))
	for len(drafts) > 0 {
		n, err := q.depth.admit(ctx, cut(drafts, q.keys), q.count)
		if err != nil {
			return ids, q.failed(len(ids), 0, err)
		}
		r := q.newRequest(drafts[:n])
		if perhaps, err := q.commit(ctx, r); err != nil {
			if perhaps {
				return ids, q.failed(len(ids), n, err)
			}
			return ids, q.failed(len(ids), 0, err)
		}
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
	size, named := 0, false
	for i, d := range drafts {
		size += d.size(l)
		named = named || d.opts.ID != ""
		most := maxOps
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

// operations returns what a request compares and does. The whole of it is refused if one of its jobs without an ID is there. A job with
// an ID is a transaction within it, so that one that is known does not hold up the others.
func (r request) operations(l layout, lease clientv3.LeaseID) (cmps []clientv3.Cmp, ops []clientv3.Op) {
	cmps, ops = make([]clientv3.Cmp, 0, len(r.drafts)-r.named), make([]clientv3.Op, 0, len(r.drafts))
	for i, d := range r.drafts {
		p := r.places[i]
		if d.opts.ID == "" {
			key := d.lane + p.local()
			cmps, ops = append(cmps, absent(key)), append(ops, clientv3.OpPut(key, d.value))
			continue
		}
		puts := []clientv3.Op{d.put(p), clientv3.OpPut(l.waiting(d.opts.ID), p.path())}
		if lease != clientv3.NoLease {
			puts = append(puts, clientv3.OpPut(l.seen(d.opts.ID), p.path(), clientv3.WithLease(lease)))
		}
		ops = append(ops, clientv3.OpTxn(d.fresh(l), puts, nil))
	}
	return cmps, ops
}

// commit writes a request, or finds that it is written. If it fails, perhaps says whether it may be written all the same, now or later.
//
// Keys are unique, so that a refusal means that an earlier copy of the very request was applied: what a lost answer leaves to be found
// out is told by sending it again. These are the ways of a copy c1 whose answer was lost, and its repetition c2:
//
//	c1 lost on its way; c2 applied                                     one job
//	c1 applied; c2 refused, as its key is there                        one job
//	c2 applied; c1, late, refused, as its key is there                 one job
//	c1 applied; job claimed and done; c2 applied                       a second delivery
//	c2 applied; job claimed and done; c1, late, applied                a second delivery
//
// That c2 compares is not enough. Were c1 a plain put, it could come late upon a job that c2 has written and that was delivered
// meanwhile: it would undo the count of its attempts, and if the job was put back to another place, there would be two of it. And
// clientv3 sends some writes again by itself, plain as they are. So every copy compares, the first one too, and every job in it: of
// the jobs of one request any may be done when another copy arrives. Then the last two ways take that all of them are done.
//
// A job with an ID compares that the ID is not known, which it is as long as the job is in the queue and, by its mark, for longer than any copy
// is likely to be on its way. So there are no such ways for it, unless Options.DedupFor is negative.
func (q *Queue[T]) commit(ctx context.Context, r request) (perhaps bool, err error) {
	for lost := 1; ; lost++ {
		lease, err := q.memory.take(ctx, r.named, q.grant)
		if err != nil {
			return perhaps, err
		}
		cmps, ops := r.operations(q.keys, lease)
		_, err = call.Do(ctx, q.client, "write jobs", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			resp, err := q.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
			perhaps = perhaps || retry.Ambiguous(err)
			return resp, err
		})
		if err == nil || !call.LeaseGone(err) {
			return perhaps, err
		}
		// Revoked, or this process stood still for longer than it had. etcd looks at all leases before it writes anything.
		q.memory.drop(lease)
		if lost == leasesLost {
			return perhaps, err
		}
	}
}
