package registry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// starting is instance id of the service that most tests register, which is not Ready yet.
func starting(id string) registry.Instance {
	i := mail(id)
	i.State = registry.Starting
	return i
}

// update sets a registration's state.
func update(t *testing.T, r *registry.Registration, to registry.State) {
	t.Helper()
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.State = to }); err != nil {
		t.Fatal(err)
	}
}

// etcd's own resolver looks at no state: for it an instance that is not Ready must not be there.
func TestAnInstanceThatIsNotReadyIsKeptOutOfEtcdIfThatIsAsked(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	theirs := followEndpoints(t, cli, prefix+"/mail")
	r := register(t, cli, starting("a"), &registry.Options{Prefix: prefix, HideUnready: true})
	if r.Revision() != 0 || r.Err() != nil {
		t.Errorf("nothing is written so far, and Revision is %d, Err %v", r.Revision(), r.Err())
	}
	update(t, r, registry.Ready)
	if kv := get(t, cli, prefix+"/mail/a"); kv == nil || kv.ModRevision != r.Revision() {
		t.Errorf("ready at revision %d, and etcd has %v", r.Revision(), kv)
	}
	etcdtest.Eventually(t, soon, "they see it", func(context.Context) error { return theirs.has("a") })
	ready := r.Revision()
	if err := r.Drain(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if gone := history(t, cli, prefix+"/", ready); len(gone) != 1 || gone[0].Kv.ModRevision != r.Revision() {
		t.Errorf("draining at revision %d, after %v", r.Revision(), gone)
	}
	etcdtest.Eventually(t, soon, "they see it no more", func(context.Context) error { return theirs.has() })
	update(t, r, registry.Starting)
	update(t, r, registry.Ready)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	want := []string{"ready", "gone", "ready", "gone"}
	if got := steps(t, cli, prefix); !slices.Equal(got, want) {
		t.Errorf("it was %v, want %v", got, want)
	}
}

// What is hidden repairs itself too: its absence.
func TestAHiddenInstanceStaysHidden(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/a"
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, HideUnready: true})
	lease := clientv3.LeaseID(get(t, cli, key).Lease)
	update(t, r, registry.Starting)
	for what, opts := range map[string][]clientv3.OpOption{"without a lease": nil, "on its own": {clientv3.WithLease(lease)}} {
		for _, value := range []string{`{"Addr":"10.6.6.6:80"}`, ""} {
			if _, err := cli.Put(t.Context(), key, value, opts...); err != nil {
				t.Fatal(err)
			}
			etcdtest.WaitGone(t, soon, cli, key) // less and less promptly
			t.Logf("a stranger's %q, %s, was deleted", value, what)
		}
	}
	etcdtest.Shared(t).Revoke(lease)
	update(t, r, registry.Ready)
	if kv := get(t, cli, key); kv == nil || kv.Lease == int64(lease) {
		t.Errorf("ready after the lease was lost, and etcd has %v", kv)
	}
	healthy(t, repaired, r)
}

// The key of a process that died, and has the ID no more, must not be found while the next one starts.
func TestAHiddenInstanceTakesAwayWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	register(t, link.Client(), mail("a"), nil)
	link.Cut() // as a process that is no more
	r := register(t, c.Client(), starting("a"), &registry.Options{HideUnready: true})
	etcdtest.WaitKeys(t, soon, c.Client(), "services/", 0)
	update(t, r, registry.Ready)
	etcdtest.WaitKeys(t, soon, c.Client(), "services/", 1)
}

// A deletion whose reply is lost is resolved as a write is.
func TestALostReplyToHidingIsResolved(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("carried out %v", after), func(t *testing.T) {
			t.Parallel()
			var calls etcdtest.Calls
			cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			prefix := under(t)
			r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, HideUnready: true})
			f := calls.Inject(etcdtest.Fault{Call: "Txn", Match: deletes, After: after, Silent: true})
			update(t, r, registry.Starting)
			etcdtest.Done(t, soon, "the losing of a reply", f.Hit())
			if got := strings.Join(steps(t, cli, prefix), " "); got != "ready gone" {
				t.Errorf("it was %s", got)
			}
			healthy(t, repaired, r)
			update(t, r, registry.Ready)
			if kv := get(t, cli, prefix+"/mail/a"); kv == nil || kv.ModRevision != r.Revision() {
				t.Errorf("ready at revision %d, and etcd has %v", r.Revision(), kv)
			}
		})
	}
}
