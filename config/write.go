package config

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// entry is a version that is about to be.
type entry struct {
	version Version // what it is to say; Key, Number, Revision and Time are filled in when it is written
	keep    bool    // leave the key as it is; else it is put, or deleted if the version has no value

	cmps []clientv3.Cmp // more that must hold; what does not hold any more must not come to hold again
	ops  []clientv3.Op  // more to do in the same transaction
}

// draft is an entry for a key as it was read.
type draft struct {
	layout layout
	ledger *ledger
	entry  entry
}

// write makes the next version of a key, if the key, its head and its plan are as they were read and e.cmps hold; else it returns
// ErrConflict. Replies that are lost are resolved; where that cannot be done the error is one that retry.Ambiguous reports.
func (s *Store) write(ctx context.Context, l layout, g *ledger, e entry) (Version, error) {
	vs, err := s.commit(ctx, []draft{{l, g, e}})
	if err != nil {
		return Version{}, err
	}
	return vs[0], nil
}

// commit makes the next versions of several keys in one transaction: all, or none.
func (s *Store) commit(ctx context.Context, drafts []draft) ([]Version, error) {
	var (
		w        = writing{id: rand.Text(), now: time.Now().UTC().Truncate(time.Millisecond), keep: int64(s.opts.Keep)}
		versions = make([]Version, len(drafts))
		err      error
	)
	for i, d := range drafts {
		if versions[i], err = w.add(d); err != nil {
			return nil, err
		}
	}
	// The answer of a probe is final if something that was compared has changed for good, so that a request which may still be under way
	// can do nothing any more.
	final := false
	res, err := retry.Commit(ctx, s.client.KV, w.cmps, w.ops, func(ctx context.Context) (retry.Outcome, int64, error) {
		outcome, revision, moved, err := s.probe(ctx, drafts[0], w)
		final = moved && outcome == retry.NotApplied
		return outcome, revision, err
	})
	key := drafts[0].layout.key
	switch {
	case res.Outcome == retry.Applied:
		for i := range versions {
			if versions[i].Kind != Outside {
				versions[i].Revision = res.Revision
			}
		}
		return versions, nil
	case err == nil || final:
		return nil, fmt.Errorf("config %q: %w", key, ErrConflict)
	}
	return nil, fmt.Errorf("config %q: write: %w", key, call.Explain(ctx, s.client, err))
}

// writing is a transaction that is being made.
type writing struct {
	id   string // of the write, by which it is told from that of somebody else
	now  time.Time
	keep int64 // how many versions; negative is all

	cmps []clientv3.Cmp
	ops  []clientv3.Op
}

// add adds a key's next version.
func (w *writing) add(d draft) (Version, error) {
	l, g, v := d.layout, d.ledger, d.entry.version
	if v.Key, v.Number = l.key, g.head.Version+1; v.Number > maxVersion {
		return v, fmt.Errorf("config %q: its head in etcd is %w", l.key, errMalformed)
	}
	if v.Kind != Outside {
		v.Time = w.now
	}
	next := head{Version: v.Number, Oldest: max(1, g.head.Oldest), Current: v.Number}
	var change []clientv3.Op
	switch seen := markOf(g.value); {
	case d.entry.keep:
		next.know(seen)
		if v.Kind == TakenBack {
			next.Current = g.head.Current
		}
	case v.Value == nil:
		change = append(change, clientv3.OpDelete(l.key))
	default:
		change = append(change, clientv3.OpPut(l.key, string(v.Value)))
		next.know(mark{writes: seen.writes + 1, created: seen.created})
	}
	// The version that the key holds is kept, whatever comes after it.
	if w.keep > 0 {
		oldest := v.Number - w.keep + 1
		if next.Current > 0 {
			oldest = min(oldest, next.Current)
		}
		if oldest > next.Oldest {
			next.Oldest = oldest
			change = append(change, clientv3.OpDelete(l.histories(), clientv3.WithRange(l.history(oldest))))
		}
	}
	noted, err := encodeVersion(v, w.id)
	if err != nil {
		return v, err
	}
	standing, err := marshal(next)
	if err != nil {
		return v, err
	}
	// The head comes first: it is what a request that is sent again is refused by.
	w.cmps = append(w.cmps,
		clientv3.Compare(clientv3.ModRevision(l.head()), "=", g.headRevision),
		clientv3.Compare(clientv3.ModRevision(l.key), "=", g.revisionOf()))
	if v.Kind != Outside { // which leaves to a rollout what is its own
		w.cmps = append(w.cmps, clientv3.Compare(clientv3.ModRevision(l.plan()), "=", g.planRevision))
	}
	w.cmps = append(w.cmps, d.entry.cmps...)
	w.ops = append(w.ops, clientv3.OpPut(l.head(), string(standing)), clientv3.OpPut(l.history(v.Number), noted))
	w.ops = append(w.ops, change...)
	w.ops = append(w.ops, d.entry.ops...)
	return v, nil
}

