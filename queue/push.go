package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// PushOptions say how a job is to be done. The zero value, and a nil *PushOptions, mean the defaults.
type PushOptions struct {
	// ID is the caller's own name of the job: a push of an ID that is in the queue, or was pushed within Options.DedupFor,
	// changes nothing and returns the same ID. Up to 256 bytes, a path without a slash at its end. Default one that is unique.
	ID string

	// Priority is from -MaxPriority to MaxPriority. Higher ones are claimed first. Default 0.
	Priority int

	// Delay is how long the job is not to be delivered, by the clocks of producer and worker. Default none; it must not be negative.
	Delay time.Duration

	// Key orders: of the jobs with one Key at most one is in flight, in the order of their places in line. Default none.
	Key string
}

// Job is an item with options of its own, for PushJobs.
type Job[T any] struct {
	Item T
	PushOptions
}

// Push puts a job in line and returns its ID. (To be implemented: push.go and files beside it belong to the push side.)
func (q *Queue[T]) Push(ctx context.Context, item T, opts *PushOptions) (id string, err error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	data, err := q.opts.Codec.Encode(item)
	if err != nil {
		return "", err
	}
	at := place{priority: opts.Priority, stem: stemOf(q.producer.take(1), q.producer.id), key: keyHash(opts.Key)}
	if opts.Delay > 0 {
		at.stem, at.delayed = q.producer.later(time.Now().Add(opts.Delay)), true
	}
	_, err = q.client.KV.Put(ctx, q.keys.job(at), string(record{Key: opts.Key, Item: data}.encode()))
	return at.stem, err
}

// PushMany puts many jobs in line.
func (q *Queue[T]) PushMany(ctx context.Context, items []T, opts *PushOptions) (ids []string, err error) {
	panic("push side")
}

// PushJobs puts many jobs in line, each with options of its own.
func (q *Queue[T]) PushJobs(ctx context.Context, jobs []Job[T]) (ids []string, err error) {
	panic("push side")
}

// PushOp returns what puts a job in line in the caller's own transaction.
func (q *Queue[T]) PushOp(item T, opts *PushOptions) (ops []clientv3.Op, cmps []clientv3.Cmp, err error) {
	panic("push side")
}
