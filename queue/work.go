package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// WorkOptions of Work. The zero value, and a nil *WorkOptions, mean the defaults.
type WorkOptions struct {
	// Concurrency is how many handlers run at a time. Default 1, at most 1,000.
	Concurrency int

	// Prefetch is how many jobs are claimed beyond those that handlers run for, so that a handler that returns finds the next at
	// hand. Others cannot have them meanwhile. Default 1 if Concurrency is 1, else Concurrency/2; negative means none; at most 1,000.
	Prefetch int

	// Timeout is how long a handler may take for a job; then its context ends with context.DeadlineExceeded. Default none.
	Timeout time.Duration

	// Backoff gives the waits before a job is delivered again that has failed: Initial (default 1 s), Max (default 5 min), Multiplier and Jitter.
	Backoff retry.Policy

	// DrainTimeout is how long handlers may go on after the end of Work's context, before theirs end. Default 30 s; negative means for as
	// long as it takes.
	DrainTimeout time.Duration

	// Session is how the worker's sessions are opened: their TTL is how long a dead worker's jobs stay with it.
	Session *session.Options
}

// Work claims jobs and calls handle for each. (To be implemented: the work side.)
func (q *Queue[T]) Work(ctx context.Context, opts *WorkOptions, handle func(ctx context.Context, d *Delivery[T]) error) error {
	panic("work side")
}

// Delivery is one claim of one job.
type Delivery[T any] struct {
	ID       string
	Item     T
	Key      string
	Priority int
	Attempt  int       // from 1
	Pushed   time.Time // by the producer's clock
	LastErr  string    // of the attempt before, if there was one
}

// Context ends when the job is no longer this delivery's.
func (d *Delivery[T]) Context() context.Context { panic("work side") }

// Guard proves the claim.
func (d *Delivery[T]) Guard() fence.Guard { panic("work side") }

// Ack deletes the job, with ops in the same transaction.
func (d *Delivery[T]) Ack(ctx context.Context, ops ...clientv3.Op) error { panic("work side") }

// Nack gives the job back, not to be delivered before after is over.
func (d *Delivery[T]) Nack(ctx context.Context, after time.Duration) error { panic("work side") }
