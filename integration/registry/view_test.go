package registry_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/registry"
)

// announce puts an instance as some other program might.
func announce(t testing.TB, cli *clientv3.Client, key, addr string) int64 {
	t.Helper()
	resp, err := cli.Put(t.Context(), key, fmt.Sprintf(`{"Op":0,"Addr":%q}`, addr))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// go-zero#3239: a client cannot start while a service that it depends on has no instance.
func TestAViewOpensWithoutInstancesAndSeesTheFirst(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	s := v.Snapshot()
	if len(s.Instances) != 0 || s.Source != registry.Live || s.Revision == 0 || s.SyncedAt.IsZero() || v.Err() != nil {
		t.Errorf("got %+v, %v", s, v.Err())
	}
	rev := announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	if s := sees(t, soon, v, "a"); s.Revision < rev {
		t.Errorf("put at revision %d, seen at %d", rev, s.Revision)
	}
}

// kitex registry-etcd#12, rpcx-etcd#13, kratos#1501, go-micro#1899: svc sees the instances of svc2.
func TestAServiceDoesNotSeeThoseOfAnotherWithALongerName(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	for _, service := range []string{"svc", "svc2", "svc-b", "svc/sub"} {
		i := mail("of-" + strings.ReplaceAll(service, "/", "-"))
		i.Service = service
		register(t, cli, i, &registry.Options{Prefix: prefix})
	}
	v := watch(t, cli, "svc", prefix)
	sees(t, soon, v, "of-svc")
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	sees(t, soon, watch(t, cli, "svc/sub", prefix), "of-svc-sub")
	sees(t, soon, watch(t, cli, "sv", prefix))
}

// Defect of kratos GetService: one bad JSON value fails the whole service.
func TestAMalformedInstanceHidesNobodyElseAndIsReported(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	bad := func(id, value string) {
		t.Helper()
		if _, err := cli.Put(t.Context(), prefix+"/mail/"+id, value); err != nil {
			t.Fatal(err)
		}
	}
	bad("b", "hunter2")
	v := watch(t, cli, "mail", prefix)
	sees(t, soon, v, "a")
	if err := v.Err(); !errors.Is(err, registry.ErrMalformed) || !strings.Contains(err.Error(), `"b"`) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	for id, value := range map[string]string{
		"c": `{"Addr":"no port"}`, "d": `[]`, "e": `{"Addr":"h:1","Weight":-1}`, "..": `{"Addr":"h:1"}`, "\xff": `{"Addr":"h:1"}`, "": `{"Addr":"h:1"}`,
		"f": `{"Addr":"h:1","Metadata":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		bad(id, value)
	}
	announce(t, cli, prefix+"/mail/g", "10.0.0.8:80")
	sees(t, soon, v, "a", "g")
	for _, id := range []string{`"c": Addr`, `"d": its value is not`, `"e": Weight`, `".."`, `"\xff"`, `"": `, `"f": ID and value`} {
		if err := v.Err(); err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("%s is not in: %v", id, err)
		}
	}
	// They are mended, or go.
	announce(t, cli, prefix+"/mail/b", "10.0.0.9:80")
	for _, id := range []string{"c", "d", "e", "..", "\xff", "", "f"} {
		if _, err := cli.Delete(t.Context(), prefix+"/mail/"+id); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, soon, v, "a", "b", "g")
	etcdtest.Eventually(t, soon, "nothing is reported", func(context.Context) error { return v.Err() })
}

// F9, defect W3 and W14: what a view missed comes as the exact difference, also if it was compacted meanwhile. etcd's own
// resolver serves the old list for ever.
func TestACompactionWhileCutOffBecomesTheExactDifference(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, cli := c.Link(0), c.Oracle(0)
	for _, id := range []string{"changes", "goes", "stays"} {
		announce(t, cli, "services/mail/"+id, "10.0.0.7:80")
	}
	v := watch(t, link.Client(), "mail", "")
	before := sees(t, soon, v, "changes", "goes", "stays")
	theirs := followEndpoints(t, link.Client(), "services/mail")
	etcdtest.Eventually(t, soon, "etcd's own watch has them", func(context.Context) error { return theirs.has("changes", "goes", "stays") })

	link.Cut()
	stale := awaits(t, soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	if !reflect.DeepEqual(stale.Instances, before.Instances) {
		t.Errorf("cut off, the instances became %v", list(stale))
	}
	if err := v.Err(); !errors.Is(err, registry.ErrNotCurrent) {
		t.Errorf("cut off, Err is %v", err)
	}
	announce(t, cli, "services/mail/changes", "10.0.0.8:80")
	announce(t, cli, "services/mail/comes", "10.0.0.9:80")
	announce(t, cli, "services/mail/came and went", "10.0.0.9:80")
	c.Delete("services/mail/came and went")
	c.Delete("services/mail/goes")
	c.Compact(0)

	// From here on nothing but the state before and the state after may be seen.
	all := make(chan registry.Snapshot, 100)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range v.Changes(ctx) {
			all <- s
		}
		close(all)
	}()
	link.Heal()
	after := sees(t, soon, v, "changes", "comes", "stays")
	stop()
	<-done
	for s := range all {
		if n := len(s.Instances); n != 3 || s.Instances[1].ID != map[registry.Source]string{registry.Stale: "goes", registry.Live: "comes"}[s.Source] {
			t.Errorf("in between: %v, %s", list(s), s.Source)
		}
	}
	if after.Instances[0].Addr != "10.0.0.8:80" || after.Instances[2] != before.Instances[2] || after.Generation != 0 {
		t.Errorf("%v became %v, generation %d", list(before), list(after), after.Generation)
	}
	etcdtest.Eventually(t, soon, "all is well", func(context.Context) error { return v.Err() })

	if err := theirs.ends(t); err != nil {
		t.Logf("naming/endpoints in the same scenario: %v", err)
	} else {
		t.Logf("naming/endpoints in the same scenario ended its watch for good, with %v", theirs.ids())
	}
}

// F4: a view whose member does not answer says so in time, keeps what it has, and knows since when.
func TestAViewThatIsCutOffSaysSinceWhen(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, cli := c.Link(0), c.Oracle(0)
	announce(t, cli, "services/mail/a", "10.0.0.7:80")
	v := watch(t, link.Client(), "mail", "")
	sees(t, soon, v, "a")
	link.Blackhole(etcdtest.Both)
	cut := time.Now()
	awaits(t, 4*time.Second, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	t.Logf("stale %v after the black hole began", time.Since(cut))
	c.Delete("services/mail/a")
	s := v.Snapshot()
	if len(s.Instances) != 1 || s.SyncedAt.After(cut.Add(promptly)) || cut.Sub(s.SyncedAt) > 2*time.Second {
		t.Errorf("%v, synced at %v, cut off at %v", list(s), s.SyncedAt, cut)
	}
	link.Drop()
	link.Heal()
	s = sees(t, soon, v)
	if !s.SyncedAt.After(cut) {
		t.Errorf("live again, synced at %v", s.SyncedAt)
	}
}

// halting is an observer that can be stopped when it is told that its view is live.
type halting struct {
	stop    chan chan struct{} // holds what the next call of Live waits for
	stopped chan struct{}      // is sent to when it does
}

func (halting) Changed(follow.Change) {}
func (halting) Stale(error)           {}
func (h halting) Live() {
	select {
	case release := <-h.stop:
		h.stopped <- struct{}{}
		<-release
	default:
	}
}

// What a view missed while it was cut off has been read, and is about to be listed: until then the old list is not said to be current.
func TestAnOldListIsNotCurrentWhenTheNewerOneIsKnown(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, oracle := c.Link(0), c.Oracle(0)
	cli := link.Client()
	announce(t, oracle, "services/mail/a", "10.0.0.7:80")
	before := halting{stop: make(chan chan struct{}, 1), stopped: make(chan struct{})} // the view's own is told after it
	first := follow.Attach(cli, follow.Prefix("services/mail/"), before)
	defer first.Close()
	v := watch(t, cli, "mail", "")
	sees(t, soon, v, "a")
	link.Cut()
	awaits(t, 4*time.Second, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	cut := v.Snapshot().SyncedAt
	release := make(chan struct{})
	before.stop <- release
	announce(t, oracle, "services/mail/b", "10.0.0.8:80")
	link.Heal()
	etcdtest.Done(t, soon, "the new list is known", before.stopped)
	s, err := v.Snapshot(), v.Err()
	close(release)
	if len(s.Instances) != 1 || s.Source != registry.Stale || !s.SyncedAt.Equal(cut) {
		t.Errorf("%v, %s, synced %v after it was cut off", list(s), s.Source, s.SyncedAt.Sub(cut))
	}
	if !errors.Is(err, registry.ErrNotCurrent) {
		t.Errorf("it says %v of itself", err)
	}
	if s := sees(t, soon, v, "a", "b"); !s.SyncedAt.After(cut) || v.Err() != nil {
		t.Errorf("live again, synced %v after it was cut off, %v", s.SyncedAt.Sub(cut), v.Err())
	}
}

// Views of one service share what is known, which may be out of date. A new one waits until it is not.
func TestAViewIsLiveWhenWatchReturnsThoughOthersWereCutOff(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	announce(t, c.Oracle(0), "services/mail/a", "10.0.0.7:80")
	first := watch(t, cli, "mail", "")
	link.Cut()
	awaits(t, soon, first, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	announce(t, c.Oracle(0), "services/mail/b", "10.0.0.7:80")
	link.Heal()
	second := watch(t, cli, "mail", "")
	if s := second.Snapshot(); s.Source != registry.Live || len(s.Instances) != 2 {
		t.Errorf("got %v, %s", list(s), s.Source)
	}
}

func TestViewsOfOneServiceShareAWatch(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	one, two := watch(t, cli, "mail", prefix), watch(t, cli, "mail", prefix)
	if n := calls.Count(etcdtest.WatchCreate); n != 1 {
		t.Errorf("%d watches", n)
	}
	one.Close()
	announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	sees(t, soon, two, "a")
	if s := one.Snapshot(); len(s.Instances) != 0 {
		t.Errorf("closed, and it sees %v", list(s))
	}
}

func TestAClosedViewEndsItsChangesAndKeepsItsSnapshot(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	v := watch(t, cli, "mail", prefix)
	ended := make(chan int)
	go func() {
		n := 0
		for range v.Changes(t.Context()) {
			n++
			if n == 1 {
				v.Close() // from within: nobody waits for whom
			}
		}
		ended <- n
	}()
	if n := etcdtest.Receive(t, soon, "the end of the changes", ended); n != 1 {
		t.Errorf("%d changes", n)
	}
	v.Close()
	if s := v.Snapshot(); len(s.Instances) != 1 {
		t.Errorf("closed, and the snapshot is %v", list(s))
	}
	if err := v.Err(); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("closed, and Err is %v", err)
	}
}

func TestASlowReaderOfChangesSkipsToTheNewest(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	const puts = 50
	seen := 0
	for s := range v.Changes(t.Context()) {
		seen++
		if len(s.Instances) == puts {
			break
		}
		if seen == 1 {
			var last int64
			for n := range puts {
				last = announce(t, cli, fmt.Sprintf("%s/mail/%03d", prefix, n), "10.0.0.7:80")
			}
			awaits(t, soon, v, "at the newest", func(s registry.Snapshot) bool { return s.Revision >= last })
		}
	}
	if seen != 2 {
		t.Errorf("%d snapshots, want the first and the newest", seen)
	}
}

// While nothing changes, nothing is sent but renewals and questions for progress.
func TestWithoutChangesThereIsNothingButRenewalsAndProgress(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	v := watch(t, cli, "mail", prefix)
	for n := range 5 {
		register(t, cli, mail(fmt.Sprint(n)), &registry.Options{Prefix: prefix, Session: short})
	}
	sees(t, soon, v, "0", "1", "2", "3", "4")
	calls.WaitCount(t, soon, etcdtest.WatchCreate, 6)
	calls.WaitCount(t, soon, etcdtest.WatchProgress, 2) // by now every key has been read
	calls.Reset()
	const during = 3 * time.Second
	calls.Quiet(t, during, etcdtest.KeepAliveSend, "LeaseKeepAlive", etcdtest.WatchProgress)
	// The TTL is 2 s: the session that all share renews every 0.6 s at the most often.
	if n := calls.Count(etcdtest.KeepAliveSend); n < 3 || n > 6 {
		t.Errorf("%d renewals of 5 instances in %v", n, during)
	}
	if n := calls.Count(etcdtest.WatchProgress); n > 5 {
		t.Errorf("%d questions for progress in %v", n, during)
	}
	// A change is one write, and no read.
	calls.Reset()
	announce(t, etcdtest.Client(t), prefix+"/mail/5", "10.0.0.7:80")
	sees(t, soon, v, "0", "1", "2", "3", "4", "5")
	if n := calls.Count("Range") + calls.Count("RangeStream") + calls.Count("Txn"); n != 0 {
		t.Errorf("a change cost these calls: %v", calls.Counts())
	}
}

func TestASnapshotDoesNotAllocate(t *testing.T) {
	cli, prefix := etcdtest.Client(t), under(t)
	for n := range 100 {
		announce(t, cli, fmt.Sprintf("%s/mail/%03d", prefix, n), "10.0.0.7:80")
	}
	v := watch(t, cli, "mail", prefix)
	if s := v.Snapshot(); len(s.Instances) != 100 {
		t.Fatalf("%d instances", len(s.Instances))
	}
	if n := testing.AllocsPerRun(1000, func() { _ = v.Snapshot() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	cli, prefix := etcdtest.Client(b), strings.TrimSuffix(etcdtest.Prefix(b), "/")
	for n := range 100 {
		announce(b, cli, fmt.Sprintf("%s/mail/%03d", prefix, n), "10.0.0.7:80")
	}
	v, err := registry.Watch(b.Context(), cli, "mail", &registry.ViewOptions{Prefix: prefix})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if len(v.Snapshot().Instances) != 100 {
				b.Error("some are missing")
			}
		}
	})
}
