package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// leased puts instances by hand, in one transaction and on one lease, and returns the lease.
func leased(t *testing.T, cli *clientv3.Client, prefix string, state string, ids ...string) clientv3.LeaseID {
	t.Helper()
	lease, err := cli.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	var puts []clientv3.Op
	for _, id := range ids {
		puts = append(puts, clientv3.OpPut(prefix+"/mail/"+id, fmt.Sprintf(`{"Addr":"10.0.0.7:80","State":%q}`, state), clientv3.WithLease(lease.ID)))
	}
	if _, err := cli.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
	return lease.ID
}

// revoke ends a lease, and with it its instances, as its expiry does.
func revoke(t *testing.T, cli *clientv3.Client, lease clientv3.LeaseID) {
	t.Helper()
	if _, err := cli.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
}

// open opens a view with options for the test's time.
func open(t *testing.T, cli *clientv3.Client, opts *registry.ViewOptions) *registry.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := registry.Watch(ctx, cli, "mail", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// held is what a snapshot holds, for people.
func held(s registry.Snapshot) string {
	ids := make([]string, len(s.Held))
	for n, i := range s.Held {
		ids[n] = i.ID
	}
	return strings.Join(ids, " ")
}

// The last instance goes, and nobody can confirm that: callers keep what they have.
func TestNoViewIsEmptyUnlessALinearizableReadConfirmsIt(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli, prefix := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), under(t)
	lease := leased(t, etcdtest.Client(t), prefix, "ready", "a", "b")
	v := watch(t, cli, "mail", prefix)
	sees(t, soon, v, "a", "b")
	ctx, stop := context.WithCancel(t.Context())
	empty := make(chan bool, 1)
	go func() {
		was := false
		for s := range v.Changes(ctx) {
			was = was || len(s.Instances) == 0
		}
		empty <- was
	}()

	refusal := calls.Inject(etcdtest.Fault{Call: "Range", Times: -1, Err: status.Error(codes.Unavailable, "etcdtest: no quorum")})
	revoke(t, etcdtest.Client(t), lease)
	awaits(t, soon+10*time.Second, v, "held", func(s registry.Snapshot) bool { return held(s) == "a b" })
	if err := v.Err(); !errors.Is(err, registry.ErrHeld) || !strings.Contains(err.Error(), "2 of 2") {
		t.Errorf("%v, want how many are held", err)
	}
	stop()
	if <-empty {
		t.Error("an empty list was published that nobody had confirmed")
	}
	refusal.Remove()
	s := sees(t, soon, v)
	if len(s.Held) > 0 || v.Err() != nil {
		t.Errorf("still held: %s, %v", held(s), v.Err())
	}
}

// It costs one read: no more, and none while anybody is there.
func TestAnEmptyListCostsOneRead(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli, prefix := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), under(t)
	leases := []clientv3.LeaseID{leased(t, etcdtest.Client(t), prefix, "ready", "a"), leased(t, etcdtest.Client(t), prefix, "ready", "b")}
	v := watch(t, cli, "mail", prefix)
	sees(t, soon, v, "a", "b")
	calls.Reset()
	revoke(t, etcdtest.Client(t), leases[0])
	sees(t, soon, v, "b")
	if n := calls.Count("Range"); n != 0 {
		t.Errorf("%d reads though somebody is there", n)
	}
	revoke(t, etcdtest.Client(t), leases[1])
	sees(t, soon, v)
	if n := calls.Count("Range"); n != 1 {
		t.Errorf("%d reads to confirm that nobody is", n)
	}
}

