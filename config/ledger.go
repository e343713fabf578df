package config

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// ledger is all there is to know of a key before it is written, as of one revision.
type ledger struct {
	value        *mvccpb.KeyValue // nil: the key does not exist
	head         head
	headRevision int64 // ModRevision of the head; 0: there is none
	plan         *record
	planRevision int64 // 0: there is none
	planErr      error // why there is no plan at another revision
	revision     int64 // as of which all this is so

	// outside is the version that the key has become by other means and that is not in the history yet; nil if there is none. read
	// enters it, so there is none in what it returns.
	outside *Version
}

// revisionOf is the revision of the value; 0 if there is none.
func (g *ledger) revisionOf() int64 { return markOf(g.value).revision }

// rollout returns ErrRollout if a rollout is under way.
func (g *ledger) rollout(key string) error {
	switch {
	case g.planErr != nil:
		return fmt.Errorf("config %q: %w, or not: %w", key, ErrRollout, g.planErr)
	case g.plan != nil && !g.plan.State.Ended():
		return fmt.Errorf("config %q: %w: %s, %s", key, ErrRollout, g.plan.ID, g.plan.State)
	}
	return nil
}

// perTxn is how many keys are read or written in one transaction: four operations each, and etcd takes 128.
const perTxn = 30

// peek reads keys as they are, in one transaction; at most perTxn.
func (s *Store) peek(ctx context.Context, ls ...layout) ([]*ledger, error) {
	const each = 4
	ops := make([]clientv3.Op, 0, each*len(ls))
	for _, l := range ls {
		ops = append(ops,
			clientv3.OpGet(l.key), clientv3.OpGet(l.head()), clientv3.OpGet(l.plan()),
			clientv3.OpGet(l.histories(), clientv3.WithPrefix(), clientv3.WithCountOnly()))
	}
	resp, err := s.txn(ctx, ops)
	if err != nil {
		return nil, fmt.Errorf("config %q: %w", ls[0].key, err)
	}
	at := func(i int) *mvccpb.KeyValue {
		if kvs := resp.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			return kvs[0]
		}
		return nil
	}
	gs := make([]*ledger, len(ls))
	for i, l := range ls {
		g := &ledger{value: at(each * i), revision: resp.Header.GetRevision()}
		if kv := at(each*i + 1); kv != nil {
			if g.head, err = decodeHead(l.key, kv.Value); err != nil {
				return nil, err
			}
			g.headRevision = kv.ModRevision
		}
		if kv := at(each*i + 2); kv != nil {
			g.plan, g.planErr = decodeRecord(kv.Value)
			g.planRevision = kv.ModRevision
		}
		lost := false
		if g.headRevision == 0 && resp.Responses[each*i+3].GetResponseRange().GetCount() > 0 {
			if err := s.recover(ctx, l, g); err != nil {
				return nil, err
			}
			lost = true
		}
		g.notice(l.key, lost)
		gs[i] = g
	}
	return gs, nil
}

// notice finds what has become of the key by other means.
func (g *ledger) notice(key string, lost bool) {
	known, seen := g.head.known(g.headRevision), markOf(g.value)
	if known.revision == seen.revision {
		return
	}
	v := &Version{
		Key: key, Number: g.head.Version + 1, Kind: Outside, Revision: seen.revision,
		Time: time.Now().UTC().Truncate(time.Millisecond), Missed: missed(known, seen),
	}
	switch {
	case g.value == nil:
		v.Revision = g.revision // somewhere before
	case len(g.value.Value) > MaxPublished:
		v.Omitted = true
	default:
		v.Value = append([]byte{}, g.value.Value...)
	}
	if lost {
		v.Missed = 0 // what is missing is not changes of others
	}
	g.outside = v
}

// recover finds out where a history stands whose head is gone: somebody has deleted it.
func (s *Store) recover(ctx context.Context, l layout, g *ledger) error {
	resp, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.KV.Get(ctx, l.histories(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	})
	if err != nil {
		return fmt.Errorf("config %q: %w", l.key, err)
	}
	for _, kv := range resp.Kvs {
		n, ok := l.number(string(kv.Key))
		if !ok {
			continue
		}
		if g.head.Oldest == 0 {
			g.head.Oldest = n
		}
		g.head.Version = n
	}
	return nil
}

// number is the number of the version whose entry a key is.
func (l layout) number(key string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimPrefix(key, l.histories()), 10, 64)
	return n, err == nil && n >= 1 && n <= maxVersion && l.history(n) == key
}

// read reads a key, and first enters what it has become by other means.
func (s *Store) read(ctx context.Context, l layout) (*ledger, error) {
	gs, err := s.readAll(ctx, l)
	if err != nil {
		return nil, err
	}
	return gs[0], nil
}

// readAll reads keys, at most perTxn, and first enters what they have become by other means. Who is overtaken by yet another such
// change gets ErrConflict, as from write.
func (s *Store) readAll(ctx context.Context, ls ...layout) ([]*ledger, error) {
	gs, err := s.peek(ctx, ls...)
	if err != nil {
		return nil, err
	}
	entered, err := s.enter(ctx, ls, gs)
	if err != nil || !entered {
		return gs, err
	}
	if gs, err = s.peek(ctx, ls...); err != nil {
		return nil, err
	}
	for i, g := range gs {
		if g.outside != nil {
			return nil, fmt.Errorf("config %q: %w meanwhile, by other means", ls[i].key, ErrConflict)
		}
	}
	return gs, nil
}

// look reads a key, and enters what it has become by other means if that can be done: who may only read, or meets an etcd
// that takes no writes, is told of it all the same.
func (s *Store) look(ctx context.Context, l layout) (*ledger, error) {
	gs, err := s.peek(ctx, l)
	if err != nil {
		return nil, err
	}
	g := gs[0]
	if g.outside == nil {
		return g, nil
	}
	if _, err := s.enter(ctx, []layout{l}, gs); err != nil && ctx.Err() != nil {
		return nil, err
	}
	// Also after a failure: somebody else may have entered it.
	if gs, err = s.peek(ctx, l); err != nil {
		return nil, err
	}
	return gs[0], nil
}

// enter writes to the history what keys have become by other means, and reports whether there was anything. It changes nothing else, so that
// whoever comes second finds it done.
func (s *Store) enter(ctx context.Context, ls []layout, gs []*ledger) (bool, error) {
	entered := false
	var drafts []draft
	for i, g := range gs {
		if g.outside != nil {
			drafts = append(drafts, draft{ls[i], g, entry{version: *g.outside, keep: true}})
		}
	}
	for len(drafts) > 0 {
		n := fitting(drafts)
		_, err := s.commit(ctx, drafts[:n])
		if err != nil && !errors.Is(err, ErrConflict) {
			return entered, err
		}
		entered = true
		drafts = drafts[n:]
	}
	return entered, nil
}
