package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// askOpts are those of a test's prefix.
func askOpts(prefix string) *registry.AskOptions {
	return &registry.AskOptions{Prefix: prefix, By: "ann"}
}

// asks asks for a state, which must be answered.
func asks(t *testing.T, cli *clientv3.Client, prefix, id string, to registry.State) {
	t.Helper()
	if err := registry.Ask(t.Context(), cli, "mail", id, to, askOpts(prefix)); err != nil {
		t.Fatalf("%v: %v", to, err)
	}
}

func TestAnInstanceDrainsWhenItIsAskedToUntilItIsAskedBack(t *testing.T) {
	t.Parallel()
	cli, operator, prefix := etcdtest.Client(t), etcdtest.Client(t), under(t)
	v := watch(t, etcdtest.Client(t), "mail", prefix)
	core, logs := observer.New(zap.InfoLevel)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, Logger: zap.New(core)})
	asks(t, operator, prefix, "a", registry.Draining)
	state(t, v, registry.Draining)
	if all := logs.All(); len(all) != 1 || all[0].Message != "asked from outside" || all[0].ContextMap()["by"] != "ann" {
		t.Errorf("logged %v", all) // it was announced all the time
	}
	if err := r.Err(); !errors.Is(err, registry.ErrDrained) {
		t.Errorf("the process knows %v", err)
	}
	// Neither its program nor the loss of its lease makes it ready.
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone, i.State = "eu", registry.Ready }); err != nil {
		t.Error(err)
	}
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, cli, prefix+"/mail/a").Lease))
	etcdtest.WaitKey(t, soon, cli, prefix+"/mail/a")
	if value := string(get(t, cli, prefix+"/mail/a").Value); !strings.Contains(value, `"State":"draining"`) || !strings.Contains(value, `"Zone":"eu"`) || strings.Contains(value, "Asked") {
		t.Errorf("%s", value)
	}
	asks(t, operator, prefix, "a", registry.Draining) // again does no harm
	asks(t, operator, prefix, "a", registry.Ready)
	state(t, v, registry.Ready)
	healthy(t, soon, r)

	// What the program wants is not for others to undo.
	update(t, r, registry.Draining)
	if err := registry.Ask(t.Context(), operator, "mail", "a", registry.Ready, askOpts(prefix)); err == nil || !strings.Contains(err.Error(), "its own program's will") {
		t.Errorf("%v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, prefix+"/", 1)
	if value := string(get(t, cli, prefix+"/mail/a").Value); strings.Contains(value, "Asked") {
		t.Errorf("%s", value)
	}
}

func TestAnInstanceThatHidesIsGoneWhenItDrains(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, HideUnready: true})
	asks(t, etcdtest.Client(t), prefix, "a", registry.Draining)
	etcdtest.WaitGone(t, soon, cli, prefix+"/mail/a")
	if err := r.Err(); !errors.Is(err, registry.ErrDrained) {
		t.Errorf("%v", err)
	}
	if err := registry.Ask(t.Context(), cli, "mail", "a", registry.Ready, askOpts(prefix)); !errors.Is(err, registry.ErrNoInstance) {
		t.Errorf("%v", err)
	}
}

