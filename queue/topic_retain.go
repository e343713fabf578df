package queue

import (
	"context"
	"encoding/json"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// A segment is closed once it has so many messages, or a quarter of those that are to be kept if that is less, or so many bytes from
	// one publisher. What is under way meanwhile goes into it, too.
	mostInSegment  = 256
	leastInSegment = 16
	segmentBytes   = 1 << 20

	// perTidying is how many segments are trimmed at a time: that is twice as many as are filled meanwhile, and more.
	perTidying = 8

	// tidyWithin bounds the tidying after a publish, which has been done and whose caller waits.
	tidyWithin = 2 * time.Second
)

// lookup reads which segment is current and how many messages it has.
func (t *Topic[T]) lookup(ctx context.Context) (topicSegment, int64, error) {
	s, err := t.open(ctx)
	if err != nil {
		return s, 0, err
	}
	resp, err := call.Do(ctx, t.client, "read the current segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(
			clientv3.OpGet(t.keys.current()),
			clientv3.OpGet(t.keys.segment(s.Number), clientv3.WithPrefix(), clientv3.WithCountOnly()),
		).Commit()
	})
	if err != nil {
		return s, 0, err
	}
	now, err := parseSegment(resp.Responses[0].GetResponseRange().GetKvs())
	if err != nil || now.revision != s.revision {
		return now, 0, err
	}
	return s, resp.Responses[1].GetResponseRange().GetCount(), nil
}

// open reads which segment is current, and opens the first one if there is none.
func (t *Topic[T]) open(ctx context.Context) (topicSegment, error) {
	for range mostRefusals {
		resp, err := call.Do(ctx, t.client, "read the current segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return t.client.KV.Txn(ctx).Then(clientv3.OpGet(t.keys.current()), clientv3.OpGet(t.keys.floor())).Commit()
		})
		if err != nil {
			return topicSegment{}, err
		}
		s, err := parseSegment(resp.Responses[0].GetResponseRange().GetKvs())
		if err != nil {
			return s, err
		}
		if s.Number > 0 {
			t.know(s)
			return s, nil
		}
		floor, err := parseFloor(resp.Responses[1].GetResponseRange().GetKvs())
		if err != nil {
			return s, err
		}
		first := recordOf(topicSegment{Number: floor.Segment, Since: time.Now().UTC()})
		if _, err = call.Do(ctx, t.client, "open the first segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return t.client.KV.Txn(ctx).
				If(clientv3.Compare(clientv3.CreateRevision(t.keys.current()), "=", 0)).
				Then(clientv3.OpPut(t.keys.current(), first)).Commit()
		}); err != nil {
			return s, err
		}
	}
	return topicSegment{}, errCrowded
}

// know takes in which segment is current.
func (t *Topic[T]) know(s topicSegment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.segment.revision != s.revision {
		t.segment, t.bytes = s, 0
	}
}

// full reports whether a segment that holds count messages is to be closed.
func (t *Topic[T]) full(s topicSegment, count int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := int64(mostInSegment)
	if keep := int64(t.opts.KeepMessages); keep > 0 {
		most = min(most, max(leastInSegment, keep/4))
	}
	switch {
	case count == 0:
		return false // or not known
	case count >= most, t.segment.revision == s.revision && t.bytes >= segmentBytes:
		return true
	}
	return t.opts.KeepFor > 0 && time.Since(s.Since) >= t.opts.KeepFor/8
}

// tidy closes a segment if it is full and trims what is no longer to be kept. Others may do so at the same time. That it fails changes
// nothing but that messages are kept for longer: the next segment to be full is the next occasion.
func (t *Topic[T]) tidy(ctx context.Context, s topicSegment, count int64) {
	if !t.full(s, count) || !t.tidying.TryLock() {
		return
	}
	defer t.tidying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, tidyWithin)
	defer cancel()
	err := t.closeSegment(ctx, s, count)
	if err == nil {
		err = t.trim(ctx)
	}
	if err != nil && ctx.Err() == nil {
		t.log.Warn("messages of a topic are not trimmed", zap.Error(err))
	}
}

