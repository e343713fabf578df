package queue

import (
	"cmp"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// perPage is how many messages are read at once: more than there are in most segments.
const perPage = 2 * mostInSegment

// topicPage is a part of a topic at one revision of etcd's.
type topicPage struct {
	revision int64
	current  topicSegment
	floor    topicFloor
	messages []*mvccpb.KeyValue // of one segment, in order, from the revision of a position on
	more     bool               // there are more in the segment
}

// head is the segment that is current, or will be the first one.
func (p *topicPage) head() int64 { return cmp.Or(p.current.Number, p.floor.Segment) }

// parse takes in an answer.
func (p *topicPage) parse(resp *clientv3.TxnResponse) error {
	p.revision = resp.Header.GetRevision()
	var err error
	if p.current, err = parseSegment(resp.Responses[0].GetResponseRange().GetKvs()); err != nil {
		return err
	}
	p.floor, err = parseFloor(resp.Responses[1].GetResponseRange().GetKvs())
	return err
}

// holds reports whether the history that a page of a segment is of is the one that a position is of, which is not before the floor. What a
// position in another segment says of it was seen when that segment was read.
func (p *topicPage) holds(segment int64, at Position) bool {
	if at.revision > p.revision || at.segment > p.head() {
		return false
	}
	if at.place == "" || at.segment != segment || at.segment < p.floor.Segment {
		return true
	}
	return slices.ContainsFunc(p.messages, func(kv *mvccpb.KeyValue) bool {
		return kv.ModRevision == at.revision && hasPlace(kv.Key, at.place)
	})
}

func hasPlace(key []byte, place string) bool {
	return len(key) > len(place) && string(key[len(key)-len(place):]) == place && key[len(key)-len(place)-1] == '/'
}

// read reads a page of a segment, from the revision of a position on, for as long as ctx lasts.
func (t *Topic[T]) read(ctx context.Context, segment int64, at Position) (topicPage, error) {
	p, err := t.page(ctx, segment, at, perPage)
	if err != nil || !p.more {
		return p, err
	}
	// The last revision may have been cut: it is left to the next page.
	last := p.messages[len(p.messages)-1].ModRevision
	p.messages = slices.DeleteFunc(p.messages, func(kv *mvccpb.KeyValue) bool { return kv.ModRevision == last })
	if n := len(p.messages); n > 0 && p.messages[n-1].ModRevision > at.revision {
		return p, nil
	}
	return t.page(ctx, segment, at, 0) // there are transactions as long as pages
}

// page reads up to limit messages, or all.
func (t *Topic[T]) page(ctx context.Context, segment int64, at Position, limit int64) (topicPage, error) {
	resp, err := call.Persist(ctx, t.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(
			clientv3.OpGet(t.keys.current()),
			clientv3.OpGet(t.keys.floor()),
			// The segment is small: etcd looks at all of it, and returns what is wanted.
			clientv3.OpGet(t.keys.segment(segment), clientv3.WithPrefix(), clientv3.WithMinModRev(at.revision),
				clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend), clientv3.WithLimit(limit)),
		).Commit()
	})
	var p topicPage
	if err != nil {
		return p, call.Explain(ctx, t.client, err)
	}
	if err := p.parse(resp); err != nil {
		return p, err
	}
	r := resp.Responses[2].GetResponseRange()
	p.messages, p.more = r.GetKvs(), r.GetMore()
	slices.SortFunc(p.messages, func(a, b *mvccpb.KeyValue) int {
		return compareMessages(Position{0, a.ModRevision, string(a.Key)}, Position{0, b.ModRevision, string(b.Key)})
	})
	return p, nil
}
