package follow

import (
	"context"
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
	if rng.prefix == "" {
		err = r.keys(ctx, client, rng.keys)
	} else {
		err = r.prefix(ctx, client, rng.prefix)
	}
	return r, err
}

// prefix reads a first page, and the rest, if there is one, as a stream at the same revision.
func (r *reading) prefix(ctx context.Context, client *clientv3.Client, prefix string) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from, limit := prefix, int64(firstPage); ; {
		page, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(r.revision))
		})
		if err != nil {
			return err
		}
		r.entries = append(r.entries, page.Kvs...)
		if r.revision == 0 {
			r.revision, r.cluster = page.Header.GetRevision(), page.Header.GetClusterId()
		}
		if !page.More {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		rest, err := stream(ctx, client, from, clientv3.WithRange(end), clientv3.WithRev(r.revision))
		if err == nil {
			r.entries = append(r.entries, rest...)
			return nil
		}
		if status.Code(err) != codes.Unimplemented {
			return err
		}
		limit = nextPages // a wrapper or a server that cannot stream
	}
}

// keys reads single keys in one transaction.
func (r *reading) keys(ctx context.Context, client *clientv3.Client, keys []string) error {
	ops := make([]clientv3.Op, len(keys))
	for i, k := range keys {
		ops[i] = clientv3.OpGet(k)
	}
	resp, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return client.KV.Txn(ctx).Then(ops...).Commit()
	})
	if err != nil {
		return err
	}
	for _, part := range resp.Responses {
		r.entries = append(r.entries, part.GetResponseRange().GetKvs()...)
	}
	r.revision, r.cluster = resp.Header.GetRevision(), resp.Header.GetClusterId()
	return nil
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
