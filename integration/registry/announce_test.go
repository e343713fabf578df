package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

func TestAnInstanceIsInEtcdWhenRegisterReturns(t *testing.T) {
	t.Parallel()
	prefix := under(t)
	r := register(t, etcdtest.Client(t), mail("a"), &registry.Options{Prefix: prefix})
	kv := get(t, etcdtest.Client(t), prefix+"/mail/a")
	if kv == nil || kv.Lease == 0 || kv.ModRevision != r.Revision() || kv.Version != 1 {
		t.Errorf("etcd has %v, registered at revision %d", kv, r.Revision())
	}
	if err := r.Err(); err != nil {
		t.Errorf("announced, and yet: %v", err)
	}
}

func TestOthersFindAnInstanceWithAllItSays(t *testing.T) {
	t.Parallel()
	prefix := under(t)
	want := registry.Instance{
		Service: "shop/cart", ID: "cart-0", Addr: "[2001:db8::7]:443", Zone: "eu-1b", Version: "1.4.0", Weight: 20,
		Metadata: map[string]string{"commit": "3f2a", "note": "line\nline"},
	}
	v := watch(t, etcdtest.Client(t), "shop/cart", prefix)
	r := register(t, etcdtest.Client(t), want, &registry.Options{Prefix: prefix})
	s := sees(t, soon, v, "cart-0")
	if !reflect.DeepEqual(*s.Instances[0], want) {
		t.Errorf("got %+v, want %+v", *s.Instances[0], want)
	}
	if s.Revision < r.Revision() || time.Since(s.SyncedAt) > soon {
		t.Errorf("registered at revision %d; seen at %d, synced at %v", r.Revision(), s.Revision, s.SyncedAt)
	}
	want.Weight, want.Metadata = 0, nil
	register(t, etcdtest.Client(t), want, &registry.Options{Prefix: prefix})
	s = awaits(t, soon, v, "of the default weight", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Weight == 100
	})
	if s.Instances[0].Metadata != nil {
		t.Errorf("metadata %v out of nothing", s.Instances[0].Metadata)
	}
}

func TestAnUpdateIsInEtcdWhenItReturns(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, etcdtest.Client(t), "mail", prefix)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	first := r.Revision()
	const updates = 20
	for n := range updates {
		addr := fmt.Sprintf("10.0.1.%d:80", n)
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.Addr, i.Weight = addr, n+1 }); err != nil {
			t.Fatal(err)
		}
		kv := get(t, cli, prefix+"/mail/a")
		if !strings.Contains(string(kv.Value), addr) || kv.ModRevision != r.Revision() || kv.CreateRevision != first {
			t.Errorf("etcd has %v, updated at revision %d", kv, r.Revision())
		}
	}
	awaits(t, soon, v, "updated", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Addr == "10.0.1.19:80" && s.Instances[0].Weight == updates
	})
	// What the registration sees of its own key comes late, and must not make it write again.
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if n := len(history(t, cli, prefix+"/", first)); n != updates {
		t.Errorf("%d writes for %d updates", n, updates)
	}
}

