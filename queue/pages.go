package queue

import (
	"context"
	"errors"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// Bounds of a page: keys, and how many bytes of values should come at once.
const (
	firstPage = 16
	mostPage  = 4096
	pageBytes = 2 << 20
)

// pages reads a range of keys in their order, with bounded memory. Each page costs etcd a count of all that is left: this is for people, and
// for what goes through all of it anyway.
//
// All is read at the revision of the first page, for as long as etcd has that; after a compaction, as it is then.
type pages struct {
	client   *clientv3.Client
	base     string // prefix of what is read
	from, to string // below it
	mirror   string // a prefix below which the keys of the same names are read too; "" for none
	keysOnly bool
	revision int64 // at which pages are read; 0 for the newest
	began    int64 // revision of the first page
	limit    int
	end      bool // there is no more
}

// below are the pages of all keys below a prefix.
func below(client *clientv3.Client, prefix string) *pages {
	from, to := prefixOf(prefix)
	return &pages{client: client, base: prefix, from: from, to: to, limit: firstPage}
}

// next reads a page of at most so many keys, and what there is below the mirror by the same names.
func (p *pages) next(ctx context.Context, what string, most int) (page []*mvccpb.KeyValue, beside map[string]string, err error) {
	limit := min(p.limit, most)
	opts := []clientv3.OpOption{clientv3.WithLimit(int64(limit)), clientv3.WithRev(p.revision)}
	if p.keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	ops := []clientv3.Op{clientv3.OpGet(p.from, append(opts, clientv3.WithRange(p.to))...)}
	if p.mirror != "" {
		// No more of them belong to the page than it has keys, and none that comes before one that does is of another.
		from, to := p.mirror+p.from[len(p.base):], clientv3.GetPrefixRangeEnd(p.mirror)
		ops = append(ops, clientv3.OpGet(from, append(opts, clientv3.WithRange(to))...))
	}
	resp, err := call.Do(ctx, p.client, what, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return p.client.KV.Txn(ctx).Then(ops...).Commit()
	})
	switch {
	case errors.Is(err, rpctypes.ErrCompacted) && p.revision > 0:
		p.revision = 0
		return p.next(ctx, what, most)
	case err != nil:
		return nil, nil, err
	}
	if p.began == 0 {
		p.began = resp.Header.GetRevision()
		p.revision = p.began
	}
	got := resp.Responses[0].GetResponseRange()
	page = got.GetKvs()
	if p.end = !got.GetMore() || len(page) == 0; len(page) > 0 {
		p.from = string(page[len(page)-1].Key) + "\x00"
	}
	size := 1
	for _, kv := range page {
		size += len(kv.Value)
	}
	p.limit = min(max(1, pageBytes*max(1, len(page))/size), 4*limit, mostPage)
	if p.mirror != "" {
		beside = map[string]string{}
		for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
			beside[string(kv.Key[len(p.mirror):])] = string(kv.Value)
		}
	}
	return page, beside, nil
}

// atMost is what n says of a listing: 0 is all.
func atMost(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return n
}
