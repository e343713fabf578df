package queue

import (
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// tickJob is a job that is about to be pushed for a tick.
type tickJob struct {
	id   string
	key  string
	free []clientv3.Cmp // no job is in its way
	ops  []clientv3.Op
}

var errTickHasID = errors.New("PushOptions.ID is set, but the ID of a tick's job says which tick it is")

// prepare makes the job of a tick.
func (s *schedule[T]) prepare(from known, tick time.Time) (*tickJob, error) {
	item, given, err := s.job(tick.In(s.opts.Location))
	if err != nil {
		return nil, err
	}
	var opts PushOptions
	if given != nil {
		opts = *given
	}
	if opts.ID != "" {
		return nil, errTickHasID
	}
	opts.ID = tickID(s.name, tick)
	j := &tickJob{id: opts.ID}
	if j.ops, j.free, err = s.q.jobOps(item, opts); err != nil {
		return nil, err
	}
	j.key = string(j.ops[0].KeyBytes())
	if !s.opts.Overlap && from.Job != "" && from.Job != j.id {
		j.free = append(j.free, clientv3.Compare(clientv3.CreateRevision(s.q.keys.waiting(from.Job)), "=", 0))
	}
	return j, nil
}

// jobOps returns what puts a job with an ID in line, the put of its key first, and what must hold for it.
func (q *Queue[T]) jobOps(item T, opts PushOptions) ([]clientv3.Op, []clientv3.Cmp, error) {
	switch {
	case opts.Priority < -MaxPriority || opts.Priority > MaxPriority:
		return nil, nil, fmt.Errorf("PushOptions.Priority must be from %d to %d, but is %d", -MaxPriority, MaxPriority, opts.Priority)
	case opts.Delay < 0:
		return nil, nil, fmt.Errorf("PushOptions.Delay must not be negative, but is %v", opts.Delay)
	}
	body, err := q.opts.Codec.Encode(item)
	switch {
	case err != nil:
		return nil, nil, err
	case len(body) > MaxItem:
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body))
	}
	clock := q.producer.take(1)
	r := record{ID: opts.ID, Key: opts.Key, Item: body}
	p := place{priority: opts.Priority, key: keyHash(opts.Key), delayed: opts.Delay > 0}
	if p.delayed {
		r.Pushed = time.UnixMicro(clock).UTC()
		clock += opts.Delay.Microseconds()
	}
	p.stem = stemOf(clock, q.producer.id)
	ops := []clientv3.Op{
		clientv3.OpPut(q.keys.job(p), string(r.encode())),
		clientv3.OpPut(q.keys.waiting(opts.ID), p.path()),
	}
	return ops, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(q.keys.waiting(opts.ID)), "=", 0)}, nil
}
