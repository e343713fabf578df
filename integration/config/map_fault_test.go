package config_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// While the client is cut off the history it would have to catch up with is compacted. That is one more read, and one
// difference: what was deleted meanwhile is seen going, and what has not changed is neither decoded nor told again.
func TestACompactionWhileAMapIsCutOffCostsOneRead(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	calls := &etcdtest.Calls{}
	for _, key := range []string{"changes", "stays", "goes"} {
		put(t, etcd, "tenants/"+key, "0")
	}
	var decoded atomic.Int64
	m := openMap(t, link.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "tenants", &config.Options[int]{Codec: count{&decoded}})
	told := diffs(t, m)
	changed := passed(t, func(ctx context.Context) func(func(config.MapSnapshot[int]) bool) { return m.Changes(ctx) })
	differs(t, told, "+changes=0 +goes=0 +stays=0")
	before := etcdtest.Receive(t, soon, "the current snapshot", changed)

	link.Cut()
	becomes(t, m, config.ErrNotCurrent)
	if s := m.Snapshot(); s.Source != config.Stale || len(s.Entries) != 3 {
		t.Errorf("cut off: %v, %s", content(s.Entries), s.Source)
	}
	calls.Reset()
	decoded.Store(0)
	for n := range 10 {
		put(t, etcd, "tenants/changes", strconv.Itoa(n+1))
	}
	put(t, etcd, "tenants/new", "7")
	put(t, etcd, "tenants/came", "8")
	remove(t, etcd, "tenants/came")
	remove(t, etcd, "tenants/goes")
	c.Compact(0)
	etcdtest.Nothing(t, 200*time.Millisecond, "a difference while cut off", told)
	link.Heal()

	differs(t, told, "+new=7 changes:0=10 -goes=0")
	after := etcdtest.Receive(t, soon, "the next snapshot", changed)
	if after.Source != config.Live || !after.SyncedAt.After(before.SyncedAt) || after.Entries[2] != before.Entries[2] {
		t.Errorf("after the compaction: %+v", after)
	}
	becomes(t, m, nil)
	if calls.Count("Range") != 1 || calls.Count("RangeStream") != 0 {
		t.Errorf("these calls: %v", calls.Counts())
	}
	if decoded.Load() != 2 {
		t.Errorf("decoded %d documents, of two that changed", decoded.Load())
	}
}

// A restored backup turns history back without an error to anybody. What it holds is taken, though its revisions are lower.
func TestARestoredBackupIsWhatAMapIsThen(t *testing.T) {
	c := etcdtest.New(t, nil)
	etcd := c.Client()
	put(t, etcd, "tenants/old", "1")
	put(t, etcd, "tenants/same", "2")
	b := c.Backup()
	put(t, etcd, "tenants/old", "3")
	put(t, etcd, "tenants/new", "4")
	m := openMap[int](t, c.Client(), "tenants", nil)
	told := diffs(t, m)
	differs(t, told, "+new=4 +old=3 +same=2")
	before := m.Snapshot()

	c.Restore(b)
	if d := differs(t, told, "old:3=1 -new=4"); d.Generation != 1 || d.Revision >= before.Revision {
		t.Errorf("generation %d, revision %d after %d", d.Generation, d.Revision, before.Revision)
	}
	becomes(t, m, nil)
	if s := m.Snapshot(); s.Generation != 1 || s.Revision >= before.Revision || s.Source != config.Live {
		t.Errorf("restored: %+v", s)
	}
	put(t, etcd, "tenants/same", "5")
	differs(t, told, "same:2=5")
}

func TestARestartOfEtcdIsWaitedOutByAMap(t *testing.T) {
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "tenants/a", "1")
	put(t, c.Oracle(0), "tenants/bad", "x")
	m := openMap[int](t, c.Client(), "tenants", nil)
	told := diffs(t, m)
	differs(t, told, "+a=1")
	c.Stop(0)
	becomes(t, m, config.ErrNotCurrent)
	if !errors.Is(m.Err(), config.ErrRefused) {
		t.Errorf("the bad one is forgotten: %v", m.Err())
	}
	c.Restart(0)
	until(t, m, "the Map is current again", func(err error) bool {
		return errors.Is(err, config.ErrRefused) && !errors.Is(err, config.ErrNotCurrent)
	})
	etcdtest.Nothing(t, 200*time.Millisecond, "a difference without a put", told)
	put(t, c.Oracle(0), "tenants/a", "2")
	differs(t, told, "a:1=2")
}

