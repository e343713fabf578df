package registry_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) {
	// Many of these tests wait for a TTL to be over: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

const (
	// soon is the patience with what has no bound of its own; a busy machine may need it.
	soon = 10 * time.Second

	// promptly is the bound of everything that was cancelled.
	promptly = 250 * time.Millisecond

	// repaired is the bound of putting an instance back while etcd is there: a second, and a busy machine's share.
	repaired = 1500 * time.Millisecond

	// shortTTL is the least TTL of a session.
	shortTTL = 2 * time.Second
)

// short makes an instance that died disappear as soon as can be.
var short = &session.Options{TTL: shortTTL}

// under returns the prefix for a test's services, made of its key prefix.
func under(t *testing.T) string { return strings.TrimSuffix(etcdtest.Prefix(t), "/") }

// mail is instance id of the service that most tests register.
func mail(id string) registry.Instance {
	return registry.Instance{Service: "mail", ID: id, Addr: "10.0.0.7:80"}
}

// register announces an instance for the test's time.
func register(t *testing.T, cli *clientv3.Client, i registry.Instance, opts *registry.Options) *registry.Registration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	r, err := registry.Register(ctx, cli, i, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.Close(ctx) // the test may have closed it, or the way to etcd
	})
	return r
}

// watch opens a view for the test's time.
func watch(t *testing.T, cli *clientv3.Client, service, prefix string) *registry.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := registry.Watch(ctx, cli, service, &registry.ViewOptions{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// list is a snapshot's instances, for people.
func list(s registry.Snapshot) []string {
	all := make([]string, len(s.Instances))
	for n, i := range s.Instances {
		all[n] = fmt.Sprintf("%+v", *i)
	}
	return all
}

// sees returns the first snapshot that is live and lists exactly the given IDs, and fails the test if none does within
// the given time.
func sees(t *testing.T, within time.Duration, v *registry.View, ids ...string) registry.Snapshot {
	t.Helper()
	return awaits(t, within, v, "live with "+strings.Join(ids, " "), func(s registry.Snapshot) bool {
		return s.Source == registry.Live && slices.EqualFunc(s.Instances, ids, func(i *registry.Instance, id string) bool { return i.ID == id })
	})
}

// awaits returns the first snapshot for which ok holds.
func awaits(t *testing.T, within time.Duration, v *registry.View, what string, ok func(registry.Snapshot) bool) registry.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var last registry.Snapshot
	for last = range v.Changes(ctx) {
		if ok(last) {
			return last
		}
	}
	t.Fatalf("not %s within %v: %v, %s, revision %d, generation %d (%v)", what, within, list(last), last.Source, last.Revision, last.Generation, v.Err())
	panic("unreachable")
}

// get returns a key as etcd has it, or nil.
func get(t *testing.T, cli *clientv3.Client, key string) *mvccpb.KeyValue {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp, err := cli.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0]
}

// history returns every event under a prefix after a revision, in order.
func history(t *testing.T, cli *clientv3.Client, prefix string, after int64) []*clientv3.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	end, err := cli.Put(ctx, prefix+"\xff", "")
	if err != nil {
		t.Fatal(err)
	}
	var events []*clientv3.Event
	for resp := range cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision == end.Header.Revision {
				return events
			}
			events = append(events, ev)
		}
	}
	t.Fatalf("the history under %q was not read within %v", prefix, soon)
	panic("unreachable")
}

// healthy fails the test unless the registration becomes announced within the given time.
func healthy(t *testing.T, within time.Duration, r *registry.Registration) {
	t.Helper()
	etcdtest.Eventually(t, within, "announced", func(context.Context) error { return r.Err() })
}
