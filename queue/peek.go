package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Info is a job as Peek and Dead show it.
type Info[T any] struct {
	ID       string
	Item     T
	Raw      []byte // the item as it is in etcd; of what is no job, all that is there
	Err      error  // why Item is not set, and perhaps more: the item cannot be decoded, or this is no job of ours
	Key      string
	Priority int
	Attempts int // that have ended
	LastErr  string
	Pushed   time.Time // by the producer's clock
	Due      time.Time // of a delayed job: when it may be claimed
	Died     time.Time // of a dead letter
	Worker   string    // who has claimed it
}

// Peek returns the first n jobs of the line, in the order of their places: by priority, then by time, so that the delayed ones of a priority
// stand behind those that wait. Jobs in flight are among them, with their Worker. 0 means all, which are then held in memory.
//
// It changes nothing, and what it returns may be claimed already. What cannot be decoded is in Info.Err, and is no error of Peek.
// Each page that is read takes etcd time that grows with the queue.
func (q *Queue[T]) Peek(ctx context.Context, n int) ([]Info[T], error) {
	p := below(q.client, q.keys.jobs())
	p.mirror = q.keys.claims()
	return q.list(ctx, "peek", p, n, func(kv *mvccpb.KeyValue, claims map[string]string) Info[T] {
		path := string(kv.Key[len(p.base):])
		i := q.jobInfo(path, kv.Value)
		i.Worker = claims[path]
		return i
	})
}

// list reads what is asked for.
func (q *Queue[T]) list(
	ctx context.Context, what string, p *pages, n int, info func(*mvccpb.KeyValue, map[string]string) Info[T],
) ([]Info[T], error) {
	switch {
	case q.invalid != nil:
		return nil, q.invalid
	case n < 0:
		return nil, fmt.Errorf("queue %q: %s: n must not be negative, but is %d", q.name, what, n)
	}
	var all []Info[T]
	for most := atMost(n); len(all) < most && !p.end; {
		page, beside, err := p.next(ctx, what, most-len(all))
		if err != nil {
			return nil, fmt.Errorf("queue %q: %w", q.name, err)
		}
		for _, kv := range page {
			all = append(all, info(kv, beside))
		}
	}
	return all, nil
}

// jobInfo describes what is at a path below the jobs.
func (q *Queue[T]) jobInfo(path string, value []byte) Info[T] {
	at, err := parsePlace(path)
	if err != nil {
		return Info[T]{ID: path, Raw: value, Err: fmt.Errorf("queue %q: key %q: %w", q.name, path, err)}
	}
	r, err := decodeRecord(value)
	if err != nil {
		return Info[T]{ID: at.stem, Priority: at.priority, Raw: value, Err: fmt.Errorf("queue %q: job %q: %w", q.name, at.stem, err)}
	}
	i := Info[T]{ID: r.idAt(at), Priority: at.priority, Pushed: r.pushedAt(at)}
	if at.delayed && at.at().After(time.Now()) {
		i.Due = at.at()
	}
	q.describe(&i, "job", r)
	return i
}

// idAt is the ID of a job that stands there.
func (r record) idAt(at place) string {
	if r.ID != "" {
		return r.ID
	}
	return at.stem
}

// pushedAt is when a job was pushed that stands there.
func (r record) pushedAt(at place) time.Time {
	if !r.Pushed.IsZero() {
		return r.Pushed
	}
	return at.at()
}

// describe fills in what a record says.
func (q *Queue[T]) describe(i *Info[T], kind string, r record) {
	i.Key, i.Attempts, i.LastErr, i.Died, i.Raw = r.Key, r.Attempts, r.Err, r.Died, r.Item
	item, err := q.opts.Codec.Decode(r.Item)
	if err != nil {
		i.Err = fmt.Errorf("queue %q: %s %q: %w", q.name, kind, i.ID, err)
		return
	}
	i.Item = item
}

// Names in an error are few enough to be read.
const mostNames = 5

// quoted are names for an error.
func quoted(ids []string) string {
	var b strings.Builder
	for i, id := range ids {
		if i == mostNames {
			fmt.Fprintf(&b, " and %d more", len(ids)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", id)
	}
	return b.String()
}
