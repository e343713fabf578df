package follow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// guarded starts a cluster whose user "app" may read what begins with "a/", and whose tokens live a second after their last
// use. It returns root's client.
func guarded(t *testing.T) (*etcdtest.Cluster, *clientv3.Client) {
	t.Helper()
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *config.ServerConfig) { cfg.TokenTTL = 1 }})
	cli, ctx := c.Client(), t.Context()
	_, err := cli.RoleAdd(ctx, "root")
	do := func(next func() error) {
		if err == nil {
			err = next()
		}
	}
	do(func() error { _, err := cli.RoleAdd(ctx, "app"); return err })
	do(func() error {
		_, err := cli.RoleGrantPermission(ctx, "app", "a/", clientv3.GetPrefixRangeEnd("a/"), clientv3.PermissionType(clientv3.PermRead))
		return err
	})
	for _, name := range []string{"root", "app"} {
		do(func() error { _, err := cli.UserAdd(ctx, name, "secret"); return err })
		do(func() error { _, err := cli.UserGrantRole(ctx, name, name); return err })
	}
	do(func() error { _, err := cli.AuthEnable(ctx); return err })
	if err != nil {
		t.Fatal(err)
	}
	root := c.Dial(clientv3.Config{Username: "root", Password: "secret"})
	return c, root
}

// A stream has the token that it was opened with. Once that has expired etcd refuses every new watch on it, while the old
// ones go on (W5; etcd#8914, etcd#11954, etcd#12385).
func TestANewViewOutlivesTheTokenOfTheStream(t *testing.T) {
	t.Parallel()
	c, root := guarded(t)
	cli := c.Dial(clientv3.Config{Username: "app", Password: "secret"})
	old := attach(t, cli, follow.Prefix("a/"))
	old.synced(t)

	// A plain watch has a stream of its own, which shows when the tokens of that time have expired. Asking uses the token,
	// so it must not be asked too often.
	plain, end := context.WithCancel(t.Context())
	defer end()
	<-cli.Watch(plain, "a/", clientv3.WithCreatedNotify())
	etcdtest.Eventually(t, 30*time.Second, "the token expires", func(context.Context) error {
		<-time.After(2500 * time.Millisecond)
		resp := <-cli.Watch(plain, "a/", clientv3.WithCreatedNotify())
		if err := resp.Err(); err == nil || !strings.Contains(err.Error(), rpctypes.ErrInvalidAuthToken.Error()) {
			return fmt.Errorf("a watch on the stream: %w", err)
		}
		return nil
	})
	put(t, root, "a/1", "1")
	fresh := attach(t, cli, follow.Prefix("a/1"))
	fresh.holds(t, soon, root, "a/1")
	put(t, root, "a/1", "2")
	fresh.holds(t, soon, root, "a/1")
	old.holds(t, soon, root, "a/")
	if n := old.count(isStale); n != 0 {
		t.Errorf("%d interruptions of the old view", n)
	}
}

func TestAViewOfWhatMayNotBeReadSaysSo(t *testing.T) {
	t.Parallel()
	c, root := guarded(t)
	j := attach(t, c.Dial(clientv3.Config{Username: "app", Password: "secret"}), follow.Prefix("b/"))
	j.wait(t, soon, "it is told", func() bool { return stales(j) > 1 })
	if err := j.follower.Status().Err; !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("status: %v", err)
	}
	_, err := root.RoleGrantPermission(t.Context(), "app", "b/", clientv3.GetPrefixRangeEnd("b/"), clientv3.PermissionType(clientv3.PermRead))
	if err != nil {
		t.Fatal(err)
	}
	put(t, root, "b/1", "1")
	j.holds(t, soon, root, "b/") // it never gave up
}

// etcd goes on serving an open watch to a user whose permission was taken away. The check with etcd, each minute, ends that.
func TestAViewEndsWithThePermissionToReadIt(t *testing.T) {
	long(t)
	t.Parallel()
	c, root := guarded(t)
	j := attach(t, c.Dial(clientv3.Config{Username: "app", Password: "secret"}), follow.Prefix("a/"))
	j.synced(t)
	end := clientv3.GetPrefixRangeEnd("a/")
	if _, err := root.RoleRevokePermission(t.Context(), "app", "a/", end); err != nil {
		t.Fatal(err)
	}
	j.wait(t, 75*time.Second, "the view is stale", func() bool { return stales(j) > 0 })
	if err := j.follower.Status().Err; !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("status: %v", err)
	}
	put(t, root, "a/secret", "1")
	if _, err := root.RoleGrantPermission(t.Context(), "app", "a/", end, clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	j.holds(t, soon, root, "a/")
}
