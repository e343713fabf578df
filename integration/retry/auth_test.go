package retry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// guarded starts a cluster that asks for passwords and whose tokens live a second after their last use.
func guarded(t *testing.T) *etcdtest.Cluster {
	t.Helper()
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *config.ServerConfig) { cfg.TokenTTL = 1 }})
	cli, ctx := c.Client(), t.Context()
	for _, do := range []func() error{
		func() error { _, err := cli.RoleAdd(ctx, "root"); return err },
		func() error { _, err := cli.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// B8, F10: the client fetches another token when its own has expired. The policy must leave that to it, and must not take it
// for a sign that the cluster is ill: all calls of a client that was idle for a while are refused so at once.
func TestAnExpiredTokenIsFetchedAgainAndOpensNoBreaker(t *testing.T) {
	t.Parallel()
	c := guarded(t)
	breaker := &retry.Breaker{OpenFor: time.Hour, Rate: -1}
	fresh := func() client {
		cfg := clientv3.Config{Endpoints: c.Endpoints(), Username: "root", Password: "secret"}
		cli := dialAs(t, cfg, calmed(retry.Policy{Breaker: breaker}))
		mustPut(t, cli, "k", "")
		return cli
	}
	alone := make(map[string]client)
	wire := map[string]string{"Get": "Range", "Put": "Put", "Txn": "Txn", "Grant": "LeaseGrant"}
	for what := range wire {
		alone[what] = fresh()
	}
	cli := fresh()
	<-time.After(3 * time.Second) // asking whether a token has expired would use it
	for what, cli := range alone {
		before, sent := cli.wire.Count("Authenticate"), cli.wire.Count(wire[what])
		if _, err := timed(t, what, func() error { return calls()[what](t.Context(), cli.Client) }); err != nil {
			t.Errorf("%s after the token expired: %v", what, err)
		}
		if cli.wire.Count("Authenticate") == before {
			t.Errorf("%s: the token had not expired, the test is void", what)
		}
		// Once with each token: the policy does not try the old one again.
		if n := cli.wire.Count(wire[what]) - sent; n != 2 {
			t.Errorf("%s was sent %d times", what, n)
		}
	}

	// So that each has been refused before the first one comes back with a new token.
	gate, goOn := cli.wire.Inject(etcdtest.Fault{Call: "Range", Times: 8, Err: rpctypes.ErrGRPCInvalidAuthToken}), make(chan struct{})
	defer cli.wire.Inject(etcdtest.Fault{Call: "Authenticate", Times: -1, Hold: goOn}).Remove()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := cli.Get(t.Context(), "k"); err != nil {
				t.Errorf("one of many after the token expired: %v", err)
			}
		})
	}
	etcdtest.Eventually(t, soon, "all are refused", func(context.Context) error {
		if n := gate.Hits(); n < 8 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	close(goOn)
	wg.Wait()
	if s := breaker.State(); s != retry.BreakerClosed {
		t.Errorf("the breaker is %v", s)
	}
}

// A read whose first attempt was lost is refused for its token at the second: the client still has to be asked for another.
func TestATokenIsFetchedAgainAfterAnAttemptThatWasLost(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"policy", "stock"} {
		var calls *etcdtest.Calls
		var cli *clientv3.Client
		if how == "stock" {
			cli, calls = stock(t, etcdtest.Shared(t).Endpoints()...)
		} else {
			ours := calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
			cli, calls = ours.Client, ours.wire
		}
		calls.Inject(etcdtest.Fault{Call: "Range"})
		calls.Inject(etcdtest.Fault{Call: "Range", Err: rpctypes.ErrGRPCInvalidAuthToken})
		if _, err := cli.Get(t.Context(), "k"); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
}