// Requests and the program's own updates meet, and neither is lost.
func TestRequestsAndUpdatesDoNotOverwriteEachOther(t *testing.T) {
	t.Parallel()
	cli, operator, prefix := etcdtest.Client(t), etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	stop, updated := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { updated <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
				if err := r.Update(context.Background(), func(i *registry.Instance) { i.Version = fmt.Sprint(n + 1) }); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range 25 {
		asks(t, operator, prefix, "a", registry.Draining)
		if value := string(get(t, cli, prefix+"/mail/a").Value); !strings.Contains(value, `"State":"draining"`) {
			t.Errorf("after the answer: %s", value)
		}
		asks(t, operator, prefix, "a", registry.Ready)
		if value := string(get(t, cli, prefix+"/mail/a").Value); strings.Contains(value, `"State"`) {
			t.Errorf("after the answer: %s", value)
		}
	}
	close(stop)
	n := <-updated
	t.Logf("%d updates", n)
	if value := string(get(t, cli, prefix+"/mail/a").Value); !strings.Contains(value, fmt.Sprintf(`"Version":"%d"`, n)) {
		t.Errorf("after %d updates: %s", n, value)
	}
	healthy(t, soon, r)
}

func TestWhoDoesNotHeedARequestIsTold(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/old"
	lease, err := cli.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	const value = `{"Addr":"10.0.0.7:80","Colour":"red","Weight":7}`
	put := func(ctx context.Context) {
		_, _ = cli.Put(ctx, key, value, clientv3.WithLease(lease.ID))
	}
	put(t.Context())

	// Nobody is there: readers see it all the same, and nothing else of it has changed.
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := registry.Ask(brief, cli, "mail", "old", registry.Draining, askOpts(prefix)); !errors.Is(err, registry.ErrUnanswered) {
		t.Errorf("%v", err)
	}
	kv := get(t, cli, key)
	var fields map[string]any
	if err := json.Unmarshal(kv.Value, &fields); err != nil || fields["State"] != "draining" || fields["Colour"] != "red" || fields["Weight"] != 7.0 || kv.Lease != int64(lease.ID) {
		t.Errorf("%v, %s, lease %x", err, kv.Value, kv.Lease)
	}

	// Somebody puts it back, as registrations of before did.
	ctx, end := context.WithCancel(t.Context())
	watching, done := make(chan struct{}), make(chan struct{})
	put(ctx)
	go func() {
		defer close(done)
		for resp := range cli.Watch(ctx, key, clientv3.WithCreatedNotify()) {
			if resp.Created {
				close(watching)
			}
			for _, ev := range resp.Events {
				if string(ev.Kv.Value) != value {
					put(ctx)
				}
			}
		}
	}()
	etcdtest.Done(t, soon, "the watch", watching)
	if err := registry.Ask(t.Context(), cli, "mail", "old", registry.Draining, askOpts(prefix)); !errors.Is(err, registry.ErrNotHeeded) {
		t.Errorf("%v", err)
	}
	end()
	<-done

	for _, id := range []string{"none", "bad"} {
		if _, err := cli.Put(t.Context(), prefix+"/mail/bad", "{"); err != nil {
			t.Fatal(err)
		}
		if err := registry.Ask(t.Context(), cli, "mail", id, registry.Draining, askOpts(prefix)); err == nil || errors.Is(err, registry.ErrNoInstance) != (id == "none") {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, err := range []error{
		registry.Ask(t.Context(), cli, "mail/", "a", registry.Draining, nil), registry.Ask(t.Context(), cli, "mail", "a/b", registry.Draining, nil),
		registry.Ask(t.Context(), cli, "mail", "a", registry.Starting, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v", err)
		}
	}
}

// A request that comes back with a backup is none to a registration that has written since.
func TestARequestOfThePastIsNotHeeded(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	key := prefix + "/mail/a"
	kv := get(t, cli, key)
	stale := strings.Replace(string(kv.Value), "{", fmt.Sprintf(`{"Asked":{"State":"draining","Of":%d},"State":"draining",`, kv.ModRevision-1), 1)
	resp, err := cli.Put(t.Context(), key, stale, clientv3.WithLease(clientv3.LeaseID(kv.Lease)))
	if err != nil {
		t.Fatal(err)
	}
	etcdtest.Eventually(t, soon, "the instance put back", func(context.Context) error {
		if now := get(t, cli, key); now.ModRevision == resp.Header.GetRevision() || string(now.Value) != string(kv.Value) {
			return errors.New(string(now.Value))
		}
		return nil
	})
	healthy(t, soon, r)
}

func TestARightOnTheKeyIsEnoughToAsk(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	allow := func(prefix string) func(cli *clientv3.Client) {
		return func(cli *clientv3.Client) {
			user := "registrant"
			end := clientv3.GetPrefixRangeEnd(prefix)
			if !strings.HasSuffix(prefix, "/") {
				user, end = "reader", ""
			}
			if _, err := cli.RoleGrantPermission(t.Context(), user, prefix, end, clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
				t.Fatal(err)
			}
		}
	}
	as := users(t, c, map[string]func(*clientv3.Client){"registrant": allow("services/"), "reader": allow("services/mail/a")})
	cli := as("registrant")
	register(t, cli, mail("a"), nil)
	register(t, cli, mail("b"), nil) // on the same lease, and not the operator's to write
	asks(t, as("reader"), "", "a", registry.Draining)
	if err := registry.Ask(t.Context(), as("reader"), "mail", "b", registry.Draining, nil); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v", err)
	}
}
