package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
)

// comparedReports is how many reports are compared one by one when a rollout goes on: etcd takes 128 comparisons.
const comparedReports = 100

// amend writes a rollout's record over one of a revision, if cmps hold, and does ops with it. It returns the revision of that; or
// ErrConflict, also if it was written and the answer was lost: a write changes the revision that it compares, so one that is sent again is
// refused. Where the rollout stands then tells whoever wanted it to stand there.
func (s *Store) amend(
	ctx context.Context, l layout, rec *record, over int64, cmps []clientv3.Cmp, ops ...clientv3.Op,
) (int64, error) {
	rec.Changed = time.Now().UTC().Truncate(time.Millisecond)
	text, err := marshal(rec)
	if err != nil {
		return 0, err
	}
	cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(l.plan()), "=", over))
	ops = append(ops, clientv3.OpPut(l.plan(), string(text)))
	resp, err := call.Do(ctx, s.client, "write", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.KV.Txn(ctx).If(cmps...).Then(ops...).Commit()
	})
	if err != nil {
		return 0, fmt.Errorf("config %q: %w", l.key, err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("config %q: %w", l.key, ErrConflict)
	}
	return resp.Header.GetRevision(), nil
}

// finish ends a rollout as it was read: with its value as the key's next version, or as one that was taken back. A candidate of nil is one
// that cannot be read.
func (r *Rollout) finish(ctx context.Context, g *ledger, state RolloutState, cause string, candidate []byte, cmps []clientv3.Cmp) error {
	rec := *g.plan
	rec.State, rec.Cause, rec.Applied = state, cause, nil // of use only while it is under way
	rec.Changed = time.Now().UTC().Truncate(time.Millisecond)
	text, err := marshal(&rec)
	if err != nil {
		return err
	}
	v := Version{Kind: RolledOut, Author: rec.Author, Reason: rec.Reason, Rollout: r.id, Value: candidate}
	if state == Aborted {
		v.Kind, v.Reason = TakenBack, cause
		if candidate == nil || len(candidate) > MaxPublished {
			v.Value, v.Omitted = nil, true
		}
	}
	_, err = r.store.write(ctx, r.layout, g, entry{
		version: v, keep: state == Aborted, cmps: cmps,
		ops: []clientv3.Op{clientv3.OpPut(r.layout.plan(), string(text)), clientv3.OpDelete(r.layout.candidate())},
	})
	return err
}

// take takes the rollout back, wherever it stands. It returns ErrConflict if others were faster with anything, and if the cause is not so.
func (r *Rollout) take(ctx context.Context, cause string) error {
	g, err := r.store.read(ctx, r.layout)
	switch {
	case err != nil:
		return err
	case g.plan == nil || g.plan.ID != r.id || g.plan.State.Ended(), cause == causeKeyChanged && g.revisionOf() == g.plan.Base:
		return fmt.Errorf("config %q: %w", r.layout.key, ErrConflict)
	}
	candidate, _, err := r.store.candidate(ctx, r.layout)
	if err != nil {
		return err
	}
	return r.finish(ctx, g, Aborted, brief(cause), candidate, nil)
}

// proven is what must hold in the moment in which a rollout goes on by what was seen of it: the key, the value and the instances' reports
// are what they were. A driver that was frozen between its decision and the write is refused, whatever was reported meanwhile:
// a new report, or one that changed, is newer than what was seen; that of an instance that died is not as it was. Of the latter, only so
// many are compared.
func (l layout) proven(base, candidate, seen int64, members []Report) []clientv3.Cmp {
	cmps := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(l.key), "=", base),
		clientv3.Compare(clientv3.ModRevision(l.candidate()), "=", candidate),
		clientv3.Compare(clientv3.ModRevision(l.reports()), "<", seen+1).WithPrefix(),
	}
	for _, m := range members[:min(len(members), comparedReports)] {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(l.report(m.Instance)), "=", m.seen))
	}
	return cmps
}

// stand is a rollout, its value's revision, and all reports, as of one revision.
type stand struct {
	plan        *record // nil if there is none
	planAt      int64
	candidate   []byte
	candidateAt int64 // 0 if it is not there
	reports     []Report
	revision    int64
}

// stand reads where a key's rollout stands.
func (s *Store) stand(ctx context.Context, l layout) (*stand, error) {
	resp, err := s.txn(ctx, []clientv3.Op{
		clientv3.OpGet(l.plan()), clientv3.OpGet(l.candidate()), clientv3.OpGet(l.reports(), clientv3.WithPrefix()),
	})
	if err != nil {
		return nil, fmt.Errorf("config %q: %w", l.key, err)
	}
	at := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().GetKvs() }
	st := &stand{reports: readReports(l, at(2)), revision: resp.Header.GetRevision()}
	for _, kv := range at(0) {
		st.planAt = kv.ModRevision
		if st.plan, err = decodeRecord(kv.Value); err != nil {
			return nil, fmt.Errorf("config %q: %w", l.key, err)
		}
	}
	for _, kv := range at(1) {
		st.candidate, st.candidateAt = append([]byte{}, kv.Value...), kv.ModRevision
	}
	return st, nil
}

// candidate reads the value of a rollout; nil if there is none.
func (s *Store) candidate(ctx context.Context, l layout) ([]byte, int64, error) {
	resp, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.KV.Get(ctx, l.candidate())
	})
	if err != nil {
		return nil, 0, fmt.Errorf("config %q: %w", l.key, err)
	}
	for _, kv := range resp.Kvs {
		return append([]byte{}, kv.Value...), kv.ModRevision, nil
	}
	return nil, 0, nil
}

// outcome is how the rollout has ended, given the record that is there now: its own, another one's, or none.
func (r *Rollout) outcome(ctx context.Context, p *record) (RolloutState, error) {
	switch {
	case p != nil && p.ID == r.id && p.State == Promoted:
		return Promoted, nil
	case p != nil && p.ID == r.id && p.State == Aborted:
		return Aborted, fmt.Errorf("config %q: %w: %s", r.layout.key, ErrAborted, p.Cause)
	}
	// Others came after it. The history knows.
	versions, err := r.store.History(ctx, r.layout.key, 0)
	if err != nil {
		return "", err
	}
	for _, v := range versions {
		switch {
		case v.Rollout != r.id:
		case v.Kind == RolledOut:
			return Promoted, nil
		case v.Kind == TakenBack:
			return Aborted, fmt.Errorf("config %q: %w: %s", r.layout.key, ErrAborted, v.Reason)
		}
	}
	return "", fmt.Errorf("config %q: %w: its record is gone", r.layout.key, ErrNoRollout)
}

// brief makes a cause fit into a history.
func brief(cause string) string {
	cause = strings.ToValidUTF8(cause, "?")
	if len(cause) <= MaxReason {
		return cause
	}
	const cut = "..."
	return strings.ToValidUTF8(cause[:MaxReason-len(cut)], "") + cut
}

func (s *Store) logRollout(r *Rollout, what string, more ...zap.Field) {
	if s.opts.Logger != nil {
		s.opts.Logger.Info(what, append([]zap.Field{zap.String("key", r.layout.key), zap.String("rollout", r.id)}, more...)...)
	}
}

// overtaken reports whether an error says that others were faster.
func overtaken(err error) bool { return errors.Is(err, ErrConflict) }
