package queue_test

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// What who pushes without IDs needs to be allowed, and no more.
func TestTheLeastRightsToPush(t *testing.T) {
	t.Parallel()
	const name, password = "rights", "p"
	c := etcdtest.New(t, nil)
	admin := c.Client()
	done := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	grant := func(role, below string, kind clientv3.PermissionType) {
		t.Helper()
		from := queue.Root + name + "//" + below
		done(admin.RoleGrantPermission(t.Context(), role, from, clientv3.GetPrefixRangeEnd(from), kind))
	}
	for _, user := range []string{"root", "pusher", "slotless"} {
		done(admin.UserAdd(t.Context(), user, password))
		done(admin.RoleAdd(t.Context(), user))
		done(admin.UserGrantRole(t.Context(), user, user))
	}
	grant("pusher", "line/jobs/", clientv3.PermissionType(clientv3.PermWrite))
	grant("pusher", "pushed/", clientv3.PermissionType(clientv3.PermReadWrite))
	grant("slotless", "line/jobs/", clientv3.PermissionType(clientv3.PermReadWrite))
	done(admin.AuthEnable(t.Context()))
	as := func(user string) (*queue.Queue[string], *etcdtest.Calls) {
		var calls etcdtest.Calls
		cli := c.Dial(clientv3.Config{Username: user, Password: password, DialOptions: calls.DialOptions()})
		return queue.New[string](cli, name, nil), &calls
	}
	q, calls := as("pusher")
	calls.Inject(etcdtest.Fault{Call: "Txn", Skip: 1, After: true}) // so that a slot is read, too
	for n := range 3 {
		if _, err := q.PushMany(t.Context(), pushItems(200), nil); err != nil {
			t.Fatal(n, err)
		}
	}
	if jobs := pushedJobs(t, c.Dial(clientv3.Config{Username: "root", Password: password}), name); len(jobs) != 600 {
		t.Errorf("%d jobs", len(jobs))
	}
	q, _ = as("slotless")
	_, err := q.Push(t.Context(), "item", nil)
	if failed, ok := errors.AsType[*queue.PushError](err); !ok || failed.Unknown != 0 || !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Error(err)
	}
}