// None of many concurrent updates is lost, since each builds on the one before.
func TestUpdatesAreMadeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	i := mail("a")
	i.Metadata = map[string]string{"mine": "1"}
	r := register(t, cli, i, &registry.Options{Prefix: prefix})
	const updates = 50
	var all sync.WaitGroup
	for n := range updates {
		all.Go(func() {
			if err := r.Update(t.Context(), func(i *registry.Instance) { i.Metadata[strconv.Itoa(n)] = "" }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(i.Metadata) != 1 {
		t.Errorf("the caller's own map has changed: %v", i.Metadata)
	}
	v := watch(t, cli, "mail", prefix)
	s := sees(t, soon, v, "a")
	if got := s.Instances[0].Metadata; len(got) != updates+1 || got["mine"] != "1" {
		t.Errorf("%d of %d updates are there: %v", len(got)-1, updates, got)
	}
	if s.Revision < r.Revision() {
		t.Errorf("updated at %d, seen at %d", r.Revision(), s.Revision)
	}
}

func TestARefusedUpdateChangesNothing(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	calls.WaitCount(t, soon, "Txn", 2) // Register's, and the reading of the key that is followed from now on
	for what, c := range map[string]struct {
		edit func(*registry.Instance)
		rule string
	}{
		"another service": {func(i *registry.Instance) { i.Service = "web" }, "cannot be updated"},
		"another ID":      {func(i *registry.Instance) { i.ID = "b" }, "cannot be updated"},
		"no address":      {func(i *registry.Instance) { i.Addr = "" }, "host:port"},
		"a huge value":    {func(i *registry.Instance) { i.Zone = strings.Repeat("x", 100<<10) }, "64 KiB"},
	} {
		calls.Reset()
		err := r.Update(t.Context(), c.edit)
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%s: %v", what, err)
		}
		if calls.Count("Txn") > 0 {
			t.Errorf("%s: etcd was asked", what)
		}
	}
	// The one after them builds on what was there before.
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" }); err != nil {
		t.Fatal(err)
	}
	v := watch(t, cli, "mail", prefix)
	want := mail("a")
	want.Zone, want.Weight = "eu", 100
	if s := sees(t, soon, v, "a"); !reflect.DeepEqual(*s.Instances[0], want) {
		t.Errorf("got %+v, want %+v", *s.Instances[0], want)
	}
}

func TestAnUpdateToWhatIsThereAlreadySendsNothing(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	r := register(t, cli, mail("a"), &registry.Options{Prefix: under(t)})
	revision := r.Revision()
	calls.WaitCount(t, soon, "Txn", 2) // Register's, and the reading of the key that is followed from now on
	for range 3 {
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.Weight = 0 }); err != nil { // which means 100
			t.Fatal(err)
		}
	}
	if n := calls.Count("Txn"); n != 2 || r.Revision() != revision {
		t.Errorf("%d transactions, revision %d and then %d", n, revision, r.Revision())
	}
}

func TestAnUpdateThatIsCancelledReturnsPromptlyAndIsMadeAllTheSame(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	r := register(t, link.Client(), mail("a"), nil)
	link.Blackhole(etcdtest.Both)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	var err error
	etcdtest.Returns(t, 100*time.Millisecond+promptly, "Update", func() {
		err = r.Update(ctx, func(i *registry.Instance) { i.Addr = "10.0.0.8:80" })
	})
	if !errors.Is(err, why) || !strings.Contains(err.Error(), "not in etcd so far") {
		t.Errorf("got %v", err)
	}
	link.Drop() // what was sent is lost
	link.Heal()
	v := watch(t, c.Client(), "mail", "")
	awaits(t, soon, v, "updated", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Addr == "10.0.0.8:80"
	})
}

