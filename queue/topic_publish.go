package queue

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// Bounds of one transaction of messages. etcd takes 128 operations and 1.5 MiB, if it is not told otherwise.
const (
	perPublish   = 120
	publishBytes = 1 << 20
)

// mostRefusals is how often a publish is made anew because the segment was closed meanwhile. Each time somebody has published hundreds.
const mostRefusals = 20

var errCrowded = errors.New("the topic's segments are closed faster than they can be written to")

// Publish appends a message and returns its position. ctx bounds the call; so do 10 s.
//
// A lost answer is resolved: the message is there once, however often it was sent. If that cannot be done, as etcd is away, the error is
// one that retry.Ambiguous reports, and the message may be there. ErrMessageTooLarge refuses it before anything is sent.
func (t *Topic[T]) Publish(ctx context.Context, msg T) (Position, error) {
	at, err := t.PublishMany(ctx, []T{msg})
	if err != nil {
		return Position{}, err
	}
	return at[0], nil
}

// PublishMany appends messages, in their order, in as few transactions as etcd's limits allow; between them those of others may stand. It
// returns the positions of those that were published, all or, with an error, the first ones; of the next up to 120 that is not certain
// if retry.Ambiguous reports the error, and none of the others was sent. If one is too large, nothing is.
func (t *Topic[T]) PublishMany(ctx context.Context, msgs []T) ([]Position, error) {
	puts, err := t.encode(msgs)
	if err != nil {
		return nil, err
	}
	published := make([]Position, 0, len(puts))
	for len(puts) > 0 {
		n := fittingMessages(puts)
		at, err := t.publish(ctx, puts[:n])
		if err != nil {
			return published, fmt.Errorf("topic %q: %w", t.name, err)
		}
		published, puts = append(published, at...), puts[n:]
	}
	return published, nil
}

// PublishOp returns what appends a message in a transaction of the caller's own: ops that are to be done if cmps hold. They do not if
// others have published hundreds of messages meanwhile; then PublishOp is to be called again. It reads from etcd, within ctx, where
// messages go, and closes what is full.
//
// What it returns is for one transaction. That may be sent again if its answer was lost: it is applied once.
func (t *Topic[T]) PublishOp(ctx context.Context, msg T) (ops []clientv3.Op, cmps []clientv3.Cmp, err error) {
	puts, err := t.encode([]T{msg})
	if err != nil {
		return nil, nil, err
	}
	s, count, err := t.lookup(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("topic %q: %w", t.name, err)
	}
	t.tidy(ctx, s, count)
	t.mu.Lock()
	s = t.segment
	t.bytes += len(puts[0].value)
	t.mu.Unlock()
	key := t.keys.message(s.Number, puts[0].place)
	return []clientv3.Op{clientv3.OpPut(key, puts[0].value)}, []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(t.keys.current()), "=", s.revision),
		clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
	}, nil
}

// topicPut is a message that is to be written.
type topicPut struct {
	place string
	value string
}

// encode makes messages ready, or refuses them all.
func (t *Topic[T]) encode(msgs []T) ([]topicPut, error) {
	if t.invalid != nil {
		return nil, t.invalid
	}
	puts := make([]topicPut, len(msgs))
	for i, msg := range msgs {
		value, err := t.opts.Codec.Encode(msg)
		if err != nil {
			return nil, fmt.Errorf("topic %q: message %d of %d: %w", t.name, i+1, len(msgs), err)
		}
		if len(value) > MaxMessage {
			return nil, fmt.Errorf("topic %q: message %d of %d has %d bytes, more than %d: %w",
				t.name, i+1, len(msgs), len(value), MaxMessage, ErrMessageTooLarge)
		}
		puts[i].value = string(value)
	}
	// Their places are in their order, also within one revision.
	clock := t.producer.take(len(msgs))
	for i := range puts {
		puts[i].place = stemOf(clock+int64(i), t.producer.id)
	}
	return puts, nil
}

// fittingMessages is how many of puts go into one transaction.
func fittingMessages(puts []topicPut) int {
	size := 0
	for i, p := range puts {
		if size += len(p.value); i > 0 && (i == perPublish || size > publishBytes) {
			return i
		}
	}
	return len(puts)
}

// publish writes messages in one transaction.
func (t *Topic[T]) publish(ctx context.Context, puts []topicPut) ([]Position, error) {
	t.mu.Lock()
	s := t.segment
	t.mu.Unlock()
	for range mostRefusals {
		if s.Number == 0 {
			var err error
			if s, err = t.open(ctx); err != nil {
				return nil, err
			}
		}
		revision, count, next, err := t.write(ctx, s, puts)
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			s = next
			t.know(s)
			continue
		}
		at := make([]Position, len(puts))
		size := 0
		for i, p := range puts {
			at[i] = Position{s.Number, revision, p.place}
			size += len(p.value)
		}
		t.mu.Lock()
		if t.segment.revision == s.revision {
			t.bytes += size
		}
		t.mu.Unlock()
		t.tidy(ctx, s, count)
		return at, nil
	}
	return nil, errCrowded
}

// write puts messages into a segment, if it is current, and returns the revision, and how many it holds then, or 0 if that is not known. If it is
// not, the revision is 0, and next is the segment that is current; the zero one if there is none.
//
// It is sent again if its answer is lost. The first message's key then tells whether it was applied; and if the segment is not current
// any more, no copy that is still under way can be.
func (t *Topic[T]) write(ctx context.Context, s topicSegment, puts []topicPut) (revision, count int64, next topicSegment, err error) {
	first := t.keys.message(s.Number, puts[0].place)
	ops := make([]clientv3.Op, 0, len(puts)+1)
	for _, p := range puts {
		ops = append(ops, clientv3.OpPut(t.keys.message(s.Number, p.place), p.value))
	}
	ops = append(ops, clientv3.OpGet(t.keys.segment(s.Number), clientv3.WithPrefix(), clientv3.WithCountOnly()))
	var lost error // why an answer did not come
	resp, err := call.Do(ctx, t.client, "publish", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := t.client.KV.Txn(ctx).If(
			clientv3.Compare(clientv3.ModRevision(t.keys.current()), "=", s.revision),
			clientv3.Compare(clientv3.CreateRevision(first), "=", 0),
		).Then(ops...).Else(
			clientv3.OpGet(t.keys.current()), clientv3.OpGet(t.keys.floor()), clientv3.OpGet(first, clientv3.WithKeysOnly()),
		).Commit()
		if err != nil {
			lost = err
		}
		return resp, err
	})
	switch {
	case err != nil:
		return 0, 0, next, err
	case resp.Succeeded:
		return resp.Header.GetRevision(), resp.Responses[len(puts)].GetResponseRange().GetCount(), next, nil
	}
	answers := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().GetKvs() }
	if there := answers(2); len(there) > 0 {
		return there[0].ModRevision, 0, next, nil
	}
	floor, err := parseFloor(answers(1))
	if err != nil {
		return 0, 0, next, err
	}
	if lost != nil && floor.Segment > s.Number {
		return 0, 0, next, fmt.Errorf("publish: the segment that it may have gone to is trimmed already: %w", lost)
	}
	next, err = parseSegment(answers(0))
	return 0, 0, next, err
}