// probe finds out whether a write has been applied, by the entry of the history that only one write can have made. It also tells whether
// anything that the write compared has moved on since it was read.
func (s *Store) probe(ctx context.Context, first draft, w writing) (outcome retry.Outcome, revision int64, moved bool, err error) {
	l, number := first.layout, first.ledger.head.Version+1
	gets := []clientv3.Op{clientv3.OpGet(l.head()), clientv3.OpGet(l.history(number))}
	resp, err := s.client.KV.Txn(ctx).If(w.cmps...).Then(gets...).Else(gets...).Commit()
	if err != nil {
		return retry.Unknown, 0, false, err
	}
	moved = !resp.Succeeded
	var now head
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		if now, err = decodeHead(l.key, kvs[0].Value); err != nil {
			return retry.Unknown, 0, moved, err
		}
	}
	if kvs := resp.Responses[1].GetResponseRange().GetKvs(); len(kvs) > 0 {
		if _, of := decodeVersion(l.key, number, kvs[0]); of == w.id {
			return retry.Applied, kvs[0].ModRevision, moved, nil
		}
		return retry.NotApplied, 0, moved, nil
	}
	if now.Version >= number {
		return retry.Unknown, 0, moved, errForgotten
	}
	return retry.NotApplied, 0, moved, nil
}

var errForgotten = errors.New("so much was written since that the history does not go back to it")

// Bounds of one transaction, in bytes: what etcd takes is 1.5 MiB, and one key of the largest kind always fits.
const (
	maxTxn  = 1400 << 10
	perKey  = 16 << 10 // names, eleven times MaxKey, and what people say, escaped
	perMeta = 1 << 10
)

// fitting is how many of the drafts, at least one, go into one transaction.
func fitting(drafts []draft) int {
	size := 0
	for i, d := range drafts {
		copies := 2
		if d.entry.keep {
			copies = 1
		}
		l := d.layout
		size += copies*len(d.entry.version.Value) + 11*len(l.history(0)) + perMeta +
			6*(len(d.entry.version.Author)+len(d.entry.version.Reason))
		if i > 0 && (size > maxTxn || i == perTxn) {
			return i
		}
	}
	return len(drafts)
}

// contend does what others may come before, until they do not, ctx ends, or it has been tried often enough: at random times, further and
// further apart. Each round of those who contend for a key has one who wins it.
func contend(ctx context.Context, fn func(ctx context.Context) (again bool, err error)) error {
	var last error
	err := retry.Do(ctx, retry.Policy{
		MaxAttempts: 100, MaxElapsed: -1, AttemptTimeout: -1, Initial: 4 * time.Millisecond, Max: 250 * time.Millisecond,
		Retryable: func(error) bool { return true },
	}, func(ctx context.Context) error {
		again, err := fn(ctx)
		if again {
			return err
		}
		last = err // as it is, whatever it says of being tried again
		return nil
	})
	if err != nil {
		return err
	}
	return last
}
