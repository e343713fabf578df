package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// keep returns a keeper for the test's time.
func keep(t *testing.T, cli *clientv3.Client) *session.Keeper {
	t.Helper()
	k := session.NewKeeper(cli, &session.Options{TTL: time.Minute})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := k.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return k
}

// revoke revokes the lease of an acquisition.
func revoke(t *testing.T, cli *clientv3.Client, h *lock.Held) {
	t.Helper()
	got, err := cli.Get(t.Context(), h.Guard().Key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(got.Kvs[0].Lease))
}

// A key is seen to go, or cannot be put, before the session is known to have ended: that is no error to whoever locks next.
func TestWithAKeeperTheNextLockIsHeldWhateverBecameOfTheLast(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	k := keep(t, cli)
	for i := range 20 {
		lost := locked(t, lock.NewMutex(k, name))
		revoke(t, cli, lost)
		if i%2 == 0 {
			etcdtest.Done(t, soon, "the context", lost.Context().Done())
		}
		var h *lock.Held
		if i%4 < 2 {
			h = locked(t, lock.NewMutex(k, name))
		} else {
			var err error
			if h, err = lock.NewMutex(k, name).TryLock(t.Context()); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if err := lost.Unlock(t.Context()); !errors.Is(err, fence.ErrLost) {
			t.Errorf("%d: Unlock of what was lost: %v", i, err)
		}
		unlock(t, h)
	}
}

func TestWithAKeeperAWaiterWhoseSessionIsLostWaitsOn(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	first := locked(t, lock.NewMutex(open(t, etcdtest.Client(t)), name))
	k := keep(t, cli)
	other := locked(t, lock.NewMutex(k, name+"-other")) // through the same session
	got := waiting(t, lock.NewMutex(k, name), cli, name, 2)
	revoke(t, cli, other)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 1)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
	unlock(t, first)
	unlock(t, etcdtest.Receive(t, soon, "the lock", got))
	// One session is all that a *Session has.
	s := open(t, cli)
	one := locked(t, lock.NewMutex(s, name))
	revoke(t, cli, one)
	if _, err := lock.NewMutex(s, name).Lock(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Errorf("through a session that was lost: %v", err)
	}
	_ = one.Unlock(t.Context()) // it was lost
	unlockAll, err := lock.NewMulti(k, name, name+"-other").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unlockAll.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUnlockOfNothingIsNothing(t *testing.T) {
	t.Parallel()
	var h *lock.Held
	if err := h.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}
