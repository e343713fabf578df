package queue

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Purge deletes the jobs that wait and those that are delayed, as many as were there when it began, and returns how many. Jobs in flight stay, and
// so do dead letters. The dedup window of an ID goes on, as it does for a job that was done.
//
// It takes a transaction for each 64 jobs, and reads them all. If ctx ends, or etcd fails, it returns how many were deleted until then.
func (q *Queue[T]) Purge(ctx context.Context) (int, error) {
	if q.invalid != nil {
		return 0, q.invalid
	}
	defer q.counted.forget()
	n, err := q.purge(ctx)
	if err != nil {
		return n, fmt.Errorf("queue %q: %w (%d jobs were deleted before)", q.name, err, n)
	}
	return n, nil
}

func (q *Queue[T]) purge(ctx context.Context) (n int, err error) {
	p := below(q.client, q.keys.jobs())
	p.mirror = q.keys.claims()
	for !p.end {
		page, claims, err := p.next(ctx, "purge", mostPage)
		if err != nil {
			return n, err
		}
		page = slices.DeleteFunc(page, func(kv *mvccpb.KeyValue) bool {
			_, claimed := claims[string(kv.Key[len(p.base):])]
			return claimed || kv.CreateRevision > p.began
		})
		for batch := range slices.Chunk(page, batchOps) {
			ops := make([]clientv3.Op, len(batch))
			for i, kv := range batch {
				ops[i] = q.purgeOp(kv)
			}
			answers, lost, err := q.commitBatch(ctx, "purge", ops)
			if err != nil {
				return n, err
			}
			for _, a := range answers {
				// After an answer that was lost, a job that is gone was ours: nobody else had claimed it.
				if a.GetSucceeded() || lost && len(a.Responses[0].GetResponseRange().GetKvs()) == 0 {
					n++
				}
			}
		}
	}
	return n, nil
}

// purgeOp deletes a job that nobody has claimed, and the marker of its ID if there is one of it.
func (q *Queue[T]) purgeOp(kv *mvccpb.KeyValue) clientv3.Op {
	key := string(kv.Key)
	path := key[len(q.keys.jobs()):]
	then := []clientv3.Op{clientv3.OpDelete(key)}
	if r, err := decodeRecord(kv.Value); err == nil && r.ID != "" {
		marker := q.keys.waiting(r.ID)
		then = append(then, clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Value(marker), "=", path)}, []clientv3.Op{clientv3.OpDelete(marker)}, nil))
	}
	// The revision of its creation, since one whose record was rewritten is the same job.
	return clientv3.OpTxn([]clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(key), "=", kv.CreateRevision),
		absent(q.keys.claims() + path),
	}, then, []clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
}
