package follow

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// checkEvery is how often a small view is compared with etcd.
	checkEvery = time.Minute

	// checkSoon is within how long it is compared after a change of leader.
	checkSoon = 5 * time.Second

	// checkPerKey is added a key: counting a range is work for the server in proportion to its size.
	checkPerKey = 10 * time.Millisecond
)

// truthCheck compares a view with etcd now and then, at the view's own revision: the number of keys, and every key that was
// written since the last check. By induction the view is equal to etcd, and not merely likely to be. Servers have lost
// events before (etcd#18089, etcd#19179), and a restored backup that has caught up with the view's revision shows in no
// header.
type truthCheck struct {
	rng     Range
	since   int64 // the view is known to be right up to this revision
	timer   *time.Timer
	verdict chan verdict // of the check that runs
	running bool
	doubt   doubt // that came while a check ran
	cancel  context.CancelFunc
}

// verdict is what a check found: an error if the view is wrong, and else the revision up to which it is right, or
// 0 if nothing could be learned.
type verdict struct {
	err   error
	right int64
}

// newTruthCheck arms the check of a view of size keys that was read at a revision. A view of several single keys without
// order, which nobody keeps for long, is not checked; nor is a tail, which has nothing to compare.
func newTruthCheck(rng Range, size int, read int64) *truthCheck {
	t := &truthCheck{rng: rng, verdict: make(chan verdict, 1), cancel: func() {}, since: read}
	if rng.ordered() && !rng.tail {
		t.arm(size)
	}
	return t
}

// due fires when it is time for a check.
func (t *truthCheck) due() <-chan time.Time {
	if t.timer == nil {
		return nil
	}
	return t.timer.C
}

// arm sets the time of the next check, after none or after the last one's verdict.
func (t *truthCheck) arm(size int) {
	t.cancel()
	t.running = false
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer = time.NewTimer(checkEvery + time.Duration(size)*checkPerKey)
}

// hurry has the view checked sooner if there is doubt: at once, or after a while that spreads the checks of all who
// share the doubt. Of another past nothing is known to be right, so all of it is checked. A view that has no check is read
// again, if the doubt is grave.
func (t *truthCheck) hurry(d doubt, size int) error {
	switch {
	case d == none:
	case t.timer == nil && d == grave:
		return errDiverged
	case t.timer == nil:
	case t.running:
		t.doubt = max(t.doubt, d) // it may have been answered before there was doubt
	case d == grave:
		t.since = 0
		t.timer.Reset(0)
	default:
		t.since = 0
		most := checkSoon + time.Duration(size)*checkPerKey
		t.timer.Reset(rand.N(most))
	}
	return nil
}

// stop ends the checking, and waits for a check that runs.
func (t *truthCheck) stop() {
	t.cancel()
	if t.running {
		<-t.verdict // whatever it is: the view is given up already
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// settle takes in a verdict.
func (t *truthCheck) settle(found verdict, size int) error {
	t.since = max(t.since, found.right)
	t.arm(size)
	if found.err != nil {
		return found.err
	}
	d := t.doubt
	t.doubt = none
	return t.hurry(d, size)
}

// start compares the content, which is that of revision, with etcd; the answer comes on verdict.
func (t *truthCheck) start(ctx context.Context, client *clientv3.Client, revision int64, content entries) {
	count := int64(len(content))
	written := map[string]int64{} // what was written since, and at which revision
	for key, kv := range content {
		if kv.ModRevision > t.since {
			written[key] = kv.ModRevision
		}
	}
	t.running = true
	ctx, t.cancel = context.WithCancel(ctx)
	opts := []clientv3.OpOption{clientv3.WithKeysOnly(), clientv3.WithRev(revision), clientv3.WithMinModRev(t.since + 1)}
	go func() {
		there, read, err := compare(ctx, client, t.rng, opts...)
		switch {
		case call.RevisionAhead(err):
			t.verdict <- verdict{err: errWentBack}
		case errors.Is(err, rpctypes.ErrPermissionDenied):
			t.verdict <- verdict{err: err} // etcd goes on serving the watch, but not a new one
		case err != nil:
			t.verdict <- verdict{}
		case there != count || !agree(read, written):
			t.verdict <- verdict{err: errDiverged}
		default:
			t.verdict <- verdict{right: revision}
		}
	}()
}

// compare returns how many keys there are in a range and those among them that options choose, which name a revision.
func compare(ctx context.Context, client *clientv3.Client, rng Range, opts ...clientv3.OpOption) (int64, []*Entry, error) {
	if rng.size() == 1 {
		key := rng.sorted()[0]
		resp, err := call.Do(ctx, client, "check", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, key, slices.Concat(rng.spans()[key], opts)...)
		})
		if err != nil {
			return 0, nil, err
		}
		return resp.Count, resp.Kvs, nil
	}
	var (
		count int64
		read  []*Entry
	)
	for parts := range slices.Chunk(rng.sorted(), mostRanges) {
		resp, err := together(ctx, client, "check", rng, parts, opts...)
		if err != nil {
			return 0, nil, err
		}
		for _, part := range resp.Responses {
			count += part.GetResponseRange().GetCount()
			read = append(read, part.GetResponseRange().GetKvs()...)
		}
	}
	return count, read, nil
}

// agree reports whether exactly the keys in want were read, each with the revision that it has there.
func agree(read []*Entry, want map[string]int64) bool {
	if len(read) != len(want) {
		return false
	}
	for _, kv := range read {
		if want[string(kv.Key)] != kv.ModRevision {
			return false
		}
	}
	return true
}
