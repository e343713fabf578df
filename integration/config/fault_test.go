package config_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	serverconfig "go.etcd.io/etcd/server/v3/config"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// nacos-sdk-go#539: a process could not tell that it was running on its cache. nacos-sdk-go#694: after the
// reconnect, changes arrived minutes later.
func TestAValueThatIsCutOffSaysSoAndIsCurrentAgainAfterwards(t *testing.T) {
	for name, cut := range map[string]func(*etcdtest.Link){
		"refused":    (*etcdtest.Link).Cut,
		"black hole": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"no answers": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Responses) },
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.New(t, nil)
			link := c.Link(0)
			put(t, c.Oracle(0), "port", "8080")
			v := open[int](t, link.Client(), "port", nil)
			changed := changes(t, v)
			next(t, changed)
			cut(link)
			becomes(t, v, config.ErrNotCurrent)
			s := v.Snapshot()
			if v.Get() != 8080 || s.Source != config.Stale {
				t.Errorf("cut off: %d, %+v", v.Get(), s)
			}
			revision := put(t, c.Oracle(0), "port", "9090")
			etcdtest.Nothing(t, 200*time.Millisecond, "a change while cut off", changed)
			if again := v.Snapshot(); !again.SyncedAt.Equal(s.SyncedAt) {
				t.Errorf("synced at %v and then at %v while cut off", s.SyncedAt, again.SyncedAt)
			}
			link.Drop() // what was held is lost
			link.Heal()
			if again := next(t, changed); again.Value != 9090 || again.Revision != revision || !again.SyncedAt.After(s.SyncedAt) {
				t.Errorf("the change is %+v, put as %d", again, revision)
			}
			becomes(t, v, nil)
			if s := v.Snapshot(); s.Source != config.Live {
				t.Errorf("current again: %+v", s)
			}
		})
	}
}

// Values of one key share a view, which may have been cut off for a while. Open does not take its word for what etcd has.
func TestOpenIsCurrentThoughItsViewWasCutOff(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	put(t, c.Oracle(0), "port", "8080")
	first := open[int](t, cli, "port", nil)
	link.Cut()
	becomes(t, first, config.ErrNotCurrent)
	put(t, c.Oracle(0), "port", "9090")
	link.Heal()
	second := open[int](t, cli, "port", nil)
	if second.Get() != 9090 || second.Err() != nil {
		t.Errorf("got %d, %v", second.Get(), second.Err())
	}
}

// A refusal is not forgotten because the connection is lost too.
func TestErrTellsOfTheDocumentAndOfTheConnection(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	put(t, c.Oracle(0), "port", "8080")
	v := open[int](t, link.Client(), "port", nil)
	put(t, c.Oracle(0), "port", "eighty")
	becomes(t, v, config.ErrRefused)
	link.Cut()
	becomes(t, v, config.ErrNotCurrent)
	if !errors.Is(v.Err(), config.ErrRefused) {
		t.Errorf("Err is: %v", v.Err())
	}
	link.Heal()
	until(t, v, "the connection is back", func(err error) bool { return !errors.Is(err, config.ErrNotCurrent) })
	if !errors.Is(v.Err(), config.ErrRefused) || v.Get() != 8080 {
		t.Errorf("got %d, %v", v.Get(), v.Err())
	}
}

func TestARestartOfEtcdIsWaitedOut(t *testing.T) {
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "port", "8080")
	v := open[int](t, c.Client(), "port", nil)
	changed := changes(t, v)
	next(t, changed)
	c.Stop(0)
	becomes(t, v, config.ErrNotCurrent)
	if s := v.Snapshot(); v.Get() != 8080 || s.Source != config.Stale {
		t.Errorf("without etcd: %d, %+v", v.Get(), s)
	}
	c.Restart(0)
	becomes(t, v, nil)
	etcdtest.Nothing(t, 200*time.Millisecond, "a change without a put", changed)
	put(t, c.Oracle(0), "port", "9090")
	if s := next(t, changed); s.Value != 9090 {
		t.Errorf("after the restart: %+v", s)
	}
}

// kratos's watcher reads from the channel of a watch that has ended, in a tight loop.
func TestAWatchThatFailsIsNotOpenedInATightLoop(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	calls := &etcdtest.Calls{}
	put(t, c.Oracle(0), "port", "8080")
	v := open[int](t, link.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "port", nil)
	changed := changes(t, v)
	next(t, changed)
	refused := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchCreate, Times: -1, Err: rpctypes.ErrGRPCPermissionDenied})
	link.Drop()
	becomes(t, v, config.ErrNotCurrent)
	calls.Reset()
	etcdtest.Nothing(t, 2*time.Second, "a change without a watch", changed)
	if tried := calls.Count(etcdtest.WatchCreate); tried > 20 {
		t.Errorf("the watch was opened %d times in 2 s", tried)
	}
	refused.Remove()
	becomes(t, v, nil)
	put(t, c.Oracle(0), "port", "9090")
	if s := next(t, changed); s.Value != 9090 {
		t.Errorf("once it is not refused: %+v", s)
	}
}

