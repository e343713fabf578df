package queue

import (
	"context"
	"fmt"
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

	// Key orders: of the jobs with one Key at most one is in flight, in the order of their places in line. Up to 256
	// bytes, without control characters. Default none.
	Key string
}

// Job is an item with options of its own, for PushJobs.
type Job[T any] struct {
	Item T
	PushOptions
}

// PushError is what a push returns that failed after its arguments were found to be in order. It tells exactly what was written:
// of the jobs in the order in which they were given, the first Written are in the queue, for the next Unknown it is not known, and the
// others are not in the queue, and will not be. Jobs whose ID was known before count as written.
type PushError struct {
	Written int
	Unknown int // at most one transaction's, 127: etcd's answer was lost. They may be written all or not at all, also later
	Err     error
}

// Error tells all of it.
func (e *PushError) Error() string {
	switch {
	case e.Unknown > 0 && e.Written > 0:
		return fmt.Sprintf("%v (jobs written before: %d; perhaps written: %d)", e.Err, e.Written, e.Unknown)
	case e.Unknown > 0:
		return fmt.Sprintf("%v (jobs perhaps written: %d)", e.Err, e.Unknown)
	case e.Written > 0:
		return fmt.Sprintf("%v (jobs written before: %d)", e.Err, e.Written)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *PushError) Unwrap() error { return e.Err }

// Push puts a job in line and returns its ID once etcd has it.
//
// Jobs of one Queue are in line in the order of their pushes; of pushes that overlap either may come first. It is one write of two
// keys: the job, and one that tells which push was the last of so many at a time. With an ID it is four. The first push, and one every five
// minutes, grants a lease before. The trace that ctx belongs to goes with the job; where the application traces, that of a span of the push.
//
// What etcd does not answer is sent again for as long as below, and written once, even if the job is done before a copy arrives:
// a push that returned nil has written one job.
//
// ctx bounds it; it gives up by itself after 10 s, or at once if all endpoints refuse connections. It is safe for concurrent use.
//
// Errors: of the arguments, before anything is sent, one that names the option, [ErrTooLarge], or the codec's. After that a
// [*PushError], of which Unknown is 1 if the job may be in the queue all the same, now or later, once: to push it again is to risk two, unless it has an
// ID. It wraps [ErrFull], etcd's own error, as when the database is full, or one that names the endpoints that do not answer.
func (q *Queue[T]) Push(ctx context.Context, item T, opts *PushOptions) (id string, err error) {
	ids, err := q.PushMany(ctx, []T{item}, opts)
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// PushMany puts many jobs in line, in the order of items and with the same options, and returns their IDs once etcd has them all. An
// ID can be given for one item only; see [Queue.PushJobs].
//
// They are written in transactions of up to 127 jobs and 1.5 MiB, one after the other: a job is never in the queue before
// those that come before it are. It is not one transaction: workers may have the first jobs before the last ones are written, and one that
// fails leaves what was written before it.
//
// ctx bounds all of it; each transaction gives up by itself as Push does. It is safe for concurrent use.
//
// Errors: all items are checked before the first is sent; the error names the index, from 0, of the one that is refused. After that they are as
// Push's: the [*PushError] counts, and ids has those of the jobs that were certainly written. ErrFull may come in the middle, too.
func (q *Queue[T]) PushMany(ctx context.Context, items []T, opts *PushOptions) (ids []string, err error) {
	if q.invalid != nil {
		return nil, q.invalid
	}
	if opts == nil {
		opts = &PushOptions{}
	}
	if opts.ID != "" && len(items) > 1 {
		return nil, fmt.Errorf("queue %q: PushOptions.ID cannot be that of %d jobs; PushJobs gives each its own", q.name, len(items))
	}
	ctx, span := q.measures.pushSpan(ctx)
	defer func() { q.measures.pushDone(span, len(items), ids, err) }()
	t, err := q.terms(ctx, *opts)
	if err != nil {
		return nil, fmt.Errorf("queue %q: %w", q.name, err)
	}
	drafts := make([]draft, len(items))
	for i, item := range items {
		if drafts[i], err = q.draft(t, item); err != nil {
			return nil, q.refused(i, len(items), err)
		}
	}
	return q.send(ctx, drafts)
}

// PushJobs is [Queue.PushMany] for jobs with options of their own. No two may have the same ID. One whose ID is known already changes
// nothing and counts as written.
func (q *Queue[T]) PushJobs(ctx context.Context, jobs []Job[T]) (ids []string, err error) {
	if q.invalid != nil {
		return nil, q.invalid
	}
	ctx, span := q.measures.pushSpan(ctx)
	defer func() { q.measures.pushDone(span, len(jobs), ids, err) }()
	var (
		drafts = make([]draft, len(jobs))
		known  = map[string]int{} // the index of the job that has an ID
		t      *terms
	)
	for i, job := range jobs {
		if id := job.ID; id != "" {
			if first, ok := known[id]; ok {
				return nil, q.refused(i, len(jobs), fmt.Errorf("it has the ID %q of job %d", id, first))
			}
			known[id] = i
		}
		if t == nil || t.opts != job.PushOptions {
			if t, err = q.terms(ctx, job.PushOptions); err != nil {
				return nil, q.refused(i, len(jobs), err)
			}
		}
		if drafts[i], err = q.draft(t, job.Item); err != nil {
			return nil, q.refused(i, len(jobs), err)
		}
	}
	return q.send(ctx, drafts)
}

// refused names the job that is refused, if there are several.
func (q *Queue[T]) refused(i, of int, err error) error {
	if of == 1 {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	return fmt.Errorf("queue %q: job %d: %w", q.name, i, err)
}

// PushOp returns what puts a job in line in the caller's own transaction: ops for its Then, and cmps for its If. So a job can be pushed
// together with what it is about, or not at all. Several jobs go into one transaction if their IDs differ.
//
// Without an ID that is one put, and no comparison. With one, two puts and two comparisons that the ID is neither in the queue nor
// remembered from another push: if it is, the transaction's Else runs. What PushOp pushes is itself remembered only as long as it is
// in the queue, and not for Options.DedupFor: that would take a lease.
//
// The job's place in line is that of the call, so use what it returns soon and once: who commits it again, or sends a transaction
// again whose answer was lost without a comparison of its own that fails the second time, pushes the job again.
//
// It does no I/O, does not look at Options.MaxDepth, and is neither counted nor traced. It is safe for concurrent use. Errors are those of the arguments, as Push's.
func (q *Queue[T]) PushOp(item T, opts *PushOptions) (ops []clientv3.Op, cmps []clientv3.Cmp, err error) {
	if q.invalid != nil {
		return nil, nil, q.invalid
	}
	if opts == nil {
		opts = &PushOptions{}
	}
	t, err := q.terms(context.Background(), *opts)
	if err != nil {
		return nil, nil, q.refused(0, 1, err)
	}
	d, err := q.draft(t, item)
	if err != nil {
		return nil, nil, q.refused(0, 1, err)
	}
	p := q.place(d, q.producer.take(1))
	if d.opts.ID == "" {
		return []clientv3.Op{d.put(p)}, nil, nil
	}
	return []clientv3.Op{d.put(p), clientv3.OpPut(q.keys.waiting(d.opts.ID), p.path())}, d.fresh(q.keys), nil
}
