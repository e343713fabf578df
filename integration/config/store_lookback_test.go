package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// edited is what a Watch yields: a change, or its last error.
type edited struct {
	config.Edit
	err error
}

// short is a change in short.
func (e edited) short() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("%s %s at %d: %s (%d)", e.Kind, e.Key, e.Revision, e.Value, e.Writes)
}

// watch passes on what Watch yields until the test ends. The channel is closed when Watch has ended.
func watch(t testing.TB, s *config.Store, prefix string, from int64) (<-chan edited, context.CancelFunc) {
	out, done := make(chan edited), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		close(watching)
		for e, err := range s.Watch(ctx, prefix, from) {
			select {
			case out <- edited{e, err}:
			case <-ctx.Done():
			}
		}
	}()
	<-watching
	t.Cleanup(func() { cancel(); <-done })
	return out, cancel
}

// follows checks that the next changes are these, and in this order.
func follows(t testing.TB, from <-chan edited, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := etcdtest.Receive(t, soon, "the next change", from).short(); got != w {
			t.Fatalf("the next change is %q, want %q", got, w)
		}
	}
}

func TestLookingBackShowsAllKeysAtOneRevision(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	s := store(t, cli, nil)
	put(t, cli, prefix+"2/a", "another's")
	const keys = 2500
	var then int64
	for n := range keys {
		then = put(t, cli, fmt.Sprintf("%s/%04d", prefix, n), fmt.Sprint(n))
	}
	for n := range 100 {
		remove(t, cli, fmt.Sprintf("%s/%04d", prefix, n))
	}
	now := put(t, cli, prefix+"/2499", "changed")
	for revision, want := range map[int64]int{then: keys, now: keys - 100, then - 1: keys - 1, 0: keys - 100} {
		l := must[config.Listing](t)(s.At(t.Context(), prefix, revision))
		if len(l.Entries) != want || revision > 0 && l.Revision != revision || l.Revision < now && revision == 0 {
			t.Errorf("at %d there are %d keys as of %d, want %d", revision, len(l.Entries), l.Revision, want)
		}
		for i, e := range l.Entries {
			n := i + keys - 100
			if len(l.Entries) >= keys-1 {
				n = i
			}
			n = min(n, keys-1)
			if revision != then && revision != then-1 {
				n = i + 100
			}
			value := fmt.Sprint(n)
			if n == keys-1 && (revision == 0 || revision == now) {
				value = "changed"
			}
			if e.Key != fmt.Sprintf("%s/%04d", prefix, n) || string(e.Value) != value || e.Created == 0 || e.Writes == 0 || e.Revision < e.Created {
				t.Fatalf("at %d, entry %d is %+v", revision, i, e)
			}
		}
	}
	l := must[config.Listing](t)(s.Keys(t.Context(), prefix))
	if len(l.Entries) != keys-100 || l.Entries[0].Key != prefix+"/0100" || len(l.Entries[0].Value) != 0 {
		t.Errorf("%d keys: %+v", len(l.Entries), l.Entries[0])
	}
	if _, err := s.At(t.Context(), prefix, 1<<40); !errors.Is(err, rpctypes.ErrFutureRev) || !strings.Contains(err.Error(), "not there yet") {
		t.Errorf("a revision that is not there yet: %v", err)
	}
}

func TestACompactedRevisionNamesTheOldestThatCanBeRead(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	s := store(t, cli, nil)
	first := put(t, cli, "app/a", "1")
	put(t, cli, "app/a", "2")
	kept := put(t, cli, "app/a", "3")
	put(t, cli, "app/a", "4")
	c.Compact(kept)
	_, err := s.At(t.Context(), "app", first)
	var compacted *config.CompactedError
	if !errors.As(err, &compacted) || *compacted != (config.CompactedError{Revision: first, Oldest: kept}) || !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("at %d: %v, want one that names %d", first, err, kept)
	}
	if l := must[config.Listing](t)(s.At(t.Context(), "app", compacted.Oldest)); string(l.Entries[0].Value) != "3" {
		t.Errorf("at the oldest: %+v", l)
	}
	edits, _ := watch(t, s, "app", first)
	if got := etcdtest.Receive(t, soon, "the refusal", edits); got.err == nil || got.err.Error() != err.Error() {
		t.Errorf("watched from %d: %+v", first, got)
	}
	if _, open := <-edits; open {
		t.Error("the watch goes on")
	}
	edits, _ = watch(t, s, "app", compacted.Oldest)
	follows(t, edits, fmt.Sprintf("changed app/a at %d: 3 (3)", kept), fmt.Sprintf("changed app/a at %d: 4 (4)", kept+1))
}

// etcd#19179: a deletion at the very revision that is compacted is not to be lost.
func TestADeletionAtTheOldestRevisionIsYielded(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	put(t, cli, "app/a", "1")
	gone := remove(t, cli, "app/a")
	put(t, cli, "app/b", "1")
	c.Compact(gone)
	edits, _ := watch(t, store(t, cli, nil), "app", gone)
	follows(t, edits, fmt.Sprintf("removed app/a at %d:  (0)", gone), fmt.Sprintf("created app/b at %d: 1 (1)", gone+1))
}

func TestAWatchYieldsEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	s := store(t, cli, &config.StoreOptions{Environment: prefix})
	put(t, cli, prefix+"/a", "0")
	from := put(t, cli, prefix+"/a", "1")
	put(t, cli, prefix+"2", "another's")
	publish(t, s, prefix+"/a", "2") // its history is no change of configuration
	resp := must[*clientv3.TxnResponse](t)(cli.Txn(t.Context()).Then(
		clientv3.OpDelete(prefix+"/a"), clientv3.OpPut(prefix+"/b", ""), clientv3.OpPut(prefix+"/c", "x")).Commit())
	at := resp.Header.Revision
	edits, cancel := watch(t, s, "", from)
	first := etcdtest.Receive(t, soon, "the first change", edits)
	if first.short() != fmt.Sprintf("changed %s/a at %d: 1 (2)", prefix, from) {
		t.Errorf("the first change is %q", first.short())
	}
	second := etcdtest.Receive(t, soon, "the second change", edits)
	if second.Kind != config.KeyChanged || string(second.Value) != "2" || second.Writes != 3 {
		t.Errorf("the second change is %q", second.short())
	}
	follows(t, edits,
		fmt.Sprintf("removed %s/a at %d:  (0)", prefix, at),
		fmt.Sprintf("created %s/b at %d:  (1)", prefix, at),
		fmt.Sprintf("created %s/c at %d: x (1)", prefix, at))
	etcdtest.Nothing(t, 100*time.Millisecond, "a change that never was", edits)
	cancel()
	etcdtest.Returns(t, soon, "the end", func() {
		for e := range edits {
			t.Errorf("after the end: %q", e.short())
		}
	})
	for _, err := range s.Watch(t.Context(), "", from) {
		if err != nil {
			t.Error(err)
		}
		break // ends it; a goroutine that is left fails the run
	}
}

// From now on: what comes once the first change was seen is known to come after the watch was made.
func TestAWatchFromNowDoesNotTellOfThePast(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli, prefix := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	put(t, cli, prefix+"/a", "past")
	edits, _ := watch(t, store(t, cli, nil), prefix, 0)
	calls.WaitCount(t, soon, "Watch.response", 1)
	at := put(t, cli, prefix+"/a", "now")
	follows(t, edits, fmt.Sprintf("changed %s/a at %d: now (2)", prefix, at))
}

func TestAWatchGoesOnOverDisconnectsWithoutLossOrDuplicates(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	calls := &etcdtest.Calls{}
	cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	from := put(t, etcd, "app/n", "0")
	edits, _ := watch(t, store(t, cli, nil), "app", from)
	n := 0
	step := func() {
		n++
		put(t, etcd, "app/n", fmt.Sprint(n))
	}
	expect := func(upTo int) func() {
		next := upTo
		return func() {
			t.Helper()
			for ; next <= n; next++ {
				if got := etcdtest.Receive(t, soon, "the next change", edits); got.err != nil || string(got.Value) != fmt.Sprint(next) {
					t.Fatalf("the change is %q, want %d", got.short(), next)
				}
			}
		}
	}(0)
	expect()
	for name, cut := range map[string]func(){
		"dropped": link.Drop,
		"cut":     func() { link.Cut(); step(); step(); link.Heal() },
		"restarted": func() {
			c.Stop(0)
			c.Restart(0)
			etcd = c.Oracle(0)
		},
		"without a leader": func() {
			calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
			step()
		},
		"with an old token": func() {
			calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCInvalidAuthToken})
			step()
		},
	} {
		step()
		cut()
		step()
		t.Log(name)
		expect()
	}
	etcdtest.Nothing(t, 100*time.Millisecond, "a change twice", edits)
}

func TestAWatchThatACompactionHasOvertakenSaysSoAndEnds(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	cli := link.Client()
	from := put(t, etcd, "app/n", "0")
	edits, _ := watch(t, store(t, cli, nil), "app", from)
	follows(t, edits, fmt.Sprintf("created app/n at %d: 0 (1)", from))
	link.Cut()
	put(t, etcd, "app/n", "1")
	last := put(t, etcd, "app/n", "2")
	c.Compact(last)
	link.Heal()
	got := etcdtest.Receive(t, soon, "the compaction", edits)
	var compacted *config.CompactedError
	if !errors.As(got.err, &compacted) || compacted.Oldest != last {
		t.Fatalf("after the compaction: %q", got.short())
	}
	if _, open := <-edits; open {
		t.Error("the watch goes on")
	}
}

func TestAWatchThatIsRefusedEnds(t *testing.T) {
	c := etcdtest.New(t, nil)
	root := secure(t, c, "port")
	put(t, root, "app/n", "0")
	s := store(t, c.Dial(clientv3.Config{Username: "reader", Password: "reader"}), nil)
	edits, _ := watch(t, s, "app", 1)
	if got := etcdtest.Receive(t, soon, "the refusal", edits); !errors.Is(got.err, rpctypes.ErrPermissionDenied) {
		t.Errorf("a watch without the right to: %q", got.short())
	}
	if _, open := <-edits; open {
		t.Error("the watch goes on")
	}
	if _, err := s.At(t.Context(), "app", 0); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("a read without the right to: %v", err)
	}
}

// A restored backup has other changes under the revisions that were yielded already. That is not a gap that may be passed over.
func TestAWatchWhoseHistoryIsReplacedEnds(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	from := put(t, cli, "app/n", "0")
	b := c.Backup()
	for n := range 10 {
		put(t, cli, "app/n", fmt.Sprint(n+1))
	}
	edits, _ := watch(t, store(t, c.Client(), nil), "app", from)
	for range 11 {
		etcdtest.Receive(t, soon, "a change", edits)
	}
	c.Restore(b)
	if got := etcdtest.Receive(t, 3*soon, "the end", edits); got.err == nil || !strings.Contains(got.err.Error(), "replaced") {
		t.Errorf("after the restore: %q", got.short())
	}
	if _, open := <-edits; open {
		t.Error("the watch goes on")
	}
}