func TestAMassLossIsHeldForAWhile(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	leased(t, cli, prefix, "ready", "a", "b")
	lease := leased(t, cli, prefix, "ready", "c", "d", "e")
	v := open(t, cli, &registry.ViewOptions{Prefix: prefix, HoldFor: 3 * time.Second})
	sees(t, soon, v, "a", "b", "c", "d", "e")
	lost := time.Now()
	revoke(t, cli, lease)
	s := awaits(t, soon, v, "held", func(s registry.Snapshot) bool { return held(s) == "c d e" })
	if len(s.Instances) != 5 || s.Source != registry.Live {
		t.Errorf("%v, %s", list(s), s.Source)
	}
	announce(t, cli, prefix+"/mail/d", "10.0.0.8:80") // it is back, and is another one
	s = awaits(t, soon, v, "held without d", func(s registry.Snapshot) bool { return held(s) == "c e" })
	if s.Instances[3].Addr != "10.0.0.8:80" {
		t.Errorf("got %v", list(s))
	}
	sees(t, soon, v, "a", "b", "d")
	if d := time.Since(lost); d < 3*time.Second {
		t.Errorf("held for %v", d)
	}
}

func TestWhoeverIsDeletedAtOnceIsNotHeldWhileItsLeaseLives(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	leased(t, cli, prefix, "ready", "a")
	leased(t, cli, prefix, "ready", "c1", "c2", "c3")
	v := watch(t, cli, "mail", prefix)
	sees(t, soon, v, "a", "c1", "c2", "c3")
	if _, err := cli.Delete(t.Context(), prefix+"/mail/c", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	sees(t, soon, v, "a")
}

// Half of a fleet that is deployed anew says goodbye.
func TestWhoeverSaysGoodbyeIsNotHeld(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	lease := leased(t, cli, prefix, "draining", "a", "b", "c", "d")
	v := watch(t, cli, "mail", prefix)
	sees(t, soon, v, "a", "b", "c", "d")
	diffs := gather(t, v)
	revoke(t, cli, lease)
	sees(t, soon, v)
	if got := removed(diffs.next(t)); got != "a left, b left, c left, d left" {
		t.Errorf("removed: %s", got)
	}
}

// diffs gathers what a view's Diffs yields.
type diffs chan registry.Diff

// gather ranges over a view's differences, and takes the first, of what is there already.
func gather(t *testing.T, v *registry.View) diffs {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := make(diffs, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for d := range v.Diffs(ctx) {
			all <- d
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	if first := all.next(t); len(first.Added) != len(v.Snapshot().Instances) || len(first.Changed)+len(first.Removed) > 0 {
		t.Errorf("the first difference is %+v", first)
	}
	return all
}

func (d diffs) next(t *testing.T) registry.Diff {
	t.Helper()
	return etcdtest.Receive(t, soon, "a difference", d)
}

// removed is who was removed, for people.
func removed(d registry.Diff) string {
	var all []string
	for _, r := range d.Removed {
		all = append(all, fmt.Sprintf("%s %v", r.Instance.ID, r.Reason))
	}
	return strings.Join(all, ", ")
}

func TestDiffsTellWhatBecameOfWhom(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli, oracle, prefix := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), etcdtest.Client(t), under(t)
	leased(t, oracle, prefix, "ready", "stays")
	died, silent := leased(t, oracle, prefix, "ready", "died"), leased(t, oracle, prefix, "ready", "silent")
	leased(t, oracle, prefix, "ready", "deleted")
	v := open(t, cli, &registry.ViewOptions{Prefix: prefix, HoldOnMassLoss: -1})
	sees(t, soon, v, "deleted", "died", "silent", "stays")
	all := gather(t, v)

	announce(t, oracle, prefix+"/mail/new", "10.0.0.8:80")
	if d := all.next(t); len(d.Added) != 1 || d.Added[0].ID != "new" || len(d.Changed)+len(d.Removed) > 0 {
		t.Errorf("one came: %+v", d)
	}
	announce(t, oracle, prefix+"/mail/new", "10.0.0.9:80")
	if d := all.next(t); len(d.Changed) != 1 || d.Changed[0].Before.Addr != "10.0.0.8:80" || d.Changed[0].After.Addr != "10.0.0.9:80" {
		t.Errorf("one changed: %+v", d)
	}
	revoke(t, oracle, died)
	if got := removed(all.next(t)); got != "died expired" {
		t.Errorf("one died: %s", got)
	}
	if _, err := oracle.Delete(t.Context(), prefix+"/mail/deleted"); err != nil {
		t.Fatal(err)
	}
	if got := removed(all.next(t)); got != "deleted deleted" {
		t.Errorf("one was deleted: %s", got)
	}
	calls.Inject(etcdtest.Fault{Call: "LeaseTimeToLive", Times: -1, Err: status.Error(codes.Unavailable, "etcdtest: away")})
	revoke(t, oracle, silent)
	if got := removed(all.next(t)); got != "silent unknown" {
		t.Errorf("nobody can tell: %s", got)
	}
}

// An owner that moves to another lease, as after an outage, is no news.
func TestTheMoveToAnotherLeaseIsNoChange(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	leased(t, cli, prefix, "ready", "a")
	v := watch(t, cli, "mail", prefix)
	before := sees(t, soon, v, "a")
	leased(t, cli, prefix, "ready", "a")
	announce(t, cli, prefix+"/mail/b", "10.0.0.7:80") // comes after it
	after := sees(t, soon, v, "a", "b")
	if before.Instances[0] != after.Instances[0] {
		t.Error("another instance, and it is the same")
	}
}

func TestViewsOfOneServiceShareTheirInstances(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	one, two := watch(t, cli, "mail", prefix), watch(t, cli, "mail", prefix)
	other := open(t, cli, &registry.ViewOptions{Prefix: prefix, HoldFor: time.Hour})
	a, b, c := sees(t, soon, one, "a"), sees(t, soon, two, "a"), sees(t, soon, other, "a")
	if a.Instances[0] != b.Instances[0] || a.Instances[0] == c.Instances[0] {
		t.Error("two lists for the same options, or one for others")
	}
}

func TestAViewCanBeWaitedFor(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	if err := v.WaitRevision(ctx, r.Revision()); err != nil || len(v.Snapshot().Instances) != 1 {
		t.Errorf("%v, and it sees %v", err, list(v.Snapshot()))
	}
	resp, err := cli.Put(ctx, prefix+"-of-no-service", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitRevision(ctx, resp.Header.Revision); err != nil {
		t.Errorf("a revision at which nothing of it changed: %v", err)
	}
	errEnough := errors.New("enough")
	waiting, enough := context.WithCancelCause(t.Context())
	waited := make(chan error, 2)
	go func() { waited <- v.WaitRevision(waiting, resp.Header.Revision+1_000_000) }()
	enough(errEnough)
	if err := etcdtest.Receive(t, promptly, "the end of the wait", waited); !errors.Is(err, errEnough) {
		t.Errorf("cancelled: %v", err)
	}
	go func() { waited <- v.WaitRevision(t.Context(), resp.Header.Revision+1_000_000) }()
	v.Close()
	if err := etcdtest.Receive(t, soon, "the end of the wait", waited); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestServicesAreCounted(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	for _, key := range []string{"mail/a", "mail/b", "mail2/a", "shop/cart/a", "shop/cart/b/", "shop/a", "stray"} {
		announce(t, cli, prefix+"/"+key, "10.0.0.7:80")
	}
	announce(t, cli, prefix+"2/mail/a", "10.0.0.7:80")
	got, err := registry.Services(t.Context(), cli, &registry.ViewOptions{Prefix: prefix})
	want := map[string]int{"mail": 2, "mail2": 1, "shop/cart": 1, "shop": 1}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, err := registry.Services(t.Context(), cli, &registry.ViewOptions{Prefix: "a//b"}); err == nil {
		t.Error("a bad prefix was not refused")
	}
	none, err := registry.Services(t.Context(), cli, &registry.ViewOptions{Prefix: prefix + "/none"})
	if err != nil || len(none) != 0 {
		t.Errorf("%v, %v", slices.Collect(func(yield func(string) bool) {
			for s := range none {
				if !yield(s) {
					return
				}
			}
		}), err)
	}
}

func TestOptionsOfAViewThatBreakARuleAreNamed(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	for rule, opts := range map[string]*registry.ViewOptions{
		"HoldOnMassLoss": {HoldOnMassLoss: 1.1},
		"HoldFor":        {HoldFor: -1},
		"CacheDir":       {CacheDir: "/dev/null/copies"},
	} {
		if _, err := registry.Watch(t.Context(), cli, "mail", opts); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%v, want an error about %s", err, rule)
		}
	}
}
