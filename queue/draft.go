package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/names"
)

// longestName is how many bytes an ID and an ordering key may have: with room to spare, all that goes with an item of MaxItem fits
// into one request.
const longestName = 256

// terms are PushOptions that were checked, in the form in which jobs have them. Many jobs may share them.
type terms struct {
	opts PushOptions
	lane string        // prefix of the keys
	hash string        // of the ordering key
	wait time.Duration // until due, in whole microseconds
	head string        // of the record: its header, line end included
}

// draft is a job that has all but its place.
type draft struct {
	*terms
	value string
}

// terms checks options.
func (q *Queue[T]) terms(ctx context.Context, opts PushOptions) (*terms, error) {
	switch {
	case opts.Delay < 0:
		return nil, fmt.Errorf("PushOptions.Delay must not be negative, but is %v", opts.Delay)
	case opts.Priority < -MaxPriority || opts.Priority > MaxPriority:
		return nil, fmt.Errorf("PushOptions.Priority must be from %d to %d, but is %d", -MaxPriority, MaxPriority, opts.Priority)
	}
	if opts.ID != "" {
		if err := checkName("ID", opts.ID, names.Path); err != nil {
			return nil, err
		}
		if generated(opts.ID) {
			return nil, fmt.Errorf("PushOptions.ID %q refused: it has the form of those that jobs without one are given", opts.ID)
		}
	}
	if opts.Key != "" {
		if err := checkName("Key", opts.Key, names.Opaque); err != nil {
			return nil, err
		}
	}
	t := &terms{opts: opts, lane: q.keys.lane(opts.Priority), hash: keyHash(opts.Key)}
	r := record{ID: opts.ID, Key: opts.Key, Trace: traceparent(ctx)}
	if opts.Delay > 0 {
		now := time.Now()
		t.wait = (opts.Delay + time.Microsecond - 1).Truncate(time.Microsecond)
		// Some hours are left for the time until it is sent.
		if t.wait < 0 || now.UnixMicro() > lastClock-1<<34-t.wait.Microseconds() {
			return nil, fmt.Errorf("PushOptions.Delay must end before %d, but is %v", time.UnixMicro(lastClock).Year(), opts.Delay)
		}
		r.Pushed = now.UTC().Truncate(time.Microsecond)
	}
	t.head = string(r.encode())
	return t, nil
}

// checkName checks a name that is an option.
func checkName(field, name string, rule func(kind, name string) error) error {
	if len(name) > longestName {
		return fmt.Errorf("PushOptions.%s must have at most %d bytes, but has %d", field, longestName, len(name))
	}
	return rule("PushOptions."+field, name)
}

// draft encodes an item.
func (q *Queue[T]) draft(t *terms, item T) (draft, error) {
	data, err := q.opts.Codec.Encode(item)
	switch {
	case err != nil && overCodec(err):
		return draft{}, fmt.Errorf("%w: more than %d bytes, at most %d: %w", ErrTooLarge, codec.MaxSize, MaxItem, err)
	case err != nil:
		return draft{}, fmt.Errorf("encode the item: %w", err)
	case len(data) > MaxItem:
		return draft{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxItem)
	}
	d := draft{t, t.head + string(data)}
	if n := slotSize(q.keys) + d.size(q.keys); n > maxRequest { // a queue with a name of kilobytes
		return draft{}, fmt.Errorf("%w: %d bytes, with the names that go with it %d, at most %d", ErrTooLarge, len(data), n, maxRequest)
	}
	return d, nil
}

// overCodec reports whether it was our own codec that refused a document for its size.
func overCodec(err error) bool {
	var refused *codec.Error
	return errors.As(err, &refused) && strings.HasPrefix(refused.Rule, "larger than ")
}

// place gives a draft its place: at a reading of the producer's clock, or as much later as it is delayed.
func (q *Queue[T]) place(d draft, clock int64) place {
	p := place{priority: d.opts.Priority, key: d.hash, delayed: d.wait > 0}
	if p.delayed {
		p.stem = q.producer.stemDue(clock + d.wait.Microseconds())
	} else {
		p.stem = q.producer.stem(clock)
	}
	return p
}

// idOf is the ID of a draft that stands at a place.
func (d draft) idOf(p place) string {
	if d.opts.ID != "" {
		return d.opts.ID
	}
	return p.stem
}

// put writes the job itself.
func (d draft) put(p place) clientv3.Op { return clientv3.OpPut(d.lane+p.local(), d.value) }

// fresh holds if an ID of the caller's own is neither in the queue nor remembered.
func (d draft) fresh(l layout) []clientv3.Cmp {
	return []clientv3.Cmp{absent(l.waiting(d.opts.ID)), absent(l.seen(d.opts.ID))}
}

// absent holds if a key does not exist.
func absent(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }

const (
	// maxRequest is what etcd takes in a request, less what it puts around one of ours.
	maxRequest = 3<<19 - 4<<10

	// overhead is more than protobuf needs around one operation, or one comparison.
	overhead = 32
)

// longestPath is how long the path of a place is, at most.
const longestPath = len("000/") + clockDigits + len("-") + 8 + 16 + len("-d") + len(".") + hashDigits

// size is how large a draft is in a request, at most.
func (d draft) size(l layout) int {
	size := len(l) + len("line/jobs/") + longestPath + overhead + len(d.value)
	if d.opts.ID != "" {
		size += 4*(len(l)+len("seen/")+len(d.opts.ID)+overhead) + 2*longestPath + overhead
	}
	return size
}

// slotSize is how large a request is without its jobs, at most.
func slotSize(l layout) int { return 3*(len(l.pushed())+longestSlot+overhead) + longestPath }
