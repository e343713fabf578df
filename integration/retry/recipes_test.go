package retry_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// The policy is below everything that uses the client, the SDK's own recipes included: they repair what they repaired without
// it, and leave nothing behind.
func TestTheRecipesWorkOverAClientWithAPolicy(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]func(*etcdtest.Link, client){
		"nothing":             func(*etcdtest.Link, client) {},
		"a broken connection": func(l *etcdtest.Link, _ client) { l.Drop() },
		"a lost answer":       func(_ *etcdtest.Link, cli client) { cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: true}) },
		"a refusal": func(_ *etcdtest.Link, cli client) {
			cli.wire.Inject(etcdtest.Fault{Times: 3, Err: rpctypes.ErrGRPCNoLeader})
		},
		"two seconds of darkness": func(l *etcdtest.Link, _ client) { dark(l) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			prefix, oracle := etcdtest.Prefix(t), etcdtest.Client(t)
			link := etcdtest.Shared(t).Link(0)
			cli := dial(t, retry.Policy{Budget: &retry.Budget{}}, link.Endpoint())
			ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
			defer cancel()
			check := func(doing string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", doing, err)
				}
			}
			mustPut(t, oracle, prefix+"config", "1")
			s, err := session.Open(ctx, cli.Client, &session.Options{TTL: 10 * time.Second})
			check("opening a session", err)
			r, err := registry.Register(ctx, cli.Client, registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.1:1"}, &registry.Options{Prefix: prefix + "services"})
			check("registering", err)
			v, err := config.Open[int](ctx, cli.Client, prefix+"config", nil)
			check("opening a value", err)
			defer v.Close()

			fault(link, cli)
			err = lock.NewMutex(s, prefix+"lock").Do(ctx, func(ctx context.Context, g fence.Guard) error {
				_, err := g.Commit(ctx, cli, clientv3.OpPut(prefix+"data", "written"))
				return err
			})
			if err != nil && !retry.Ambiguous(err) {
				t.Errorf("under the lock: %v", err)
			}
			t.Logf("under the lock: %v", err)
			mustPut(t, oracle, prefix+"config", "2")
			etcdtest.Eventually(t, soon, "the value follows", func(context.Context) error {
				if n := v.Get(); n != 2 {
					return fmt.Errorf("it is %s, %w", strconv.Itoa(n), v.Err())
				}
				return v.Err()
			})
			etcdtest.WaitKeys(t, soon, oracle, prefix+"services/", 1)
			etcdtest.WaitKeys(t, soon, oracle, prefix+"lock/", 0)
			check("the session", context.Cause(s.Context()))
			check("closing the registration", r.Close(ctx))
			check("closing the session", s.Close(ctx))
			etcdtest.WaitKeys(t, soon, oracle, prefix+"services/", 0)
		})
	}
}

// dark lets nothing through for a while.
func dark(l *etcdtest.Link) {
	l.Blackhole(etcdtest.Both)
	time.AfterFunc(2*time.Second, func() {
		l.Drop()
		l.Heal()
	})
}
