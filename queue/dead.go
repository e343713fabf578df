package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// Dead returns the first n dead letters in the order of their IDs, which is for IDs that were not the producer's own that of the pushes. 0
// means all. What cannot be decoded is in Info.Err, and is no error of Dead.
func (q *Queue[T]) Dead(ctx context.Context, n int) ([]Info[T], error) {
	return q.list(ctx, "read the dead letters", below(q.client, q.keys.deads()), n, func(kv *mvccpb.KeyValue, _ map[string]string) Info[T] {
		return q.deadInfo(q.letter(kv))
	})
}

// letter is a dead letter as it was read.
type letter struct {
	id       string
	revision int64 // of its last write
	place    place // where it stood; without a stem if that is not known
	record   record
	err      error // it is none of ours
	value    []byte
}

func (q *Queue[T]) letter(kv *mvccpb.KeyValue) letter {
	l := letter{id: string(kv.Key[len(q.keys.deads()):]), revision: kv.ModRevision, value: kv.Value}
	if l.record, l.err = decodeRecord(kv.Value); l.err == nil {
		if at, err := parsePlace(l.record.Place); err == nil { // else it goes back with the default priority
			l.place = at
		}
	}
	return l
}

func (q *Queue[T]) deadInfo(l letter) Info[T] {
	i := Info[T]{ID: l.id, Priority: l.place.priority}
	if l.err != nil {
		i.Raw, i.Err = l.value, fmt.Errorf("queue %q: dead letter %q: %w", q.name, l.id, l.err)
		return i
	}
	i.Pushed = l.record.Pushed
	if l.place.stem != "" {
		i.Pushed = l.record.pushedAt(l.place)
	}
	q.describe(&i, "dead letter", l.record)
	return i
}

// Discard deletes dead letters, all of them if it is given no IDs, and returns how many. Of an ID that is none of a dead letter it returns
// [ErrUnknownID], which names it, once it is through with the others.
//
// Without IDs it deletes those that were there when it began. ctx bounds it; what was deleted until then is counted.
func (q *Queue[T]) Discard(ctx context.Context, ids ...string) (int, error) {
	return q.bury(ctx, "discard dead letters", ids, func(l letter) (mourned, bool) {
		key := q.keys.dead(l.id)
		return mourned{
			cmps: []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", l.revision)},
			then: []clientv3.Op{clientv3.OpDelete(key)},
		}, true
	}, true)
}

// mourned is what is to be done with a dead letter: in a transaction within that of its batch, so that one that fails fails alone.
type mourned struct {
	cmps []clientv3.Cmp
	then []clientv3.Op
	job  string // the key that it puts and nobody else does; "" for none
	size int
}

// batchOps is how many transactions one holds within it. A level of it may have 128 operations less those of the level above.
const batchOps = 64

// batchBytes bounds what goes into one: etcd takes 1.5 MiB, and one item of the largest kind always fits.
const batchBytes = 1 << 20

// bury does with dead letters what decide says, which may turn one down.
func (q *Queue[T]) bury(ctx context.Context, what string, ids []string, decide func(letter) (m mourned, ok bool), keysOnly bool) (int, error) {
	if q.invalid != nil {
		return 0, q.invalid
	}
	defer q.counted.forget()
	b := burial[T]{q: q, what: what, decide: decide}
	var err error
	if len(ids) == 0 {
		err = b.all(ctx, keysOnly)
	} else {
		err = b.named(ctx, ids, keysOnly)
	}
	if err != nil {
		err = fmt.Errorf("%w (%d were done before)", err, b.done)
	}
	for _, r := range []struct {
		ids []string
		err error
	}{{b.unknown, ErrUnknownID}, {b.queued, ErrQueued}, {b.malformed, errRecord}} {
		if len(r.ids) > 0 {
			err = oneLine(err, fmt.Errorf("queue %q: dead letter %s: %w", q.name, quoted(r.ids), r.err))
		}
	}
	return b.done, err
}

// oneLine joins errors that people read in one line.
func oneLine(a, b error) error {
	if a == nil {
		return b
	}
	return fmt.Errorf("%w; %w", a, b)
}

// burial is one call that deals with dead letters.
type burial[T any] struct {
	q      *Queue[T]
	what   string
	decide func(letter) (mourned, bool)

	done                       int
	unknown, queued, malformed []string
}

// all deals with all that there are.
func (b *burial[T]) all(ctx context.Context, keysOnly bool) error {
	p := below(b.q.client, b.q.keys.deads())
	p.keysOnly = keysOnly
	for !p.end {
		page, _, err := p.next(ctx, b.what, mostPage)
		if err != nil {
			return fmt.Errorf("queue %q: %w", b.q.name, err)
		}
		var ls []letter
		for _, kv := range page {
			if kv.ModRevision <= p.began { // else it has come since, and etcd was compacted
				ls = append(ls, b.q.letter(kv))
			}
		}
		if _, err := b.settle(ctx, ls, nil); err != nil {
			return err
		}
	}
	return nil
}

