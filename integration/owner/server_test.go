package owner_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// calm is the heartbeat of clusters whose leader is to be lost for no other reason than the test's.
const calm = 50 * time.Millisecond

// waitRenewed waits until a session's trust reaches as far as the given time.
func waitRenewed(t *testing.T, s *session.Session, until time.Time) {
	t.Helper()
	etcdtest.Eventually(t, time.Until(until)+time.Second, "renewals", func(context.Context) error {
		if err := s.Context().Err(); err != nil {
			t.Fatalf("the session ended: %v", context.Cause(s.Context()))
		}
		if s.TrustedUntil().Before(until) {
			return errors.New("not renewed")
		}
		return nil
	})
}

// Fault F1: the loss of etcd's leader is no loss of anything owned.
func TestTheSameOwnerOwnsAcrossTheLossOfEtcdsLeader(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		const ttl = 5 * time.Second
		c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: calm})
		cli, name := k.dial(t, c.Endpoints()...), etcdtest.Prefix(t)+"name"
		s := open(t, cli, ttl)
		o := own(t, k, s, name)
		waiter := standInLine(t, k, open(t, k.dial(t, c.Endpoints()...), ttl), name, 2)
		for range 2 {
			leader := c.WaitLeader()
			c.Stop(leader)
			c.WaitOtherLeader(leader)
			c.Restart(leader)
		}
		waitRenewed(t, s, time.Now().Add(ttl)) // all of what was trusted before is over by then
		if err := o.Context().Err(); err != nil {
			t.Fatalf("the owner ended: %v", context.Cause(o.Context()))
		}
		waiter.waits(t)
		if _, err := o.Guard().Commit(o.Context(), cli, clientv3.OpPut(name+"-data", "")); err != nil {
			t.Errorf("a write under the guard: %v", err)
		}
		release(t, o)
		if next := waiter.owns(t, soon); next.Guard().Token <= o.Guard().Token {
			t.Errorf("token %d follows %d", next.Guard().Token, o.Guard().Token)
		}
	})
}

// Fault F15.
func TestARestartOfAllMembersWithinTheWindowLosesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		const ttl = 5 * time.Second
		c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: calm})
		cli, name := k.dial(t, c.Endpoints()...), etcdtest.Prefix(t)+"name"
		s := open(t, cli, ttl)
		o := own(t, k, s, name)
		waiter := standInLine(t, k, open(t, k.dial(t, c.Endpoints()...), ttl), name, 2)
		c.Stop()
		c.Restart()
		waitRenewed(t, s, time.Now().Add(ttl))
		if err := o.Context().Err(); err != nil {
			t.Fatalf("the owner ended: %v", context.Cause(o.Context()))
		}
		waiter.waits(t)
		release(t, o)
		waiter.owns(t, soon)
	})
}

// Fault F13: what takes nothing but gives back must work when the database is full.
func TestWithAFullDatabaseReleasingWorksAndAcquiringFailsTyped(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		c := etcdtest.New(t, nil)
		cli, name := k.dial(t, c.Endpoints()...), etcdtest.Prefix(t)+"name"
		s := open(t, cli, time.Minute)
		first := own(t, k, s, name)
		second := standInLine(t, k, s, name, 2)
		c.FillUp()
		release(t, first)
		release(t, second.owns(t, soon))
		lineIsEmpty(t, cli, name)
		refused := stand(t.Context(), k, s, name)
		if err := refused.fails(t, 2*time.Second); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("acquiring: %v, want rpctypes.ErrNoSpace", err)
		}
		lineIsEmpty(t, cli, name)
		if s.Context().Err() != nil {
			t.Errorf("the session ended: %v", context.Cause(s.Context()))
		}
		c.FreeUp()
		release(t, own(t, k, s, name))
	})
}

// Fault F12 (etcd#14303, etcd#16028): a restored backup comes without any error, and its past may own what was owned
// since.
func TestRestoredDataEndTheOwner(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		c := etcdtest.New(t, nil)
		cli, name := k.dial(t, c.Endpoints()...), etcdtest.Prefix(t)+"name"
		s := open(t, cli, 10*time.Second)
		backup := c.Backup() // has the lease, but not the key
		for range 20 {
			put(t, cli, name+"-noise", "")
		}
		o := own(t, k, s, name)
		waiter := standInLine(t, k, s, name, 2)
		trusted := s.TrustedUntil()
		s.Probe()
		waitRenewed(t, s, trusted.Add(time.Millisecond)) // and the session has seen the later revision
		c.Restore(backup)
		lost(t, soon, o)
		refuseWrites(t, cli, o.Guard(), name+"-data")
		if err := waiter.fails(t, soon); !errors.Is(err, fence.ErrLost) {
			t.Errorf("the waiter failed with %v, want fence.ErrLost", err)
		}
		if err := o.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
			t.Errorf("release: %v, want fence.ErrLost", err)
		}
		release(t, own(t, k, open(t, cli, 0), name))
	})
}
