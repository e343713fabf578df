package follow_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// fill puts n keys under a prefix, a hundred in a revision.
func fill(t *testing.T, cli *clientv3.Client, prefix string, n int, opts ...clientv3.OpOption) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for k := i; k < min(i+100, n); k++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sk%05d", prefix, k), fmt.Sprint(k), opts...))
		}
		if _, err := cli.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// A range that is more than one page is read at one revision, whatever happens meanwhile: a page and then a stream or, through
// a wrapper that does not know that, page by page. Here changes are made before each part is read.
func TestALargeRangeIsReadAtOneRevision(t *testing.T) {
	t.Parallel()
	const keys = 2900
	for name, c := range map[string]struct {
		parts []string
		wrap  bool
	}{
		"streamed": {parts: []string{"Range", "RangeStream"}},
		"paged":    {parts: []string{"Range", "Range", "Range", "Range"}, wrap: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
			cli, calls := counted(etcdtest.Shared(t))
			if c.wrap {
				for _, cli := range []*clientv3.Client{oracle, cli} {
					cli.KV = namespace.NewKV(cli.KV, prefix)
					cli.Watcher = namespace.NewWatcher(cli.Watcher, prefix)
				}
				prefix = "within/"
			}
			truth := newChronicle(t, oracle, prefix)
			fill(t, oracle, prefix, keys)
			s := newScribbler(oracle, prefix, seeded(t))
			s.keys, s.name = 60, func(i int) string { return fmt.Sprintf("k%05d", i*keys/60) } // on all pages

			var parts []*etcdtest.Armed
			var release []chan struct{}
			for i, part := range c.parts {
				release = append(release, make(chan struct{}))
				parts = append(parts, calls.Inject(etcdtest.Fault{Call: part, Hold: release[i]}))
			}
			j := attach(t, cli, follow.Prefix(prefix))
			for i, part := range parts {
				etcdtest.Done(t, soon, fmt.Sprintf("part %d of the read", i), part.Hit())
				s.scribble(t, 5)
				close(release[i])
			}
			s.scribble(t, 5)
			j.holds(t, soon, oracle, prefix)
			j.compare(t, truth.under(t, prefix, s.rev))
			if one, many := calls.Count("Range"), calls.Count("RangeStream"); one+many > len(parts)+1 {
				t.Errorf("%d calls Range and %d RangeStream, want %v", one, many, c.parts)
			}
			if n := j.count(isStale); n != 0 {
				t.Errorf("%d interruptions, and nothing was done to the view", n)
			}
		})
	}
}

// All keys of a large range go in one revision. That is one change, and etcd's work on it does not keep it from answering the
// other views of the client: with WithFragment it would take ten seconds here, since etcd measures the response anew with every
// event that it adds to it.
func TestAMassDeletionIsOneChangeAndSilencesNobody(t *testing.T) {
	t.Parallel()
	const keys = 20_000 // in 2.7 MB, and etcd may send 2 MB whole
	c := etcdtest.New(t, nil)
	oracle, prefix := c.Oracle(0), "a/"+repeat(100)
	fill(t, oracle, prefix, keys)
	cli := c.Client()
	j, other := attach(t, cli, follow.Prefix("a/")), attach(t, cli, follow.Prefix("b/"))
	j.synced(t)
	other.synced(t)
	start := time.Now()
	if _, err := oracle.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	j.wait(t, time.Minute, "the keys are gone", func() bool { return len(j.content) == 0 })
	t.Logf("%d keys were gone after %v", keys, time.Since(start))
	j.wait(t, 0, "it was one change", func() bool {
		return len(j.calls) == 3 && len(j.calls[2].change.Events) == keys
	})
	if n := other.count(isStale); n != 0 {
		t.Errorf("%d interruptions of the other view", n)
	}
}

// A client may refuse large messages: that ends the watch, and what it would have said is read in parts.
func TestWhatTheClientRefusesToReceiveIsRead(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	fill(t, oracle, prefix+repeat(100), 1000)
	cli := etcdtest.Shared(t).Dial(clientv3.Config{MaxCallRecvMsgSize: 64 << 10})
	j := attach(t, cli, follow.Prefix(prefix))
	j.synced(t)
	if _, err := oracle.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	put(t, oracle, prefix+"last", "1")
	j.holds(t, soon, oracle, prefix)
	if n := j.count(isResync); n != 1 {
		t.Errorf("%d resyncs, want 1", n)
	}
	put(t, oracle, prefix+"last", "2")
	j.holds(t, soon, oracle, prefix)
}

func TestLargeValuesArriveWhole(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, link := c.Oracle(0), c.Link(0)
	truth := newChronicle(t, oracle, "a/")
	put(t, oracle, "a/read", repeat(1<<20))
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	put(t, oracle, "a/live", repeat(1<<20))
	link.Drop()
	var rev int64
	for i := range 3 {
		rev = put(t, oracle, fmt.Sprintf("a/%d", i), repeat(1<<20))
	}
	j.holds(t, soon, oracle, "a/")
	j.compare(t, truth.under(t, "a/", rev))
}

// A thousand keys go with their lease, in one revision: that is one change.
func TestTheKeysOfALeaseGoTogether(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	lease, err := oracle.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, oracle, prefix, 1000, clientv3.WithLease(lease.ID))
	j := attach(t, etcdtest.Client(t), follow.Prefix(prefix))
	j.synced(t)
	if _, err := oracle.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	j.wait(t, soon, "the keys are gone", func() bool { return len(j.content) == 0 })
	j.wait(t, 0, "it was one change", func() bool {
		return len(j.calls) == 3 && len(j.calls[2].change.Events) == 1000
	})
}
