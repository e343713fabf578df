package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
)

// opened opens a pool that the test closes itself.
func opened(t *testing.T, cfg pool.Config) *pool.Pool {
	t.Helper()
	p, err := pool.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) }) // only the first counts
	return p
}

// withoutAttempts is a policy whose attempts wait for as long as a test holds them up.
func withoutAttempts(cfg pool.Config) pool.Config {
	cfg.Retry.AttemptTimeout, cfg.Retry.ReadTimeout = time.Minute, time.Minute
	return cfg
}

func TestCloseWaitsForTheCallsInFlight(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	p := opened(t, withoutAttempts(pool.Config{Endpoints: []string{link.Endpoint()}}))
	etcd, key := p.Client(), etcdtest.Prefix(t)
	stream, err := etcd.GetStream(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientv3.GetStreamToGetResponse(stream); err != nil {
		t.Fatal(err)
	}
	if clientOf(t, p) == nil {
		t.Fatal("no connection for Do")
	}
	if _, err := etcd.Grant(t.Context(), 60); err != nil { // so that the lease class has its connection
		t.Fatal(err)
	}

	link.Blackhole(etcdtest.Responses) // requests are carried out, and their answers late
	calls := map[string]func(ctx context.Context) error{
		"Put":   func(ctx context.Context) error { _, err := etcd.Put(ctx, key, ""); return err },
		"Grant": func(ctx context.Context) error { _, err := etcd.Grant(ctx, 60); return err },
		"Do": func(ctx context.Context) error {
			return p.Do(ctx, func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, key); return err })
		},
		"GetStream": func(ctx context.Context) error {
			stream, err := etcd.GetStream(ctx, key)
			if err != nil {
				return err
			}
			_, err = clientv3.GetStreamToGetResponse(stream)
			return err
		},
	}
	var all sync.WaitGroup
	for what, call := range calls {
		all.Go(func() {
			if err := call(t.Context()); err != nil {
				t.Errorf("%s, in flight: %v", what, err)
			}
		})
	}
	etcdtest.Eventually(t, soon, "all are in flight", func(context.Context) error {
		if s := p.Stats(); s.Unary.Calls != 2 || s.Lease.Calls != 1 || s.Bulk.Calls != 1 {
			return errors.New(s.String())
		}
		return nil
	})
	closed := make(chan error, 1)
	go func() { closed <- p.Close(context.WithoutCancel(t.Context())) }()
	etcdtest.Eventually(t, soon, "new calls are refused", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond) // one that begins too early is in flight, too
		defer cancel()
		if _, err := etcd.Get(ctx, key, clientv3.WithSerializable()); !errors.Is(err, pool.ErrClosed) {
			return fmt.Errorf("not refused: %w", err)
		}
		return nil
	})
	select {
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	default:
	}
	link.Heal()
	all.Wait()
	if err := etcdtest.Receive(t, soon, "Close", closed); err != nil {
		t.Error(err)
	}
}

func TestCloseCutsWhatIsInFlightWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	p := opened(t, withoutAttempts(pool.Config{Endpoints: []string{link.Endpoint()}}))
	etcd, key := p.Client(), etcdtest.Prefix(t)
	if _, err := etcd.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	one := enter(t, p)
	link.Blackhole(etcdtest.Both)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := etcd.Put(t.Context(), key, ""); err == nil {
			t.Error("a put through a black hole")
		}
	})
	all.Go(func() { // which is told, and leaves
		etcdtest.Done(t, soon, "the end of Do's context", one.ctx.Done())
		if cause := context.Cause(one.ctx); !errors.Is(cause, pool.ErrClosed) {
			t.Errorf("its cause is %v", cause)
		}
		close(one.leave)
	})
	etcdtest.Eventually(t, soon, "both are in flight", func(context.Context) error {
		if s := p.Stats(); s.Unary.Calls != 1 || s.Bulk.Calls != 1 {
			return errors.New(s.String())
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	took := etcdtest.Returns(t, soon, "Close", func() {
		if err := p.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if took < 200*time.Millisecond {
		t.Errorf("Close cut them off after %v already", took)
	}
	etcdtest.Returns(t, soon, "what was in flight", all.Wait)
}

func TestAfterCloseEveryPartOfTheClientSaysSo(t *testing.T) {
	t.Parallel()
	for what, namespace := range map[string]string{"plain": "", "namespace": "n/"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := opened(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), Namespace: namespace})
			etcd, key := p.Client(), etcdtest.Prefix(t)
			watch := etcd.Watch(t.Context(), key, clientv3.WithCreatedNotify())
			etcdtest.Receive(t, soon, "the watch", watch)
			lease, err := etcd.Grant(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			alive, err := etcd.KeepAlive(t.Context(), lease.ID)
			if err != nil {
				t.Fatal(err)
			}
			etcdtest.Receive(t, soon, "a keepalive", alive)
			ctx := etcd.Ctx()
			if ctx.Err() != nil {
				t.Fatal("Ctx has ended before Close")
			}

			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := p.Close(t.Context()); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
			}
			etcdtest.Returns(t, soon, "Close by four at once", all.Wait)
			etcdtest.Done(t, soon, "Ctx", ctx.Done())
			etcdtest.Returns(t, soon, "the watch's end", func() {
				for range watch {
				}
			})
			etcdtest.Returns(t, soon, "the keepalives' end", func() {
				for range alive {
				}
			})
			for what, call := range map[string]func(ctx context.Context) error{
				"Get":           func(ctx context.Context) error { _, err := etcd.Get(ctx, key); return err },
				"Put":           func(ctx context.Context) error { _, err := etcd.Put(ctx, key, ""); return err },
				"Txn":           func(ctx context.Context) error { _, err := etcd.Txn(ctx).Commit(); return err },
				"Grant":         func(ctx context.Context) error { _, err := etcd.Grant(ctx, 60); return err },
				"Revoke":        func(ctx context.Context) error { _, err := etcd.Revoke(ctx, lease.ID); return err },
				"KeepAliveOnce": func(ctx context.Context) error { _, err := etcd.KeepAliveOnce(ctx, lease.ID); return err },
				"MemberList":    func(ctx context.Context) error { _, err := etcd.MemberList(ctx); return err },
				"UserList":      func(ctx context.Context) error { _, err := etcd.UserList(ctx); return err },
				"Do":            func(ctx context.Context) error { return p.Do(ctx, nil) },
			} {
				etcdtest.Returns(t, soon, what, func() {
					if err := call(t.Context()); !errors.Is(err, pool.ErrClosed) {
						t.Errorf("%s: %v, want ErrClosed", what, err)
					}
				})
			}
			if resp, ok := <-etcd.Watch(t.Context(), key); ok && resp.Err() == nil {
				t.Errorf("a watch on a closed pool: %v", resp)
			}
			if s := p.Stats(); s.Unary.Connections+s.Lease.Connections+s.Watch.Connections+s.Bulk.Connections != 0 {
				t.Error(s)
			}
		})
	}
}

// By mistake: the pool's own goroutines and connections are not the client's to close.
func TestClosingTheClientDoesNotHarmTheClosingOfThePool(t *testing.T) {
	t.Parallel()
	p := opened(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints()})
	etcd, key := p.Client(), etcdtest.Prefix(t)
	watch := etcd.Watch(t.Context(), key, clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the watch", watch)
	for range 2 {
		_ = etcd.Close() // whatever it says
	}
	if _, err := etcd.Put(t.Context(), key, ""); err != nil {
		t.Logf("a put through a client that was closed by mistake: %v", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("Close of the pool: %v", err)
	}
	_ = etcd.Close()
}

func TestCloseReturnsWithoutEtcd(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(*etcdtest.Link){
		"refused":     func(l *etcdtest.Link) { l.Cut() },
		"silent":      func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"then silent": func(l *etcdtest.Link) { l.Drop(); l.Blackhole(etcdtest.Both) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := etcdtest.Shared(t).Link(0)
			p := opened(t, pool.Config{Endpoints: []string{link.Endpoint(), "http://127.0.0.1:1"}})
			etcd, key := p.Client(), etcdtest.Prefix(t)
			watch := etcd.Watch(t.Context(), key, clientv3.WithCreatedNotify())
			etcdtest.Receive(t, soon, "the watch", watch)
			lease, err := etcd.Grant(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := etcd.KeepAlive(t.Context(), lease.ID); err != nil {
				t.Fatal(err)
			}
			if clientOf(t, p) == nil {
				t.Fatal("no connection for Do")
			}
			hurt(link)
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() { // some of them have an endpoint left out, in the end
					if _, err := etcd.Get(t.Context(), key); err == nil {
						t.Error("a read without etcd")
					}
				})
			}
			etcdtest.Eventually(t, soon, "reads are in flight", func(context.Context) error {
				if s := p.Stats(); s.Unary.Calls == 0 {
					return errors.New(s.String())
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			took := etcdtest.Returns(t, soon, "Close", func() {
				if err := p.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			t.Logf("Close took %v", took)
			etcdtest.Returns(t, soon, "the reads", all.Wait)
		})
	}
}
