package owner_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

var errEnough = errors.New("waited long enough")

func TestACancelledWaitReturnsTheCauseAndLeavesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, 0)
		o := own(t, k, s, name)
		waiter := standInLine(t, k, s, name, 2)
		waiter.cancel(errEnough)
		if err := waiter.fails(t, promptly); !errors.Is(err, errEnough) {
			t.Errorf("a wait that was cancelled returned %v, want the cause", err)
		}
		resp, err := cli.Get(t.Context(), name+"/", clientv3.WithPrefix())
		if err != nil || resp.Count != 1 || string(resp.Kvs[0].Key) != o.Guard().Key {
			t.Errorf("the line is %v, want the owner alone (%v)", resp, err)
		}
		if o.Context().Err() != nil {
			t.Errorf("the owner ended: %v", context.Cause(o.Context()))
		}
		done, cancel := context.WithCancelCause(t.Context())
		cancel(errEnough)
		if _, err := k.acquire(done, s, name+"-free"); !errors.Is(err, errEnough) {
			t.Errorf("under a context that has ended: %v, want its cause", err)
		}
	})
}

// Defects P3, C1 and C2 (etcd#19597): a concurrency waiter whose lease died waits on, and Campaign even returns nil when
// its turn comes.
func TestAWaiterWhoseLeaseDiedStopsWaiting(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		o := own(t, k, open(t, cli, 0), name)
		s := open(t, cli, time.Minute)
		waiter := standInLine(t, k, s, name, 2)
		etcdtest.Shared(t).Revoke(s.Lease())
		if err := waiter.fails(t, noticed); !errors.Is(err, fence.ErrLost) {
			t.Errorf("the waiter failed with %v, want fence.ErrLost", err)
		}
		if o.Context().Err() != nil {
			t.Errorf("the owner ended: %v", context.Cause(o.Context()))
		}
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
		m := concurrency.NewMutex(theirSession(t, cli, 60), prefix+"lock")
		if err := m.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := theirSession(t, cli, 60)
		waiter := concurrency.NewMutex(s, prefix+"lock")
		locked := make(chan error, 1)
		go func() { locked <- waiter.Lock(t.Context()) }()
		etcdtest.WaitKeys(t, soon, cli, prefix+"lock/", 2)
		etcdtest.Shared(t).Revoke(s.Lease())
		select {
		case err := <-locked:
			t.Logf("concurrency.Mutex, waiter's lease revoked: Lock returns %v", err)
		case <-time.After(noticed):
			t.Log("concurrency.Mutex, waiter's lease revoked: Lock still waits after a second")
			if err := m.Unlock(t.Context()); err != nil {
				t.Error(err)
			}
			t.Logf("and when the lock is free, it returns %v", etcdtest.Receive(t, soon, "Lock", locked))
		}
	})
}

func TestAWaiterWhoseSessionIsLostStopsWaitingThoughEtcdIsUnreachable(t *testing.T) {
	forEachCut(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		own(t, k, open(t, cli, time.Minute), name)
		link := etcdtest.Shared(t).Link(0)
		waiter := stand(t.Context(), k, open(t, k.dial(t, link.Endpoint()), shortTTL), name)
		etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
		link.Blackhole(etcdtest.Both)
		if err := waiter.fails(t, shortTTL+promptly); !errors.Is(err, session.ErrLost) {
			t.Errorf("the waiter failed with %v, want session.ErrLost", err)
		}
	})
}

func TestAWaiterWhoseKeyWasDeletedComesAgain(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		first := own(t, k, open(t, cli, 0), name)
		waiter := stand(t.Context(), k, open(t, cli, 0), name)
		line := etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
		before := line.Header.Revision
		k.remove(t, youngest(line))
		etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
		release(t, first)
		o := waiter.owns(t, soon)
		if token := int64(o.Guard().Token); token <= before {
			t.Errorf("the token is %d, want one of after revision %d, when it was deleted", token, before)
		}
		release(t, o)
	})
}

// Defects P6 and C3 (etcd#21128): concurrency.Election.Campaign that meets a compaction fails, forgets its
// session and leaves its key: when the leader goes, nobody acts and yet somebody leads.
func TestACompactionDuringTheWaitIsNoticedByNobody(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		c := etcdtest.New(t, nil)
		name := etcdtest.Prefix(t) + "name"
		o := own(t, k, open(t, k.dial(t, c.Endpoints()...), time.Minute), name)
		link := c.Link(0)
		var calls etcdtest.Calls
		cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		waiter := standInLine(t, k, open(t, cli, time.Minute), name, 2)
		calls.WaitCount(t, soon, etcdtest.WatchResponse, 1)
		calls.WaitCount(t, soon, "Range", 1)
		link.Cut()
		for range 10 {
			put(t, c.Oracle(0), name+"-noise", "")
		}
		c.Compact(0)
		link.Heal()
		put(t, c.Oracle(0), name+"-noise", "")
		waiter.waits(t)
		release(t, o)
		next := waiter.owns(t, soon)
		release(t, next)
		lineIsEmpty(t, c.Oracle(0), name)
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		c := etcdtest.New(t, nil)
		e := concurrency.NewElection(theirSession(t, c.Client(), 60), "name")
		if err := e.Campaign(t.Context(), "leader"); err != nil {
			t.Fatal(err)
		}
		link := c.Link(0)
		var calls etcdtest.Calls
		cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		ghost := concurrency.NewElection(theirSession(t, cli, 60), "name")
		campaign := make(chan error, 1)
		go func() { campaign <- ghost.Campaign(t.Context(), "ghost") }()
		calls.WaitCount(t, soon, etcdtest.WatchResponse, 1)
		link.Cut()
		for range 10 {
			put(t, c.Oracle(0), "noise", "")
		}
		c.Compact(0)
		link.Heal()
		t.Logf("concurrency.Election, compaction during the wait: Campaign returns %v", etcdtest.Receive(t, soon, "Campaign", campaign))
		t.Logf("its Resign returns %v", ghost.Resign(t.Context()))
		if err := e.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
		leader, err := e.Leader(t.Context())
		if err != nil {
			t.Logf("then nobody leads: %v", err)
			return
		}
		t.Logf("then %q leads, which nobody knows of", leader.Kvs[0].Value)
	})
}

func put(t *testing.T, cli *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := cli.Put(ctx, key, value); err != nil {
		t.Fatal(err)
	}
}

// youngest returns the key that came last into line.
func youngest(line *clientv3.GetResponse) string {
	last := line.Kvs[0]
	for _, kv := range line.Kvs {
		if kv.CreateRevision > last.CreateRevision {
			last = kv
		}
	}
	return string(last.Key)
}
