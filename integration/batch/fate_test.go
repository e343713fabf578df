package batch_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestAppliedTellsTheRevisionAtWhichItIsInEtcd(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	w := open(t, cli, nil)
	all := map[string]batch.Pending{}
	for _, key := range append(keys(p, 300), p+"\x00", p+"with\x00inside", p+"") {
		all[key] = put(t, w, key, "of "+key)
	}
	for key, pending := range all {
		rev := applied(t, pending)
		if kv := get(t, cli, key); kv == nil || kv.ModRevision != rev || string(kv.Value) != "of "+key {
			t.Errorf("%q at revision %d is %v", key, rev, kv)
		}
		if pending.Superseded() {
			t.Errorf("%q is superseded", key)
		}
	}
	gone := del(t, w, p+"00007")
	applied(t, gone)
	if get(t, cli, p+"00007") != nil || get(t, cli, p+"00008") == nil {
		t.Error("a deletion deleted another key, or none")
	}
	applied(t, del(t, w, p+"was never there"))
	applied(t, put(t, w, p+"empty", ""))
	if kv := get(t, cli, p+"empty"); kv == nil || len(kv.Value) != 0 {
		t.Errorf("an empty value is %v", kv)
	}
}

// The write is unconditional: sending it again could write over what somebody else wrote in between.
func TestALostAnswerIsUnknownAndNothingIsSentAgain(t *testing.T) {
	t.Parallel()
	for what, after := range map[string]bool{"before it was carried out": false, "after": true} {
		t.Run(what, func(t *testing.T) {
			cli, calls := counted(t)
			p := etcdtest.Prefix(t)
			w := open(t, cli, nil)
			calls.Inject(etcdtest.Fault{Call: "Txn", After: after})
			pending := put(t, w, p+"k", "v")
			_, err := fate(t, pending)
			if !errors.Is(err, batch.ErrUnknown) || !retry.Ambiguous(err) || !strings.Contains(err.Error(), p+"k") {
				t.Errorf("%v, want unknown, with the key", err)
			}
			if n := calls.Count("Txn"); n != 1 {
				t.Errorf("%d transactions", n)
			}
			if there := get(t, cli, p+"k") != nil; there != after {
				t.Errorf("in etcd: %t", there)
			}
			if err := flush(t, w); !errors.Is(err, batch.ErrUnknown) {
				t.Errorf("Flush: %v", err)
			}
		})
	}
}

func TestASoleWriterSendsAgainUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Sole: true, Retry: retry.Policy{Initial: time.Millisecond}})
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: 2, After: true})
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: 2})
	rev := applied(t, put(t, w, p+"k", "v"))
	if kv := get(t, cli, p+"k"); kv == nil || kv.ModRevision != rev || kv.Version != 3 {
		t.Errorf("applied at revision %d, and is %v", rev, kv)
	}
	if n := calls.Count("Txn"); n != 5 {
		t.Errorf("%d transactions, want 5", n)
	}

	// It gives up as its policy says, and does not forget that an earlier attempt may have been applied.
	w = open(t, cli, &batch.Options{Sole: true, Retry: retry.Policy{Initial: time.Millisecond, MaxAttempts: 2}})
	calls.Inject(etcdtest.Fault{Call: "Txn"})
	calls.Inject(etcdtest.Fault{Call: "Txn", Err: rpctypes.ErrGRPCNoLeader})
	failed(t, put(t, w, p+"k", "v"), batch.ErrUnknown, rpctypes.ErrNoLeader)
}

func TestWhatEtcdRefusesForNowIsSentAgain(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	var calls etcdtest.Calls
	left := c.Follower()
	cli := c.Dial(clientv3.Config{Endpoints: []string{c.Endpoint(left)}, DialOptions: calls.DialOptions()})
	w := open(t, cli, &batch.Options{Retry: retry.Policy{Initial: 10 * time.Millisecond, MaxElapsed: time.Minute}})
	applied(t, put(t, w, "before", "v"))

	others := []int{(left + 1) % 3, (left + 2) % 3}
	c.Stop(others...)
	c.WaitNoLeader()
	sent := calls.Count("Txn")
	pending := put(t, w, "during", "v")
	calls.WaitCount(t, soon, "Txn", sent+3)
	etcdtest.Nothing(t, 50*time.Millisecond, "a fate without a majority", pending.Done())
	c.Restart(others...)
	rev, err := fate(t, pending)
	if err != nil {
		t.Fatal(err)
	}
	if kv := get(t, c.Client(), "during"); kv == nil || kv.ModRevision != rev || kv.Version != 1 {
		t.Errorf("applied at revision %d, and is %v", rev, kv)
	}
}

