package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// youngHistory is how many revisions a cluster may have before it matters that none was compacted.
	youngHistory = 1000

	// longHistory is how many revisions of history are more than any watch or rollback needs.
	longHistory = 1_000_000

	// oldCompaction is for how long a cluster that has been compacted should not go without: auto-compaction keeps a day at most, usually.
	oldCompaction = 48 * time.Hour
)

const compactRemedy = "Start all members with --auto-compaction-mode=periodic --auto-compaction-retention=1h (or mode revision, retention 10000)."

// past is what is known of a cluster's history.
type past struct {
	current int64     // the newest revision
	oldest  int64     // the oldest that can be read, as one that was compacted shows; 0 if none was
	last    time.Time // of the last compaction; zero if no member has seen one since it started
	how     string    // ... oldest was found out
}

// lookBack finds out how old the history is: members' metrics tell, or questions for old revisions.
func lookBack(ctx context.Context, p *Patient, alive []*site) (past, error) {
	h := past{}
	for _, s := range alive {
		h.current = max(h.current, s.status.Header.Revision)
		g, err := scrape(ctx, p, s)
		if err != nil {
			continue
		}
		if v, ok := g.value("etcd_debugging_mvcc_compact_revision"); ok {
			h.oldest, h.how = max(h.oldest, int64(v)), "etcd_debugging_mvcc_compact_revision" // -1 before the first
		}
		if v, ok := g.value("etcd_debugging_mvcc_db_compaction_last"); ok && v > 0 {
			if at := time.Unix(int64(v), 0); at.After(h.last) {
				h.last = at
			}
		}
	}
	if h.how != "" {
		return h, nil
	}
	var asked int
	var err error
	h.oldest, err = oldestReadable(ctx, h.current, func(ctx context.Context, rev int64) error {
		asked++
		_, err := p.Privileged().Get(ctx, ownPrefix, clientv3.WithRev(rev), clientv3.WithSerializable(), clientv3.WithCountOnly())
		return err
	})
	h.how = fmt.Sprintf("%d questions for old revisions", asked)
	return h, err
}

// oldestReadable is the revision up to which history is compacted, found by bisection: below it whoever reads is told so. It is 0 if
// there is none. Each question is for one key, and costs as much as any read of one.
func oldestReadable(ctx context.Context, current int64, read func(ctx context.Context, rev int64) error) (int64, error) {
	readable := func(rev int64) (bool, error) {
		err := read(ctx, rev)
		if errors.Is(retry.EtcdError(err), rpctypes.ErrCompacted) {
			return false, nil
		}
		return err == nil, err
	}
	if first, err := readable(1); err != nil || first {
		return 0, err
	}
	compacted, whole := int64(1), current
	for whole-compacted > 1 {
		mid := compacted + (whole-compacted)/2
		switch ok, err := readable(mid); {
		case err != nil:
			return 0, err
		case ok:
			whole = mid
		default:
			compacted = mid
		}
	}
	return whole, nil
}

// finding judges the history.
func (h past) finding() Finding {
	kept := h.current - max(h.oldest, 1)
	f := Finding{Subject: "compaction of history", Evidence: []string{
		fmt.Sprintf("revisions %d to %d can be read: %s of history (%s)", max(h.oldest, 1), h.current, revisions(kept), h.how),
	}}
	if !h.last.IsZero() {
		f.Evidence = append(f.Evidence, "last compaction "+cli.Ago(h.last))
	}
	switch {
	case h.oldest <= 0 && h.current <= youngHistory:
		f.Verdict, f.Reason = Skipped, "nothing was ever compacted, and the cluster is too young to say that nothing will be"
		f.Remedy = compactRemedy + " Examine again when the retention is over."
	case h.oldest <= 0:
		f.Verdict, f.Reason = Fail, "nothing was ever compacted: the database grows with every write until it is full"
		f.Remedy = compactRemedy + " If they were, and the first retention is not over, examine again when it is."
	case kept > longHistory:
		f.Verdict, f.Reason, f.Remedy = Warn, "the history is long: it takes disk, memory and time after a restart", compactRemedy
	case !h.last.IsZero() && time.Since(h.last) > oldCompaction && kept > youngHistory:
		f.Verdict, f.Reason, f.Remedy = Warn, "compaction seems to have stopped", compactRemedy
	default:
		f.Verdict, f.Reason = OK, "old revisions are compacted"
	}
	return f
}

func revisions(n int64) string { return cli.Plural(int(n), "revision", "revisions") }