// The connection is dropped again and again while keys come and go: the differences add up, nothing is told twice or out of
// order, and in the end the Map is what etcd has.
func TestAStormOfDroppedConnectionsLosesNoKey(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	m := openMap[int](t, link.Client(), "tenants", nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	var readers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sum := map[string]int{}
	readers.Go(func() {
		for d := range m.Diffs(ctx) {
			for _, e := range d.Removed {
				if was, there := sum[e.Name]; !there || was != e.Value {
					t.Errorf("%s is removed as %d, and was %d", e.Name, e.Value, was)
				}
				delete(sum, e.Name)
			}
			for _, c := range d.Changed {
				if was, there := sum[c.Before.Name]; !there || was != c.Before.Value || c.After.Revision <= c.Before.Revision {
					t.Errorf("%s changes from %d to %d, and was %d", c.Before.Name, c.Before.Value, c.After.Value, was)
				}
				sum[c.After.Name] = c.After.Value
			}
			for _, e := range d.Added {
				if was, there := sum[e.Name]; there {
					t.Errorf("%s is added, and was %d", e.Name, was)
				}
				sum[e.Name] = e.Value
			}
		}
	})
	readers.Go(func() {
		var revision int64
		for s := range m.Changes(ctx) {
			if s.Revision < revision || s.Generation != 0 {
				t.Errorf("revision %d after %d, generation %d", s.Revision, revision, s.Generation)
			}
			revision = s.Revision
		}
	})
	want := map[string]int{}
	drops := time.NewTicker(50 * time.Millisecond)
	defer drops.Stop()
	var last int64
	for n := range 60 {
		<-drops.C
		link.Drop()
		for range 5 {
			name := "k" + strconv.Itoa(rng.IntN(10))
			if _, there := want[name]; there && rng.IntN(3) == 0 {
				delete(want, name)
				last = remove(t, etcd, "tenants/"+name)
			} else {
				want[name] = n
				last = put(t, etcd, "tenants/"+name, strconv.Itoa(n))
			}
		}
	}
	if got := content(caughtUp(t, m, last).Entries); !maps.Equal(got, want) {
		t.Errorf("in the end %v, want %v", got, want)
	}
	becomes(t, m, nil)
	m.Close() // ends the readers with the newest
	readers.Wait()
	if !maps.Equal(sum, want) {
		t.Errorf("told %v, want %v", sum, want)
	}
}

// Two of three members are gone. The third cannot say what is current, but what it knows is better than nothing; and that it
// knows of no keys is not.
func TestAMapStartsFromASingleMemberAndHeals(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	revision := put(t, c.Oracle(0), "tenants/a", "1")
	put(t, c.Oracle(0), "tenants/b", "2")
	cli := c.Link(0).Client()
	caughtUp(t, openMap[int](t, cli, "tenants", nil), revision+1) // so that the member is known to have it
	c.Stop(1, 2)
	alone := c.Link(0).Client()
	var decoded atomic.Int64
	began := time.Now()
	m := openMap(t, alone, "tenants", &config.Options[int]{Codec: count{&decoded}})
	t.Logf("opened in %v", time.Since(began))
	s := m.Snapshot()
	if s.Source != config.Stale || len(s.Entries) != 2 || s.Revision != revision+1 || !s.SyncedAt.IsZero() {
		t.Errorf("without a majority: %v, %+v", content(s.Entries), s)
	}
	if v, there := m.Get("a"); v != 1 || !there || !errors.Is(m.Err(), config.ErrNotCurrent) {
		t.Errorf("without a majority: %d, %t, %v", v, there, m.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if none, err := config.OpenMap[int](ctx, alone, "nothing", nil); err == nil {
		t.Errorf("nothing, by the word of a single member: %+v", none.Snapshot())
		none.Close()
	}
	told := diffs(t, m)
	differs(t, told, "+a=1 +b=2")
	c.Restart(1, 2)
	becomes(t, m, nil)
	if s := m.Snapshot(); s.Source != config.Live || s.SyncedAt.IsZero() || decoded.Load() != 2 {
		t.Errorf("with a majority again: %+v, %d documents decoded", s, decoded.Load())
	}
	remove(t, c.Oracle(0), "tenants/a")
	differs(t, told, "-a=1")
}

// Maps of one prefix share a view, which may have been cut off for a while. Cut off, it is what a Map starts from;
// otherwise OpenMap does not take its word for what etcd has.
func TestAMapThatJoinsOneThatIsCutOff(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	put(t, c.Oracle(0), "tenants/a", "1")
	first := openMap[int](t, cli, "tenants", nil)
	link.Cut()
	becomes(t, first, config.ErrNotCurrent)
	put(t, c.Oracle(0), "tenants/a", "2")
	second := openMap[int](t, cli, "tenants", nil)
	if s := second.Snapshot(); s.Source != config.Stale || s.Entries[0].Value != 1 || !errors.Is(second.Err(), config.ErrNotCurrent) {
		t.Errorf("while cut off: %v, %s, %v", content(s.Entries), s.Source, second.Err())
	}
	link.Heal()
	third := openMap[int](t, cli, "tenants", nil)
	if v, _ := third.Get("a"); v != 2 || third.Err() != nil {
		t.Errorf("got %d, %v", v, third.Err())
	}
	becomes(t, second, nil)
}

func TestOpenMapWithoutEtcdNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Cut()
	cli := link.Client()
	etcdtest.Returns(t, 5*time.Second, "OpenMap", func() {
		_, err := config.OpenMap[int](t.Context(), cli, "tenants", nil)
		if err == nil || !strings.Contains(err.Error(), cli.Endpoints()[0]) || !strings.Contains(fmt.Sprint(err), "tenants") {
			t.Errorf("got %v", err)
		}
	})
}