// closeSegment opens the segment after one that is current, unless it is not any more.
func (t *Topic[T]) closeSegment(ctx context.Context, s topicSegment, count int64) error {
	now := time.Now().UTC()
	next := topicSegment{Number: s.Number + 1, Since: now, Before: s.Before + count}
	resp, err := call.Do(ctx, t.client, "close a segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(t.keys.current()), "=", s.revision)).
			Then(
				clientv3.OpPut(t.keys.current(), recordOf(next)),
				clientv3.OpPut(t.keys.closed(s.Number), recordOf(topicClosed{Total: next.Before, Closed: now})),
			).
			Else(clientv3.OpGet(t.keys.current())).Commit()
	})
	if err != nil {
		return err
	}
	if resp.Succeeded {
		next.revision = resp.Header.GetRevision()
	} else if next, err = parseSegment(resp.Responses[0].GetResponseRange().GetKvs()); err != nil {
		return err
	}
	t.know(next)
	return nil
}

// trim deletes the oldest segments, one by one and a few at most, that are not to be kept.
func (t *Topic[T]) trim(ctx context.Context) error {
	if t.opts.KeepMessages < 0 && t.opts.KeepFor == 0 {
		return nil
	}
	resp, err := call.Do(ctx, t.client, "read what is kept", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(clientv3.OpGet(t.keys.current()), clientv3.OpGet(t.keys.floor())).Commit()
	})
	if err != nil {
		return err
	}
	current, err := parseSegment(resp.Responses[0].GetResponseRange().GetKvs())
	if err != nil {
		return err
	}
	floor, err := parseFloor(resp.Responses[1].GetResponseRange().GetKvs())
	if err != nil {
		return err
	}
	for n := 0; n < perTidying && floor.Segment < current.Number; n++ {
		trimmed, err := t.trimSegment(ctx, current, &floor)
		if err != nil || !trimmed {
			return err
		}
	}
	return nil
}

// trimSegment deletes the segment that is the first one kept, which is closed, if it is not to be kept any more, and moves the floor. It
// reports whether it has done so: others may have come before.
func (t *Topic[T]) trimSegment(ctx context.Context, current topicSegment, floor *topicFloor) (bool, error) {
	n := floor.Segment
	// Keys only, and no more than a segment's. They do not change any more.
	resp, err := call.Do(ctx, t.client, "read a closed segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(
			clientv3.OpGet(t.keys.closed(n)),
			clientv3.OpGet(t.keys.segment(n), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		).Commit()
	})
	if err != nil {
		return false, err
	}
	closed, ok := parseClosed(resp.Responses[0].GetResponseRange().GetKvs())
	if ok && t.keeps(current, closed) {
		return false, nil
	}
	next := topicFloor{Segment: n + 1, Of: floor.Of, Revision: floor.Revision, Place: floor.Place}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		if at, ok := t.keys.parse(kv); ok && compareMessages(next.last(), at) < 0 {
			next.Of, next.Revision, next.Place = at.segment, at.revision, at.place
		}
	}
	done, err := call.Do(ctx, t.client, "trim a segment", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(t.keys.floor()), "=", floor.revision)).
			Then(
				clientv3.OpPut(t.keys.floor(), recordOf(next)),
				clientv3.OpDelete(t.keys.segment(n), clientv3.WithPrefix()),
				clientv3.OpDelete(t.keys.closed(n)),
			).Commit()
	})
	if err != nil || !done.Succeeded {
		return false, err
	}
	next.revision = done.Header.GetRevision()
	*floor = next
	return true, nil
}

// keeps reports whether the messages of a closed segment are to be kept.
func (t *Topic[T]) keeps(current topicSegment, closed topicClosed) bool {
	if t.opts.KeepMessages > 0 && current.Before-closed.Total >= int64(t.opts.KeepMessages) {
		return false
	}
	return t.opts.KeepFor == 0 || time.Since(closed.Closed) < t.opts.KeepFor
}

// parseClosed reads what is known of a closed segment; of one that somebody has meddled with nothing, and it goes.
func parseClosed(kvs []*mvccpb.KeyValue) (topicClosed, bool) {
	var c topicClosed
	if len(kvs) == 0 || json.Unmarshal(kvs[0].Value, &c) != nil {
		return topicClosed{}, false
	}
	return c, true
}