// The connection is dropped again and again while the key changes: nothing is told twice or out of order, and in the end
// the value is etcd's.
func TestAStormOfDroppedConnectionsLosesNothing(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	put(t, etcd, "n", "0")
	v := open[int](t, link.Client(), "n", nil)
	var revision atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range v.Changes(ctx) {
			if before := revision.Swap(s.Revision); s.Revision <= before {
				t.Errorf("revision %d after %d", s.Revision, before)
			}
		}
	}()
	drops := time.NewTicker(50 * time.Millisecond)
	defer drops.Stop()
	var last int64
	for n := range 60 {
		<-drops.C
		link.Drop()
		last = put(t, etcd, "n", strconv.Itoa(n+1))
	}
	etcdtest.Eventually(t, soon, "the last change arrives", func(context.Context) error {
		if got := revision.Load(); got != last {
			return fmt.Errorf("at revision %d, want %d", got, last)
		}
		return nil
	})
	cancel()
	<-done
	becomes(t, v, nil)
	if v.Get() != 60 {
		t.Errorf("the value is %d", v.Get())
	}
}

// confd#801: a watch died with the token it was opened with, and nobody opened another.
func TestTheFollowingSurvivesItsToken(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *serverconfig.ServerConfig) { cfg.TokenTTL = 1 }})
	root := secure(t, c, "port")
	put(t, root, "port", "0")
	link := c.Link(0)
	v := open[int](t, link.Dial(clientv3.Config{Username: "reader", Password: "reader"}), "port", nil)
	changed := changes(t, v)
	next(t, changed)
	for n, hurt := range []func(){
		func() {},
		func() {
			link.Blackhole(etcdtest.Responses)
			becomes(t, v, config.ErrNotCurrent)
		},
	} {
		etcdtest.Nothing(t, 2*time.Second, "a change before the token has expired", changed)
		hurt()
		link.Drop()
		link.Heal()
		put(t, root, "port", strconv.Itoa(n+1))
		if s := next(t, changed); s.Value != n+1 {
			t.Errorf("with the next token: %+v", s)
		}
		becomes(t, v, nil)
	}
}

// Leaders go, one after the other, and with them the member that the Value is served by. That is no change, and none is
// lost.
func TestALeaderThatStopsIsNoChange(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.Client()
	put(t, cli, "port", "0")
	v := open[int](t, cli, "port", nil)
	changed := changes(t, v)
	next(t, changed)
	for n := range 4 {
		old := c.WaitLeader()
		c.Stop(old)
		c.WaitOtherLeader(old)
		etcdtest.Nothing(t, 200*time.Millisecond, "a change without a put", changed)
		put(t, c.Oracle(c.Leader()), "port", strconv.Itoa(n+1))
		if s := next(t, changed); s.Value != n+1 {
			t.Errorf("under the next leader: %+v", s)
		}
		becomes(t, v, nil)
		c.Restart(old)
	}
}

// Without a majority nothing can be put, and a member that is left cannot know what was.
func TestWithoutAMajorityAValueIsStale(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	put(t, c.Client(), "port", "8080")
	v := open[int](t, c.Client(), "port", nil)
	changed := changes(t, v)
	next(t, changed)
	leader := c.WaitLeader()
	gone := []int{leader, (leader + 1) % 3}
	c.Stop(gone...)
	becomes(t, v, config.ErrNotCurrent)
	if s := v.Snapshot(); v.Get() != 8080 || s.Source != config.Stale {
		t.Errorf("without a majority: %d, %+v", v.Get(), s)
	}
	c.Restart(gone...)
	becomes(t, v, nil)
	etcdtest.Nothing(t, 200*time.Millisecond, "a change without a put", changed)
	put(t, c.Client(), "port", "9090")
	if s := next(t, changed); s.Value != 9090 {
		t.Errorf("with a majority again: %+v", s)
	}
}

// A full database refuses whoever writes. Readers need not notice.
func TestAFullDatabaseIsRead(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	put(t, cli, "port", "8080")
	v := open[int](t, cli, "port", nil)
	changed := changes(t, v)
	next(t, changed)
	c.FillUp()
	if _, err := cli.Put(t.Context(), "port", "9090"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("the database is not full: %v", err)
	}
	if second := open[int](t, c.Client(), "port", nil); second.Get() != 8080 || second.Err() != nil {
		t.Errorf("opened while it is full: %d, %v", second.Get(), second.Err())
	}
	if v.Get() != 8080 || v.Err() != nil {
		t.Errorf("while it is full: %d, %v", v.Get(), v.Err())
	}
	c.FreeUp()
	put(t, cli, "port", "9090")
	if s := next(t, changed); s.Value != 9090 {
		t.Errorf("afterwards: %+v", s)
	}
}

// A right that is taken away ends the following when the watch is opened the next time; given back, it goes on.
func TestARightThatIsTakenAwayIsSaidAndWaitedFor(t *testing.T) {
	c := etcdtest.New(t, nil)
	root := secure(t, c, "port")
	put(t, root, "port", "8080")
	link := c.Link(0)
	v := open[int](t, link.Dial(clientv3.Config{Username: "reader", Password: "reader"}), "port", nil)
	changed := changes(t, v)
	next(t, changed)
	if _, err := root.RoleRevokePermission(t.Context(), "reader", "port", ""); err != nil {
		t.Fatal(err)
	}
	link.Drop()
	until(t, v, "etcd's refusal is said", func(err error) bool {
		return errors.Is(err, config.ErrNotCurrent) && errors.Is(err, rpctypes.ErrPermissionDenied)
	})
	put(t, root, "port", "9090")
	etcdtest.Nothing(t, 500*time.Millisecond, "a change that must not be seen", changed)
	if _, err := root.RoleGrantPermission(t.Context(), "reader", "port", "", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	if s := next(t, changed); s.Value != 9090 {
		t.Errorf("with the right again: %+v", s)
	}
	becomes(t, v, nil)
}
