package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func put(t *testing.T, cli *clientv3.Client, key, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp, err := cli.Put(ctx, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func TestMembersStopAndRestart(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.Client()
	put(t, cli, "a", "1")
	first := c.WaitLeader()
	c.Stop(first)
	second := c.WaitOtherLeader(first)
	if c.Follower() == first || c.Follower() == second {
		t.Errorf("follower %d of leader %d without %d", c.Follower(), second, first)
	}
	put(t, cli, "a", "2")

	// Without a majority nothing is written, and what asks for a leader is refused.
	c.Stop(second)
	c.WaitNoLeader()
	left := 3 - first - second
	_, err := c.ClientTo(left).Put(clientv3.WithRequireLeader(t.Context()), "a", "3")
	if !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Errorf("without a majority: %v, want ErrNoLeader", err)
	}
	c.Restart()
	c.WaitLeader()
	put(t, cli, "a", "4")
	for i := range c.Size() {
		resp, err := c.ClientTo(i).Get(t.Context(), "a")
		if err != nil || string(resp.Kvs[0].Value) != "4" || resp.Kvs[0].Version != 3 {
			t.Errorf("member %d: %v, %v", i, resp, err)
		}
	}
}

func TestPartitionLeavesTheMinorityWithoutALeader(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	old := c.WaitLeader()
	c.Partition(old)
	c.WaitOtherLeader(old)
	put(t, c.ClientTo(c.Leader()), "a", "1")
	etcdtest.Eventually(t, soon, "the old leader is refused", func(ctx context.Context) error {
		// What came before the member noticed its loss hangs there for seven seconds. A Get would not do: clientv3
		// repeats it until its context ends.
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err := c.ClientTo(old).Put(clientv3.WithRequireLeader(ctx), "b", "")
		if !errors.Is(err, rpctypes.ErrNoLeader) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	resp, err := c.Oracle(old).Get(t.Context(), "a", clientv3.WithSerializable())
	if err != nil || len(resp.Kvs) != 0 {
		t.Errorf("behind the partition: %v, %v", resp, err)
	}
	// A partition outlives its member.
	c.Stop(old)
	c.Restart(old)
	put(t, c.ClientTo(c.Leader()), "a", "2")
	if resp, err := c.Oracle(old).Get(t.Context(), "a", clientv3.WithSerializable()); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("behind the partition, after a restart: %v, %v", resp, err)
	}
	c.HealPartition()
	etcdtest.WaitKey(t, soon, c.ClientTo(old), "a")

	// Healed while it was stopped.
	c.Partition(old)
	c.Stop(old)
	c.HealPartition()
	c.Restart(old)
	put(t, c.ClientTo(old), "a", "3")
}

func TestBackupAndRestoreTurnBackTime(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.Client()
	before := put(t, cli, "a", "1")
	id := c.Member(0).Server.Cluster().ID()
	b := c.Backup()
	if b.Revision() != before {
		t.Errorf("backup at revision %d, want %d", b.Revision(), before)
	}
	for range 2 {
		if got := put(t, cli, "a", "2"); got != before+1 {
			t.Errorf("revision %d, want %d", got, before+1)
		}
		put(t, cli, "b", "2")
		c.Restore(b)
		if got := c.Revision(); got != before {
			t.Errorf("revision %d after the restore, want %d", got, before)
		}
		resp, err := cli.Get(t.Context(), "a", clientv3.WithFromKey())
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "1" {
			t.Errorf("after the restore: %v, %v", resp, err)
		}
		if got := c.Member(0).Server.Cluster().ID(); got != id {
			t.Errorf("cluster %v became %v", id, got)
		}
	}
}

func TestDataAreHurtBehindTheOwnersBack(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	old := put(t, cli, "a", "1")
	put(t, cli, "a", "2")
	if got := c.Compact(0); got != c.Revision() {
		t.Errorf("compacted at %d", got)
	}
	if _, err := cli.Get(t.Context(), "a", clientv3.WithRev(old)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a compacted revision: %v", err)
	}

	lease, err := cli.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(t.Context(), "leased", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKeys(t, soon, cli, "", 2)
	c.Revoke(lease.ID)
	etcdtest.WaitGone(t, soon, cli, "leased")
	c.Delete("a")
	etcdtest.WaitKeys(t, soon, cli, "", 0)

	c.FillUp()
	if _, err := cli.Put(t.Context(), "a", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("a full database: %v", err)
	}
	if _, err := cli.Delete(t.Context(), "a"); err != nil {
		t.Errorf("deleting from a full database: %v", err)
	}
	c.FreeUp()
	put(t, cli, "a", "")
}

func TestTwoClustersAtOnceAreTwo(t *testing.T) {
	t.Parallel()
	one, two := etcdtest.New(t, nil), etcdtest.New(t, nil)
	put(t, one.Client(), "a", "1")
	resp, err := two.Client().Get(t.Context(), "a")
	if err != nil || len(resp.Kvs) != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestClientsCanSync(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.ClientTo(0)
	if err := cli.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := cli.Endpoints(); len(got) != 3 {
		t.Errorf("endpoints %v", got)
	}
	put(t, cli, "a", "")
}

// Main makes this binary fit for etcdproc, and a link leads to a process as well.
func TestALinkLeadsToAMemberThatIsAProcess(t *testing.T) {
	c, err := etcdproc.Start(t.Context(), etcdproc.Config{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	l := etcdtest.NewLink(t, c.Endpoint(0))
	put(t, l.Client(), "a", "")
	if l.Accepted() != 1 {
		t.Errorf("%d connections", l.Accepted())
	}
}

func TestLinksHurtOneMember(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	links := c.Links()
	cli := links.Client()
	put(t, cli, "a", "1")
	links.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := cli.Get(ctx, "a"); err == nil {
		t.Error("a Get succeeded over three cut links")
	}
	links[1].Heal()
	put(t, cli, "a", "2")
	links.Heal()
}
