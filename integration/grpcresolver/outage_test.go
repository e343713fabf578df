package grpcresolver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

func TestEtcdBeingAwayFailsNoRPC(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var servers []*server
	var regs []*registry.Registration
	for _, id := range []string{"a", "b", "c"} {
		s := serve(t)
		servers = append(servers, s)
		regs = append(regs, announce(t, c.Client(), "", "mail", id, s))
	}
	cli := c.Client()
	first, other := dial(t, cli, "", "mail", roundRobin), dial(t, cli, "", "mail", "")
	reaches(t, first, servers...)
	view, err := registry.Watch(t.Context(), cli, "mail", nil) // which shares the connections' watch
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	l := callers(t, 4, first, other)
	l.more(t, 200)

	c.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var last registry.Source
	for s := range view.Changes(ctx) {
		if last = s.Source; last == registry.Stale {
			break
		}
	}
	if last != registry.Stale {
		t.Fatalf("the view is %v", last)
	}
	etcdtest.Nothing(t, 3*time.Second, "a failed call, for longer than the TTL", l.failed)
	l.more(t, 200)

	c.Restart()
	for _, r := range regs {
		etcdtest.Eventually(t, soon, "announced again", func(context.Context) error { return r.Err() })
	}
	etcdtest.Nothing(t, 3*time.Second, "a failed call, for as long as the old leases may live", l.failed)
	d := serve(t)
	announce(t, c.Client(), "", "mail", "d", d)
	reaches(t, first, append(servers, d)...)
	l.ends(t, 2000)
}

func TestWithoutEtcdRPCsFailWithTheCauseUntilItIsThere(t *testing.T) {
	t.Parallel()
	for how, cut := range map[string]func(*etcdtest.Link){
		"refused":    (*etcdtest.Link).Cut,
		"black hole": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
	} {
		for balancer, config := range map[string]string{"round_robin": roundRobin, "pick_first": ""} {
			t.Run(how+", "+balancer, func(t *testing.T) {
				t.Parallel()
				c := etcdtest.New(t, nil)
				s := serve(t)
				announce(t, c.Client(), "", "mail", "a", s)
				link := c.Link(0)
				cli := link.Client()
				cut(link)
				conn := dial(t, cli, "", "mail", config)
				var err error
				took := etcdtest.Returns(t, 5*time.Second, "an RPC", func() { _, err = call(t.Context(), conn, "") })
				if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), strings.TrimPrefix(link.Endpoint(), "http://")) {
					t.Errorf("does not name %s: %v", link.Endpoint(), err)
				}
				t.Logf("after %v: %v", took, err)
				patient := waiting(t, conn)
				etcdtest.Nothing(t, 100*time.Millisecond, "the end of an RPC that waits", patient)
				link.Drop() // what was sent is lost
				link.Heal()
				if err := etcdtest.Receive(t, soon, "the end of the RPC that waits", patient); err != nil {
					t.Error(err)
				}
				if addr, err := call(t.Context(), conn, ""); err != nil || addr != s.addr {
					t.Errorf("got %v from %v", err, addr)
				}
			})
		}
	}
}

func TestWakingWhileEtcdIsAwayFailsNoRPC(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	a, b := serve(t), serve(t)
	announce(t, c.Client(), "", "mail", "a", a)
	announce(t, c.Client(), "", "mail", "b", b)
	link := c.Link(0)
	conn := dial(t, link.Client(), "", "mail", roundRobin, grpc.WithIdleTimeout(100*time.Millisecond))
	reaches(t, conn, a, b)
	link.Blackhole(etcdtest.Both)
	asleep(t, conn)
	for range 4 {
		if _, err := call(t.Context(), conn, ""); err != nil {
			t.Fatal(err)
		}
	}
	// And with etcd there again, it is followed again.
	link.Drop()
	link.Heal()
	s := serve(t)
	announce(t, c.Client(), "", "mail", "c", s)
	reaches(t, conn, a, b, s)
}

// asleep returns when a connection is idle.
func asleep(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for is := conn.GetState(); is != connectivity.Idle; is = conn.GetState() {
		if !conn.WaitForStateChange(ctx, is) {
			t.Fatalf("it is %v and not idle", is)
		}
	}
}

func TestAConnectionClosesPromptlyWithoutEtcd(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Blackhole(etcdtest.Both)
	conn := dial(t, link.Client(), "", "mail", roundRobin)
	ended := waiting(t, conn)
	etcdtest.Eventually(t, soon, "etcd is asked", func(context.Context) error {
		if link.Accepted() == 0 {
			return errNotYet
		}
		return nil
	})
	etcdtest.Returns(t, 500*time.Millisecond, "Close", func() { conn.Close() })
	if err := etcdtest.Receive(t, soon, "the RPC's end", ended); err == nil {
		t.Error("an RPC on a closed connection")
	}
}
