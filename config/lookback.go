package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// Entry is a key as it was at a revision.
type Entry struct {
	Key      string
	Value    []byte // not in what Keys returns
	Revision int64  // at which it was last written
	Created  int64  // revision at which it was created
	Writes   int64  // how often it was written since, as etcd counts
}

// Listing is the keys below a prefix, as of one revision, in the order of their names.
type Listing struct {
	Revision int64
	Entries  []Entry
}

// CompactedError says that etcd does not have a revision any more.
type CompactedError struct {
	Revision int64 // that was asked for
	Oldest   int64 // that can be read; 0 if that could not be found out
}

// Error names both.
func (e *CompactedError) Error() string {
	if e.Oldest == 0 {
		return fmt.Sprintf("config: revision %d was compacted", e.Revision)
	}
	return fmt.Sprintf("config: revision %d was compacted, the oldest that can be read is %d", e.Revision, e.Oldest)
}

// Unwrap makes it etcd's own error.
func (e *CompactedError) Unwrap() error { return rpctypes.ErrCompacted }

// At returns the keys below a prefix as they were at one revision; 0 is the newest. The empty prefix is the environment.
//
// A revision that was compacted is a *[CompactedError], one that etcd has not reached rpctypes.ErrFutureRev.
func (s *Store) At(ctx context.Context, prefix string, revision int64) (Listing, error) {
	below, err := s.prefix(prefix)
	if err == nil && revision < 0 {
		err = errors.New("config: a revision must be positive, or 0 for the newest")
	}
	if err != nil {
		return Listing{}, err
	}
	return s.list(ctx, below, revision)
}

// Keys is as At of the newest revision, without the values.
func (s *Store) Keys(ctx context.Context, prefix string) (Listing, error) {
	below, err := s.prefix(prefix)
	if err != nil {
		return Listing{}, err
	}
	return s.list(ctx, below, 0, clientv3.WithKeysOnly())
}

// Bounds of a page: keys, and how many bytes of values should come at once.
const (
	firstPage = 100
	mostPage  = 5000
	fewBytes  = 1 << 20
	manyBytes = 8 << 20
)

// list reads the keys below a prefix at one revision, page by page.
func (s *Store) list(ctx context.Context, below string, revision int64, opts ...clientv3.OpOption) (Listing, error) {
	newest := revision == 0
	l := Listing{Revision: revision}
	from, end, limit := below, clientv3.GetPrefixRangeEnd(below), int64(firstPage)
	for {
		page, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.KV.Get(ctx, from, append(slices.Clip(opts),
				clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(l.Revision))...)
		})
		switch {
		case errors.Is(err, rpctypes.ErrCompacted) && newest:
			return s.list(ctx, below, 0, opts...) // while it was being read; then another one is the newest
		case errors.Is(err, rpctypes.ErrCompacted):
			return Listing{}, &CompactedError{Revision: revision, Oldest: s.oldest(ctx, below, revision)}
		case errors.Is(err, rpctypes.ErrFutureRev):
			return Listing{}, fmt.Errorf("config: revision %d is not there yet: %w", revision, err)
		case err != nil:
			return Listing{}, fmt.Errorf("config: keys below %q: %w", below, err)
		}
		if l.Revision == 0 {
			l.Revision = page.Header.GetRevision()
		}
		size := 0
		for _, kv := range page.Kvs {
			size += len(kv.Value)
			l.Entries = append(l.Entries, entryOfKey(kv))
		}
		if !page.More || len(page.Kvs) == 0 {
			return l, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		switch {
		case size < fewBytes:
			limit = min(2*limit, mostPage)
		case size > manyBytes:
			limit = max(limit/4, 1)
		}
	}
}

func entryOfKey(kv *mvccpb.KeyValue) Entry {
	return Entry{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Created: kv.CreateRevision, Writes: kv.Version}
}

// oldest is the oldest revision that etcd has; 0 if it does not say. A read of a compacted revision is refused without a word about which could
// be read. A watch is told.
func (s *Store) oldest(ctx context.Context, below string, compacted int64) int64 {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), 3*time.Second)
	defer cancel()
	for resp := range s.client.Watch(ctx, below, clientv3.WithPrefix(), clientv3.WithRev(compacted)) {
		return resp.CompactRevision
	}
	return 0
}