// namedAtOnce is how many are read at a time: each may be as large as an item can be.
const namedAtOnce = 16

// named deals with those of some IDs.
func (b *burial[T]) named(ctx context.Context, ids []string, keysOnly bool) error {
	seen := map[string]bool{}
	var each []string
	for _, id := range ids {
		if !seen[id] {
			each, seen[id] = append(each, id), true
		}
	}
	var opts []clientv3.OpOption
	if keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	for chunk := range slices.Chunk(each, namedAtOnce) {
		// One that others put back and that died again meanwhile is read anew.
		for left := chunk; len(left) > 0; {
			ops := make([]clientv3.Op, len(left))
			for i, id := range left {
				ops[i] = clientv3.OpGet(b.q.keys.dead(id), opts...)
			}
			resp, err := call.Do(ctx, b.q.client, b.what, func(ctx context.Context) (*clientv3.TxnResponse, error) {
				return b.q.client.KV.Txn(ctx).Then(ops...).Commit()
			})
			if err != nil {
				return fmt.Errorf("queue %q: %w", b.q.name, err)
			}
			var ls []letter
			for i, r := range resp.Responses {
				if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
					ls = append(ls, b.q.letter(kvs[0]))
				} else {
					b.unknown = append(b.unknown, left[i])
				}
			}
			if left, err = b.settle(ctx, ls, &b.unknown); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle deals with dead letters as they were read. It returns those that were written anew since, and notes in gone which others have dealt with.
func (b *burial[T]) settle(ctx context.Context, ls []letter, gone *[]string) (anew []string, err error) {
	for len(ls) > 0 {
		var (
			batch   []letter
			ms      []mourned
			ops     []clientv3.Op
			size    int
			decided int
		)
		for _, l := range ls {
			m, ok := b.decide(l)
			if ok && len(ms) > 0 && (len(ms) == batchOps || size+m.size > batchBytes) {
				break
			}
			if decided++; !ok {
				b.malformed = append(b.malformed, l.id)
				continue
			}
			look := []clientv3.Op{clientv3.OpGet(b.q.keys.dead(l.id), clientv3.WithKeysOnly())}
			if m.job != "" {
				look = append(look, clientv3.OpGet(m.job, clientv3.WithKeysOnly()))
			}
			batch, ms, ops, size = append(batch, l), append(ms, m), append(ops, clientv3.OpTxn(m.cmps, m.then, look)), size+m.size
		}
		ls = ls[decided:]
		if len(ops) == 0 {
			continue
		}
		answers, lost, err := b.q.commitBatch(ctx, b.what, ops)
		if err != nil {
			return nil, err
		}
		for i, a := range answers {
			id := batch[i].id
			switch fateOf(a, batch[i], lost) {
			case fateDone:
				b.done++
			case fateGone:
				if gone != nil {
					*gone = append(*gone, id)
				}
			case fateAnew:
				anew = append(anew, id)
			case fateQueued:
				b.queued = append(b.queued, id)
			}
		}
	}
	return anew, nil
}

// fate is what became of a dead letter.
type fate int

const (
	fateDone   fate = iota
	fateGone        // others have dealt with it
	fateAnew        // it died again
	fateQueued      // a job with its ID is in the queue
)

// fateOf tells it from the answer, and whether one before may have been lost: then a dead letter that is gone was ours, as its job, which may
// be done by now, need not be there any more.
func fateOf(a *pb.TxnResponse, l letter, lost bool) fate {
	if a.GetSucceeded() {
		return fateDone
	}
	dead := a.Responses[0].GetResponseRange().GetKvs()
	switch {
	case len(a.Responses) > 1 && len(a.Responses[1].GetResponseRange().GetKvs()) > 0:
		return fateDone
	case len(dead) == 0 && lost:
		return fateDone
	case len(dead) == 0:
		return fateGone
	case dead[0].ModRevision != l.revision:
		return fateAnew
	}
	return fateQueued
}

// commitBatch sends transactions within one, each of which cannot be applied twice. lost says that an answer was lost before the one that came.
func (q *Queue[T]) commitBatch(ctx context.Context, what string, ops []clientv3.Op) (answers []*pb.TxnResponse, lost bool, err error) {
	resp, err := call.Do(ctx, q.client, what, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := q.client.KV.Txn(ctx).Then(ops...).Commit()
		lost = lost || retry.Ambiguous(err)
		return resp, err
	})
	if err != nil {
		if lost {
			err = fmt.Errorf("%w (of %d more that is not known)", err, len(ops))
		}
		return nil, lost, fmt.Errorf("queue %q: %w", q.name, err)
	}
	answers = make([]*pb.TxnResponse, len(ops))
	for i, r := range resp.Responses {
		answers[i] = r.GetResponseTxn()
	}
	return answers, lost, nil
}

// ErrQueued refuses to put a dead letter back whose ID was pushed anew, and is in the queue.
var ErrQueued = errors.New("queue: a job with that ID is in the queue")
