package grpcresolver_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/registry/grpcresolver"
)

func TestAServiceMayBeginWithoutInstances(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{"round_robin": roundRobin, "pick_first": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli, prefix := etcdtest.Client(t), under(t)
			conn := dial(t, etcdtest.Client(t), prefix, "shop/cart", config)
			_, err := call(t.Context(), conn, "")
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `service "shop/cart" has no ready instance`) {
				t.Errorf("got %v", err)
			}
			patient := waiting(t, conn)
			announce(t, cli, prefix, "shop", "a", serve(t))        // another service
			announce(t, cli, prefix, "shop/cart/x", "a", serve(t)) // and another
			etcdtest.Nothing(t, 100*time.Millisecond, "the end of an RPC that waits", patient)
			s := serve(t)
			announce(t, cli, prefix, "shop/cart", "a", s)
			if err := etcdtest.Receive(t, soon, "the end of the RPC that waits", patient); err != nil {
				t.Error(err)
			}
			if addr, err := call(t.Context(), conn, ""); err != nil || addr != s.addr {
				t.Errorf("got %v from %v", err, addr)
			}
		})
	}
}

func TestInstancesThatAreNotReadyAreNotCalled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, because string }{
		"round_robin": {roundRobin, "no children to pick from"}, // gRPC's own text
		"pick_first":  {"", "1 registered, 0 starting, 1 draining"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix, s := under(t), serve(t)
			r := announce(t, etcdtest.Client(t), prefix, "mail", "a", s)
			conn := dial(t, etcdtest.Client(t), prefix, "mail", c.config)
			reaches(t, conn, s)
			become(t, r, registry.Draining)
			s.open.await(t, "nobody is connected", func(n int) bool { return n == 0 })
			etcdtest.Eventually(t, soon, "RPCs fail with the cause", func(ctx context.Context) error {
				switch _, err := call(ctx, conn, ""); {
				case err == nil:
					return errNotYet
				case !strings.Contains(err.Error(), c.because):
					return err
				}
				return nil
			})
			patient := waiting(t, conn)
			become(t, r, registry.Starting)
			etcdtest.Nothing(t, 100*time.Millisecond, "the end of an RPC that waits", patient)
			become(t, r, registry.Ready)
			if err := etcdtest.Receive(t, soon, "the end of the RPC that waits", patient); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAChangeOfOneInstanceReachesTheBalancerAndReconnectsNone(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	a, b, c := serve(t), serve(t), serve(t)
	r := announce(t, cli, prefix, "mail", "a", a)
	announce(t, cli, prefix, "mail", "b", b)
	announce(t, cli, prefix, "mail", "b-again", b)
	conn := dial(t, etcdtest.Client(t), prefix, "mail", `{"loadBalancingConfig":[{"spied_round_robin":{}}]}`)
	reaches(t, conn, a, b)

	change := func(edit func(*registry.Instance), seen func(registry.Instance) bool) {
		t.Helper()
		if err := r.Update(t.Context(), edit); err != nil {
			t.Fatal(err)
		}
		for {
			if i, ok := etcdtest.Receive(t, soon, "a list with the change", lists)["a"]; ok && seen(i) {
				return
			}
		}
	}
	change(func(i *registry.Instance) { i.Weight = 7 }, func(i registry.Instance) bool { return i.Weight == 7 })
	change(func(i *registry.Instance) { i.Zone, i.Version = "eu", "2" }, func(i registry.Instance) bool { return i.Zone == "eu" && i.Version == "2" })
	want := map[string]string{"k": "v"}
	change(func(i *registry.Instance) { i.Metadata = want }, func(i registry.Instance) bool { return maps.Equal(i.Metadata, want) })

	announce(t, cli, prefix, "mail", "c", c)
	reaches(t, conn, a, b, c)
	for what, s := range map[string]*server{"changed": a, "shared": b, "new": c} {
		if n := s.begun.get(); n != 1 {
			t.Errorf("the server of the %s instance was connected to %d times", what, n)
		}
	}
}

// lists are those that the spied balancer of one test is told of: instances by ID.
var lists = make(chan map[string]registry.Instance, 1000)

func init() { balancer.Register(spy{balancer.Get("round_robin")}) }

// spy is round_robin, and looks at what it is told.
type spy struct{ balancer.Builder }

func (spy) Name() string { return "spied_round_robin" }

func (s spy) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return spying{s.Builder.Build(cc, opts)}
}

type spying struct{ balancer.Balancer }

func (s spying) UpdateClientConnState(c balancer.ClientConnState) error {
	list := map[string]registry.Instance{}
	for _, e := range c.ResolverState.Endpoints {
		if i, ok := grpcresolver.InstanceOf(e); ok {
			list[i.ID] = *i
		}
	}
	lists <- list
	return s.Balancer.UpdateClientConnState(c)
}
