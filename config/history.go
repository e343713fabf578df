package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// historyPage is how many versions are read at once: each may be as large as a value.
const historyPage = 16

// Get returns what the key holds, with the version that it is: an author, a reason and a time. A key that does not exist is
// [ErrAbsent]; the version is that of its deletion then, if there is one.
func (s *Store) Get(ctx context.Context, key string) (Version, error) {
	l, err := s.layout(key)
	if err != nil {
		return Version{}, err
	}
	return s.now(ctx, l)
}

// now is what a key holds, or its deletion with ErrAbsent.
func (s *Store) now(ctx context.Context, l layout) (v Version, err error) {
	err = contend(ctx, func(ctx context.Context) (again bool, err error) {
		g, err := s.look(ctx, l)
		if err != nil {
			return false, err
		}
		if v, err = s.current(ctx, l, g); err != nil {
			return errors.Is(err, ErrConflict), err
		}
		if g.value == nil {
			return false, fmt.Errorf("config %q: %w as of revision %d", l.key, ErrAbsent, g.revision)
		}
		return false, nil
	})
	return v, err
}

// History returns the versions of a key, newest first; at most limit, or all for 0.
//
// What the key has become by other means is entered first. Who may not write is told of it all the same, under the number that it will
// have, but it is not entered.
func (s *Store) History(ctx context.Context, key string, limit int) ([]Version, error) {
	l, err := s.layout(key)
	if err != nil {
		return nil, err
	}
	g, err := s.look(ctx, l)
	if err != nil {
		return nil, err
	}
	return s.versions(ctx, l, g, limit)
}

// versions are those of a key as it was read, newest first.
func (s *Store) versions(ctx context.Context, l layout, g *ledger, limit int) ([]Version, error) {
	var versions []Version
	first := int64(1)
	if limit > 0 {
		first = max(1, g.head.Version-int64(limit)+1)
	}
	from, end := l.history(first), l.history(g.head.Version+1)
	for from < end {
		page, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.KV.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(historyPage))
		})
		if err != nil {
			return nil, fmt.Errorf("config %q: %w", l.key, err)
		}
		for _, kv := range page.Kvs {
			if n, ok := l.number(string(kv.Key)); ok {
				v, _ := decodeVersion(l.key, n, kv)
				versions = append(versions, v)
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			break
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	if g.outside != nil {
		versions = append(versions, *g.outside)
	}
	slices.Reverse(versions)
	if limit > 0 && len(versions) > limit {
		versions = versions[:limit]
	}
	return versions, nil
}

// Version returns one version of a key; 0 is the one that the key holds. [ErrNoVersion] names the oldest that is kept.
func (s *Store) Version(ctx context.Context, key string, number int64) (Version, error) {
	l, err := s.layout(key)
	if err != nil {
		return Version{}, err
	}
	if number == 0 {
		return s.now(ctx, l)
	}
	g, err := s.look(ctx, l)
	if err != nil {
		return Version{}, err
	}
	return s.record(ctx, l, g, number)
}

// VersionAt returns the version that the key was at some time, by the clocks of those who wrote. What was written by other means counts
// from when it was noticed. [ErrNoVersion] names the oldest version that is kept.
func (s *Store) VersionAt(ctx context.Context, key string, at time.Time) (Version, error) {
	l, err := s.layout(key)
	if err != nil {
		return Version{}, err
	}
	g, err := s.look(ctx, l)
	if err != nil {
		return Version{}, err
	}
	versions, err := s.versions(ctx, l, g, 0)
	if err != nil {
		return Version{}, err
	}
	for _, v := range versions {
		if v.Kind != TakenBack && v.Kind != Malformed && !v.Time.After(at) {
			return v, nil
		}
	}
	if len(versions) == 0 {
		return Version{}, fmt.Errorf("config %q: %w: it has no history", key, ErrNoVersion)
	}
	oldest := versions[len(versions)-1]
	return Version{}, fmt.Errorf("config %q: %w at %v: the oldest that is kept is %d, of %v",
		key, ErrNoVersion, at.UTC().Format(time.RFC3339), oldest.Number, oldest.Time.Format(time.RFC3339))
}

// Diff returns what differs between two versions of a key; 0 is the one that the key holds. [ErrNoVersion] says which is not there.
func (s *Store) Diff(ctx context.Context, key string, a, b int64) (Diff, error) {
	x, err := s.side(ctx, key, a)
	if err != nil {
		return Diff{}, err
	}
	y, err := s.side(ctx, key, b)
	if err != nil {
		return Diff{}, err
	}
	for _, v := range []Version{x, y} {
		if v.Omitted || v.Kind == Malformed {
			return Diff{}, fmt.Errorf("config %q: %w: the value of version %d was not kept", key, ErrNoVersion, v.Number)
		}
	}
	d := DiffValues(x.Value, y.Value)
	x.Value, y.Value = nil, nil
	d.Key, d.A, d.B = key, x, y
	return d, nil
}

// side is a version to compare. A key that is gone has a version too: that it is gone.
func (s *Store) side(ctx context.Context, key string, number int64) (Version, error) {
	v, err := s.Version(ctx, key, number)
	if errors.Is(err, ErrAbsent) && v.Number > 0 {
		return v, nil
	}
	return v, err
}

// record is a version of a key as it was read.
func (s *Store) record(ctx context.Context, l layout, g *ledger, number int64) (Version, error) {
	if g.outside != nil && g.outside.Number == number {
		return *g.outside, nil
	}
	if number >= 1 && number <= g.head.Version {
		resp, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.KV.Get(ctx, l.history(number))
		})
		if err != nil {
			return Version{}, fmt.Errorf("config %q: %w", l.key, err)
		}
		if len(resp.Kvs) > 0 {
			v, _ := decodeVersion(l.key, number, resp.Kvs[0])
			return v, nil
		}
	}
	if g.head.Version == 0 {
		return Version{}, fmt.Errorf("config %q: %w: %d; it has no history", l.key, ErrNoVersion, number)
	}
	return Version{}, fmt.Errorf("config %q: %w: %d; the oldest that is kept is %d, the newest is %d",
		l.key, ErrNoVersion, number, g.head.Oldest, g.head.Version)
}

// current is the version that the key holds, as it was read: whatever became of the history, its value is that of the key. It is the zero
// Version for a key that never was. ErrConflict says that the key has changed since.
func (s *Store) current(ctx context.Context, l layout, g *ledger) (Version, error) {
	v := Version{Key: l.key, Number: g.head.Current, Revision: g.revisionOf(), Kind: Malformed}
	switch {
	case g.outside != nil:
		v = *g.outside
	case g.head.Current == 0 && g.value == nil:
		return Version{}, nil
	default:
		resp, err := s.txn(ctx, []clientv3.Op{
			clientv3.OpGet(l.history(g.head.Current)), clientv3.OpGet(l.head(), clientv3.WithKeysOnly()),
		})
		if err != nil {
			return Version{}, fmt.Errorf("config %q: %w", l.key, err)
		}
		kvs, heads := resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
		switch {
		case len(kvs) > 0:
			v, _ = decodeVersion(l.key, g.head.Current, kvs[0])
		case len(heads) == 0 || heads[0].ModRevision != g.headRevision:
			return Version{}, fmt.Errorf("config %q: %w meanwhile", l.key, ErrConflict)
		}
	}
	if g.value != nil {
		v.Value, v.Omitted = append([]byte{}, g.value.Value...), false
	}
	return v, nil
}
