package follow_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// counted opens a client of a cluster whose calls and streams are counted.
func counted(c *etcdtest.Cluster) (*clientv3.Client, *etcdtest.Calls) {
	calls := &etcdtest.Calls{}
	return c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), calls
}

func TestAViewIsWhatEtcdHeldAtEveryRevision(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	s := newScribbler(oracle, prefix, seeded(t))
	s.scribble(t, 20)
	from := s.rev

	j := attach(t, etcdtest.Client(t), follow.Prefix(prefix))
	s.scribble(t, 400)
	j.holds(t, soon, oracle, prefix)
	j.compare(t, learn(t, oracle, prefix, from, s.rev))
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions, and nothing was done to the view", n)
	}
}

func TestAnEmptyRangeHasAnInitialChangeToo(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	for name, rng := range map[string]follow.Range{
		"prefix": follow.Prefix(prefix), "key": follow.Keys(prefix + "a"), "keys": follow.Keys(prefix+"a", prefix+"b"),
	} {
		t.Run(name, func(t *testing.T) {
			j := attach(t, oracle, rng)
			j.synced(t)
			j.wait(t, soon, "Initial, Live", func() bool {
				return len(j.calls) == 2 && j.calls[0].change.Initial && len(j.calls[0].change.Events) == 0 && j.calls[1].live
			})
		})
	}
}

func TestAPrefixAndAKeySeeNothingElse(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	byPrefix := attach(t, oracle, follow.Prefix(prefix+"a/"))
	byKey := attach(t, oracle, follow.Keys(prefix+"a/1"))
	byPrefix.synced(t)
	byKey.synced(t)
	for _, key := range []string{"a", "a0", "b", "a/", "a/1", "a/10", "a/1/2"} {
		put(t, oracle, prefix+key, key)
	}
	rev := put(t, oracle, prefix+"a/1", "end")
	for j, want := range map[*judge]int{byPrefix: 4, byKey: 1} {
		j.wait(t, soon, "the last change", func() bool { return j.last.Revision == rev })
		j.wait(t, 0, fmt.Sprintf("there are %d keys", want), func() bool { return len(j.content) == want })
	}
}

// A watch a view, however many look on: one that comes late is told what the view knows, without a call to etcd.
func TestObserversShareOneWatch(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	s := newScribbler(oracle, prefix, seeded(t))
	s.scribble(t, 20)
	from := s.rev

	cli, calls := counted(etcdtest.Shared(t))
	judges := []*judge{attach(t, cli, follow.Prefix(prefix))}
	judges[0].synced(t)
	stop := s.inBackground(t)
	before := calls.Counts()
	for range 20 {
		j := attach(t, cli, follow.Prefix(prefix))
		j.wait(t, soon, "the late observer is told", func() bool { return j.live && j.last.Revision > 0 })
		judges = append(judges, j)
	}
	for _, name := range []string{"Watch", etcdtest.WatchCreate, "Range", "RangeStream", "Txn"} {
		if got := calls.Count(name); got != before[name] {
			t.Errorf("20 more observers took %d calls %s", got-before[name], name)
		}
	}
	if calls.Count(etcdtest.WatchCreate) != 1 {
		t.Errorf("%d watches for one view", calls.Count(etcdtest.WatchCreate))
	}
	stop()
	h := learn(t, oracle, prefix, from, s.rev)
	for _, j := range judges {
		j.holds(t, soon, oracle, prefix)
		j.compare(t, h)
	}
}

// Two clients may have one Watcher, as with clientv3's wrappers. Their views have nothing to do with each other's all the same.
func TestClientsWithOneWatcherAreTwo(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	streams := &streams{}
	one, two := streams.dial(etcdtest.Shared(t)), etcdtest.Client(t)
	two.KV = namespace.NewKV(one.KV, prefix)
	two.Watcher = namespace.NewWatcher(one.Watcher, prefix)
	outer, inner := attach(t, one, follow.Prefix(prefix+"a/")), attach(t, two, follow.Prefix("a/"))
	outer.synced(t)
	inner.synced(t)
	if n := streams.open(); n != 2 {
		t.Errorf("%d streams, want one for each client", n)
	}
	put(t, oracle, prefix+"a/1", "1")
	outer.wait(t, soon, "the key", func() bool { return outer.has(prefix+"a/1", "1") })
	inner.wait(t, soon, "the key", func() bool { return inner.has("a/1", "1") })
	outer.close()
	put(t, oracle, prefix+"a/1", "2")
	inner.wait(t, soon, "the change", func() bool { return inner.has("a/1", "2") })
	proven(t, inner, time.Now())
	inner.close()
	etcdtest.Eventually(t, soon, "the watch streams end", streams.ended)
}

func TestCloseStopsTheTellingAndTheLastOneEndsTheWatch(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	streams := &streams{}
	cli := streams.dial(etcdtest.Shared(t))
	one, two := attach(t, cli, follow.Prefix(prefix)), attach(t, cli, follow.Prefix(prefix))
	one.synced(t)
	two.synced(t)
	one.close()
	told := one.count(isChange)
	rev := put(t, oracle, prefix+"a", "1")
	two.wait(t, soon, "the other one is told", func() bool { return two.last.Revision == rev })
	if n := one.count(isChange); n != told {
		t.Errorf("told %d times after Close", n-told)
	}
	if n := streams.open(); n != 1 {
		t.Errorf("%d watch streams are open, want 1", n)
	}
	two.close()
	two.close() // idempotent
	etcdtest.Eventually(t, soon, "the watch stream ends", streams.ended)
	put(t, oracle, prefix+"a", "2") // the judges see to it that nobody is told

	again := attach(t, cli, follow.Prefix(prefix))
	again.holds(t, soon, oracle, prefix)
}

// While an observer is being told, Close of another one waits: the telling is not in its own hands.
func TestCloseReturnsOnlyWhenNoCallIsGoingOn(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	release, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j := &judge{gate: func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}}
	j.attach(t, oracle, follow.Prefix(prefix))
	etcdtest.Done(t, soon, "the first call", entered)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		j.close()
	}()
	etcdtest.Nothing(t, 100*time.Millisecond, "Close while a call is going on", closed)
	close(release)
	etcdtest.Done(t, soon, "Close", closed)
}