// etcd may say ErrNoSpace of what it has applied, so it is unknown; and trying again helps nobody.
func TestAFullDatabaseLeavesPutsUnknownAndTakesDeletes(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	w := open(t, cli, nil)
	applied(t, put(t, w, "old", "v"))
	c.FillUp()
	calls.Reset()
	failed(t, put(t, w, "new", "v"), batch.ErrUnknown, rpctypes.ErrNoSpace)
	if n := calls.Count("Txn"); n != 1 {
		t.Errorf("%d transactions", n)
	}
	applied(t, del(t, w, "old"))
	c.FreeUp()
	applied(t, put(t, w, "new", "v"))
}

func TestKeysHangOnTheLeaseWhileItLives(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	lease, err := cli.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(t.Context(), p+"stays", "v"); err != nil {
		t.Fatal(err)
	}
	w := open(t, cli, &batch.Options{Lease: lease.ID, Interval: never, MaxOps: 4})
	kept := put(t, w, p+"kept", "v")
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	if kv := get(t, cli, p+"kept"); kv == nil || kv.Lease != int64(lease.ID) || kv.ModRevision != applied(t, kept) {
		t.Errorf("the key is %v, want it on lease %x", kv, lease.ID)
	}

	etcdtest.Shared(t).Revoke(lease.ID)
	if get(t, cli, p+"kept") != nil {
		t.Error("the key has outlived its lease")
	}
	calls.Reset()
	first, second := put(t, w, p+"a", "v"), put(t, w, p+"b", "v")
	gone := del(t, w, p+"stays")
	third := put(t, w, p+"c", "v")
	for _, pending := range []batch.Pending{first, second, third} {
		failed(t, pending, batch.ErrNotApplied, rpctypes.ErrLeaseNotFound)
	}
	applied(t, gone)
	if kv := get(t, cli, p+"stays"); kv != nil {
		t.Errorf("deleted, and is %v", kv)
	}
	// All, the puts, the deletes.
	if n := calls.Count("Txn"); n != 3 {
		t.Errorf("%d transactions, want 3", n)
	}
}

func TestOneForbiddenKeyDoesNotCondemnTheOthers(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	admin := c.Client()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.RoleAdd(t.Context(), "root"))
	must(admin.UserAdd(t.Context(), "root", "root"))
	must(admin.UserGrantRole(t.Context(), "root", "root"))
	must(admin.RoleAdd(t.Context(), "writer"))
	must(admin.RoleGrantPermission(t.Context(), "writer", "mine/", clientv3.GetPrefixRangeEnd("mine/"), clientv3.PermissionType(clientv3.PermWrite)))
	must(admin.UserAdd(t.Context(), "writer", "writer"))
	must(admin.UserGrantRole(t.Context(), "writer", "writer"))
	must(admin.AuthEnable(t.Context()))
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{Username: "writer", Password: "writer", DialOptions: calls.DialOptions()})

	w := open(t, cli, &batch.Options{Interval: never})
	var mine, others []batch.Pending
	for i, key := range keys("mine/", 126) {
		if i == 17 {
			others = append(others, put(t, w, "theirs/a", "v"))
		}
		mine = append(mine, put(t, w, key, "v"))
	}
	others = append(others, del(t, w, "theirs/b"))
	for _, pending := range mine {
		applied(t, pending)
	}
	for _, pending := range others {
		failed(t, pending, batch.ErrNotApplied, rpctypes.ErrPermissionDenied)
	}
	// All, and for each of the two 2 log 128 more; half of these are the same halves.
	if n := calls.Count("Txn"); n > 1+2*2*7 {
		t.Errorf("%d transactions", n)
	}
	if err := flush(t, w); !errors.Is(err, batch.ErrNotApplied) || !strings.Contains(err.Error(), "theirs/a") ||
		!strings.Contains(err.Error(), "theirs/b") || strings.Contains(err.Error(), "mine/") {
		t.Errorf("Flush: %v, want the two keys that are forbidden", err)
	}
	if err := flush(t, w); err != nil {
		t.Errorf("Flush tells of a failure twice: %v", err)
	}
}
