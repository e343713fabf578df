package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// clients are the ways to a *clientv3.Client that a program may have. None of ours may care.
var clients = map[string]func(t *testing.T) *clientv3.Client{
	"plain": func(t *testing.T) *clientv3.Client { return etcdtest.Client(t) },
	"pool": func(t *testing.T) *clientv3.Client {
		return open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints()}).Client()
	},
	"pool in a namespace": func(t *testing.T) *clientv3.Client {
		return open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), Namespace: etcdtest.Prefix(t)}).Client()
	},
	"do": func(t *testing.T) *clientv3.Client { // whose function may not keep it, and holds it until the test ends
		return enterUntilTheEnd(t, open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), AcquireTimeout: soon}))
	},
	"etcd's namespace": func(t *testing.T) *clientv3.Client {
		cli := etcdtest.Client(t)
		etcdtest.Within(cli, etcdtest.Prefix(t))
		return cli
	},
}

func enterUntilTheEnd(t *testing.T, p *pool.Pool) *clientv3.Client {
	t.Helper()
	g := enter(t, p)
	t.Cleanup(func() { close(g.leave); <-g.done })
	return g.client
}

// through runs a test with each of them.
func through(t *testing.T, test func(t *testing.T, etcd *clientv3.Client, prefix string)) {
	t.Helper()
	t.Parallel()
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, client(t), etcdtest.Prefix(t))
		})
	}
}

// opens opens a session that is closed when the test ends.
func opens(t *testing.T, etcd *clientv3.Client) *session.Session {
	t.Helper()
	s, err := session.Open(t.Context(), etcd, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) }) // the test may have closed it
	return s
}

func TestALockThroughAnyClient(t *testing.T) {
	through(t, func(t *testing.T, etcd *clientv3.Client, prefix string) {
		one, two := lock.NewMutex(opens(t, etcd), prefix+"lock"), lock.NewMutex(opens(t, etcd), prefix+"lock")
		held, err := one.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := two.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("TryLock of what is held: %v", err)
		}
		next := make(chan *lock.Held, 1)
		go func() {
			held, err := two.Lock(t.Context())
			if err != nil {
				t.Error(err)
			}
			next <- held
		}()
		etcdtest.WaitKeys(t, soon, etcd, prefix+"lock/", 2)
		if _, err := held.Guard().Commit(t.Context(), etcd, clientv3.OpPut(prefix+"data", "1")); err != nil {
			t.Error(err)
		}
		if err := held.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		second := etcdtest.Receive(t, soon, "the next owner", next)
		if second.Guard().Token <= held.Guard().Token {
			t.Error("the token did not rise")
		}
		if _, err := held.Guard().Commit(t.Context(), etcd, clientv3.OpPut(prefix+"data", "2")); !errors.Is(err, fence.ErrLost) {
			t.Errorf("a write after Unlock: %v", err)
		}
		// Somebody deletes the key, and the owner is told: the watch and the session work together.
		if _, err := etcd.Delete(t.Context(), second.Guard().Key); err != nil {
			t.Fatal(err)
		}
		etcdtest.Done(t, soon, "telling the owner", second.Context().Done())
	})
}

func TestAnElectionThroughAnyClient(t *testing.T) {
	through(t, func(t *testing.T, etcd *clientv3.Client, prefix string) {
		term, err := election.Campaign(t.Context(), opens(t, etcd), prefix+"election", "me")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		seen := false
		for leader, err := range election.Observe(ctx, etcd, prefix+"election") {
			switch {
			case err != nil:
				t.Fatal(err)
			case leader.Value == "me" && leader.Token == term.Guard().Token:
				seen = true
				if err := term.Resign(ctx); err != nil {
					t.Fatal(err)
				}
			case seen && leader.Value == "":
				return
			}
		}
		t.Error("the end of the term was not observed")
	})
}

func TestARegistrationAndItsViewThroughAnyClient(t *testing.T) {
	through(t, func(t *testing.T, etcd *clientv3.Client, prefix string) {
		view, err := registry.Watch(t.Context(), etcd, "mail", &registry.ViewOptions{Prefix: prefix + "services"})
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		reg, err := registry.Register(t.Context(), etcd, registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80"}, &registry.Options{Prefix: prefix + "services"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		until := func(n int) {
			t.Helper()
			for s := range view.Changes(ctx) {
				if len(s.Instances) == n {
					return
				}
			}
			t.Fatalf("%d instances are not seen: %+v", n, view.Snapshot())
		}
		until(1)
		if _, err := etcd.Delete(t.Context(), prefix+"services/mail/a"); err != nil { // and it repairs itself
			t.Fatal(err)
		}
		etcdtest.WaitKey(t, soon, etcd, prefix+"services/mail/a")
		until(1)
		if err := reg.Close(t.Context()); err != nil {
			t.Error(err)
		}
		until(0)
	})
}

func TestAConfigurationThroughAnyClient(t *testing.T) {
	through(t, func(t *testing.T, etcd *clientv3.Client, prefix string) {
		key := prefix + "limits"
		if _, err := etcd.Put(t.Context(), key, "rate: 1"); err != nil {
			t.Fatal(err)
		}
		type limits struct {
			Rate int `json:"rate"`
		}
		v, err := config.Open[limits](t.Context(), etcd, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		for s := range v.Changes(ctx) {
			if s.Value.Rate == 3 {
				return
			}
			if _, err := etcd.Put(ctx, key, map[int]string{1: "rate: 2", 2: "rate: 3"}[s.Value.Rate]); err != nil {
				t.Fatal(err)
			}
		}
		t.Error("the change was not seen")
	})
}

func TestAKeptSessionThroughAnyClient(t *testing.T) {
	through(t, func(t *testing.T, etcd *clientv3.Client, _ string) {
		k := session.NewKeeper(etcd, &session.Options{TTL: 2 * time.Second})
		defer func() {
			if err := k.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		first, err := k.Live(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		etcdtest.Nothing(t, 3*time.Second, "its end, though it is renewed", first.Context().Done())
		if _, err := etcd.Revoke(t.Context(), first.Lease()); err != nil {
			t.Fatal(err)
		}
		etcdtest.Done(t, soon, "telling of the loss", first.Context().Done())
		if second, err := k.Live(t.Context()); err != nil || second.Lease() == first.Lease() {
			t.Errorf("after a loss: %v, %v", second, err)
		}
	})
}
