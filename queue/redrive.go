package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Redrive puts dead letters back at the end of the line, all of them if it is given no IDs, and returns how many. They keep their ID, Key and
// Priority, and begin with the first attempt. That an ID was pushed within Options.DedupFor does not matter.
//
// An ID that is none of a dead letter is [ErrUnknownID]; one of the producer's own that has been pushed anew and is in the queue is
// [ErrQueued], and stays dead. Both name it, and are returned once it is through with the others.
//
// Without IDs it puts back those that were there when it began. Each is there once, in the line or dead, whatever fails. ctx bounds it; what
// was done until then is counted. If an answer of etcd is lost, what others have redriven or discarded in that moment is counted too.
func (q *Queue[T]) Redrive(ctx context.Context, ids ...string) (int, error) {
	return q.bury(ctx, "redrive", ids, func(l letter) (mourned, bool) {
		if l.err != nil {
			return mourned{}, false
		}
		return q.revival(l), true
	}, false)
}

// revival is what puts a dead letter back.
func (q *Queue[T]) revival(l letter) mourned {
	at := place{priority: l.place.priority, stem: q.producer.stem(q.producer.take(1)), key: keyHash(l.record.Key)}
	r := record{ID: l.id, Key: l.record.Key, Pushed: l.record.Pushed, Trace: l.record.Trace, Item: l.record.Item}
	if r.Pushed.IsZero() && l.place.stem != "" {
		r.Pushed = l.place.at()
	}
	r.Pushed = r.Pushed.UTC().Round(time.Microsecond)
	dead, job, value := q.keys.dead(l.id), q.keys.job(at), r.encode()
	m := mourned{
		cmps: []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(dead), "=", l.revision)},
		then: []clientv3.Op{clientv3.OpPut(job, string(value)), clientv3.OpDelete(dead)},
		job:  job,
		size: len(value) + 4*len(dead) + 3*len(job) + 100,
	}
	if !generated(l.id) {
		marker := q.keys.waiting(l.id)
		m.cmps = append(m.cmps, absent(marker))
		m.then = append(m.then, clientv3.OpPut(marker, at.path()))
		m.size += 2*len(marker) + len(job)
	}
	return m
}
