package queue

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
)

// Delivery is one claim of one job. Its methods are safe for concurrent use.
type Delivery[T any] struct {
	// ID names the job, for all its deliveries: the producer's own, or one that is unique. It is the idempotency key for effects
	// outside etcd.
	ID string

	// Item is what was pushed.
	Item T

	// Key and Priority are as they were pushed.
	Key      string
	Priority int

	// Attempt is the number of this delivery, from 1.
	Attempt int

	// Pushed is when the job was pushed, by its producer's clock.
	Pushed time.Time

	// LastErr is what the attempt before has failed with, if there was one.
	LastErr string

	claim *claim
	ctx   context.Context
}

// Context is the handler's: it ends when the job is no longer this delivery's.
func (d *Delivery[T]) Context() context.Context { return d.ctx }

// Guard proves the claim, for writes that must not come too late. It holds until the job is acknowledged, given back, or taken from a worker
// whose session has ended: as long as nobody else can have it. [Delivery.Ack] is stricter, and refused once the session has ended.
func (d *Delivery[T]) Guard() fence.Guard { return d.claim.guard() }

// Ack deletes the job, and does ops in the same transaction: both happen, or neither. So effects in etcd happen exactly once. There may be up
// to 120 ops. Without any it goes along with other acknowledgements.
//
// It returns nil once that is done; [fence.ErrLost] if the claim was lost before, and then nothing was written, or if its outcome is unknown
// because the session ended first, and then [ErrUnknown], too; ctx's cause, or etcd's error: then Ack may be called again, and else what the handler returns
// decides. The first of Ack and Nack that succeeds settles the delivery; later calls return its result.
func (d *Delivery[T]) Ack(ctx context.Context, ops ...clientv3.Op) error {
	if len(ops) > 0 {
		return d.claim.commit(ctx, ops)
	}
	d.claim.ack()
	return d.claim.await(ctx)
}

// Nack gives the job back, not to be delivered before after is over; this attempt counts. The delivery's context ends at once. What the
// handler returns then is of no matter. Errors are as Ack's; while one is ctx's cause the job goes on being given back.
func (d *Delivery[T]) Nack(ctx context.Context, after time.Duration) error {
	if after < 0 {
		return fmt.Errorf("queue: Nack after %v: it must not be negative", after)
	}
	c := d.claim
	if c.shift.maxAttempts > 0 && c.attempt >= c.shift.maxAttempts {
		c.die("given back at the last attempt")
	} else {
		c.nack(after, "given back by its handler")
	}
	return c.await(ctx)
}

// deliver decodes a job's item and calls the handler. ctx is the claim's, and that of a span.
func (q *Queue[T]) deliver(ctx context.Context, c *claim, handle func(ctx context.Context, d *Delivery[T]) error) (err error) {
	d := &Delivery[T]{
		ID: c.id(), Key: c.record.Key, Priority: c.place.priority, Attempt: c.attempt, Pushed: c.record.Pushed, LastErr: c.record.Err, claim: c,
	}
	if d.Pushed.IsZero() {
		d.Pushed = c.place.at()
	}
	if d.Item, err = q.opts.Codec.Decode(c.record.Item); err != nil {
		return retry.Permanent(fmt.Errorf("item not decoded: %w", err))
	}
	d.ctx = ctx
	if t := c.shift.opts.Timeout; t > 0 {
		inner, cancel := context.WithTimeout(ctx, t)
		defer cancel()
		d.ctx = &owned{inner, c.shift, c.end}
	}
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("handler panicked", zap.String("id", d.ID), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	return handle(d.ctx, d)
}