func TestCloseTakesTheInstanceAndItsLeaseAway(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, etcdtest.Client(t), "mail", prefix)
	register(t, etcdtest.Client(t), mail("b"), &registry.Options{Prefix: prefix}) // on a lease of its own
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	sees(t, soon, v, "a", "b")
	lease := clientv3.LeaseID(get(t, cli, prefix+"/mail/a").Lease)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if kv := get(t, cli, prefix+"/mail/a"); kv != nil {
		t.Errorf("closed, and etcd has %v", kv)
	}
	if ttl, err := cli.TimeToLive(t.Context(), lease); err != nil || ttl.TTL != -1 {
		t.Errorf("closed, and the lease lives: %v, %v", ttl, err)
	}
	sees(t, soon, v, "b")
	if err := r.Err(); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("closed, and Err is %v", err)
	}
	if err := r.Update(t.Context(), func(*registry.Instance) {}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("closed, and Update says %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// Whoever had the same key in between must not suffer from a late Close.
func TestCloseDeletesOnlyWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	one := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	register(t, etcdtest.Client(t), mail("a"), &registry.Options{Prefix: prefix})
	kv := get(t, cli, prefix+"/mail/a")
	if err := one.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if now := get(t, cli, prefix+"/mail/a"); now == nil || now.ModRevision != kv.ModRevision {
		t.Errorf("it was %v and became %v", kv, now)
	}
}

func TestWhatIsRefusedSendsNothing(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	for what, c := range map[string]struct {
		edit func(*registry.Instance, *registry.Options)
		rule string
	}{
		"service":  {func(i *registry.Instance, _ *registry.Options) { i.Service = "mail/" }, `"mail/" refused: it ends in a slash`},
		"id":       {func(i *registry.Instance, _ *registry.Options) { i.ID = "a/b" }, "slash"},
		"address":  {func(i *registry.Instance, _ *registry.Options) { i.Addr = "10.0.0.7" }, "host:port"},
		"listener": {func(i *registry.Instance, _ *registry.Options) { i.Addr = "[::]:80" }, "listen on"},
		"oversize": {func(i *registry.Instance, _ *registry.Options) {
			i.Metadata = map[string]string{"k": strings.Repeat("x", 2<<20)}
		}, "64 KiB"},
		"prefix": {func(_ *registry.Instance, o *registry.Options) { o.Prefix = "services/" }, "ends in a slash"},
		"TTL":    {func(_ *registry.Instance, o *registry.Options) { o.Session = &session.Options{TTL: time.Second} }, "under the minimum"},
		"margin": {func(_ *registry.Instance, o *registry.Options) {
			o.Session = &session.Options{TTL: 4 * time.Second, Margin: 2 * time.Second}
		}, "not under half"},
		"waits": {func(_ *registry.Instance, o *registry.Options) { o.Retry = retry.Policy{Jitter: 2} }, "Jitter"},
	} {
		i, o := mail("a"), &registry.Options{Prefix: under(t)}
		c.edit(&i, o)
		_, err := registry.Register(t.Context(), cli, i, o)
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%s: got %v, want the rule %q", what, err, c.rule)
		}
	}
	for service, rule := range map[string]string{"": "empty", "a/../b": `".."`, "mail/": "ends in a slash"} {
		_, err := registry.Watch(t.Context(), cli, service, nil)
		if err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("service %q: got %v, want the rule %q", service, err, rule)
		}
	}
	if sent := calls.Sent(); sent != 0 {
		t.Errorf("%d calls were sent: %v", sent, maps.Collect(maps.All(calls.Counts())))
	}
}

// Defect P8 and B5: since etcd 3.7 the first call burns the caller's whole deadline, and the cause is hidden.
func TestWithoutEtcdOpeningFailsPromptlyAndNamesTheEndpoint(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	for what, open := range map[string]func(context.Context, *clientv3.Client) error{
		"Register": func(ctx context.Context, cli *clientv3.Client) error {
			_, err := registry.Register(ctx, cli, mail("a"), nil)
			return err
		},
		"Watch": func(ctx context.Context, cli *clientv3.Client) error {
			_, err := registry.Watch(ctx, cli, "mail", nil)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			for how, fault := range map[string]struct {
				cut    func(*etcdtest.Link)
				within time.Duration
				after  time.Duration // when ctx ends; 0 for never
			}{
				"refused":             {(*etcdtest.Link).Cut, 3 * time.Second, 0},
				"black hole":          {func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) }, time.Second + promptly, time.Second},
				"cancelled meanwhile": {func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) }, 100*time.Millisecond + promptly, 100 * time.Millisecond},
			} {
				t.Run(how, func(t *testing.T) {
					link := c.Link(0)
					cli := link.Client()
					fault.cut(link)
					ctx := t.Context()
					if fault.after > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, fault.after)
						defer cancel()
					}
					var err error
					took := etcdtest.Returns(t, fault.within, what, func() { err = open(ctx, cli) })
					if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(link.Endpoint(), "http://")) {
						t.Errorf("does not name %s: %v", link.Endpoint(), err)
					}
					t.Logf("after %v: %v", took, err)
				})
			}
		})
	}
}
