package follow

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// firstPage is how many keys of a range are read at once; what is more is streamed, or comes in pages of nextPages.
	firstPage = 100
	nextPages = 1000

	// mostRanges is how many ranges are read in one transaction: more operations etcd does not take, unless it is told to.
	mostRanges = 128

	// chunkWithin bounds the wait for each further part of a long read.
	chunkWithin = 5 * time.Second
)

// reading is a range as it was at one revision.
type reading struct {
	sent     time.Time // before the request was
	entries  []*Entry
	revision int64
	cluster  uint64
}

// read reads a range, linearizably and at one revision.
func read(ctx context.Context, client *clientv3.Client, rng Range) (*reading, error) {
	r := &reading{sent: time.Now()}
	var err error
	if rng.tail {
		r.revision, r.cluster, err = present(ctx, client, rng)
	} else if rng.size() == 1 && len(rng.prefixes) == 1 {
		err = r.prefix(ctx, client, rng.prefixes[0])
	} else {
		err = r.several(ctx, client, rng)
	}
	return r, err
}

// present reads where etcd is, linearizably, and nothing of the range: only whether one key of it exists.
func present(ctx context.Context, client *clientv3.Client, rng Range) (revision int64, cluster uint64, err error) {
	resp, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, rng.sorted()[0], clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, 0, err
	}
	return resp.Header.GetRevision(), resp.Header.GetClusterId(), nil
}

// prefix reads a first page, and the rest, if there is one.
func (r *reading) prefix(ctx context.Context, client *clientv3.Client, prefix string) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	page, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, prefix, clientv3.WithRange(end), clientv3.WithLimit(firstPage))
	})
	if err != nil {
		return err
	}
	r.entries = append(r.entries, page.Kvs...)
	r.revision, r.cluster = page.Header.GetRevision(), page.Header.GetClusterId()
	if !page.More {
		return nil
	}
	return r.rest(ctx, client, page.Kvs, end)
}

// rest reads what follows a page, as a stream at the same revision.
func (r *reading) rest(ctx context.Context, client *clientv3.Client, page []*Entry, end string) error {
	for {
		from := string(page[len(page)-1].Key) + "\x00"
		rest, err := stream(ctx, client, from, clientv3.WithRange(end), clientv3.WithRev(r.revision))
		if err == nil {
			r.entries = append(r.entries, rest...)
			return nil
		}
		if status.Code(err) != codes.Unimplemented {
			return err
		}
		// A wrapper or a server that cannot stream.
		next, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(nextPages), clientv3.WithRev(r.revision))
		})
		if err != nil {
			return err
		}
		page = next.Kvs
		r.entries = append(r.entries, page...)
		if !next.More {
			return nil
		}
	}
}

// several reads single keys and the first pages of prefixes in one transaction, and then the rest of each prefix at its
// revision.
func (r *reading) several(ctx context.Context, client *clientv3.Client, rng Range) error {
	first := append(make([]clientv3.OpOption, 0, 2), clientv3.WithLimit(firstPage))
	for parts := range slices.Chunk(rng.sorted(), mostRanges) {
		if r.revision != 0 {
			first = append(first[:1], clientv3.WithRev(r.revision))
		}
		pages, err := together(ctx, client, "read", rng, parts, first...)
		if err != nil {
			return err
		}
		if r.revision == 0 {
			r.revision, r.cluster = pages.Header.GetRevision(), pages.Header.GetClusterId()
		}
		for i, part := range pages.Responses {
			page := part.GetResponseRange()
			r.entries = append(r.entries, page.GetKvs()...)
			if !page.GetMore() {
				continue
			}
			if err := r.rest(ctx, client, page.GetKvs(), clientv3.GetPrefixRangeEnd(parts[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

// together reads parts of a range in one transaction.
func together(
	ctx context.Context, client *clientv3.Client, what string, rng Range, parts []string, opts ...clientv3.OpOption,
) (*clientv3.TxnResponse, error) {
	spans := rng.spans()
	ops := make([]clientv3.Op, len(parts))
	for i, key := range parts {
		ops[i] = clientv3.OpGet(key, slices.Concat(spans[key], opts)...)
	}
	return call.Do(ctx, client, what, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return client.KV.Txn(ctx).Then(ops...).Commit()
	})
}

// stream reads a range that may be long, part by part. The parts end the wait, so there is no limit to the whole.
func stream(ctx context.Context, client *clientv3.Client, key string, opts ...clientv3.OpOption) ([]*Entry, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stuck := time.AfterFunc(chunkWithin, cancel)
	defer stuck.Stop()
	parts, err := client.KV.GetStream(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	var (
		entries []*Entry
		failed  error
	)
	for part := range parts { // to the end also after an error: client/v3's goroutine waits for its reader
		stuck.Reset(chunkWithin)
		if err := part.Err(); err != nil {
			failed = err
			continue
		}
		entries = append(entries, part.Kvs...)
	}
	return entries, failed
}
