package grpcresolver_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// Each server in turn is replaced: the new one is announced, the old one drains, stops when nobody is connected to it any
// more, and leaves.
func TestARollingRestartFailsNoRPC(t *testing.T) {
	t.Parallel()
	for how, restartedAs := range map[string]func(id string) string{
		"a new ID each": func(id string) string { return id + "-2" },
		"the same IDs":  func(id string) string { return id }, // the new one takes the key over
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cli, prefix := etcdtest.Client(t), under(t)
			type running struct {
				*server
				*registry.Registration
			}
			olds := map[string]running{}
			for n := range 4 {
				id, s := fmt.Sprint("mail-", n), serve(t)
				olds[id] = running{s, announce(t, cli, prefix, "mail", id, s)}
			}
			client := etcdtest.Client(t)
			conns := []*grpc.ClientConn{
				dial(t, client, prefix, "mail", roundRobin), dial(t, client, prefix, "mail", roundRobin),
				dial(t, client, prefix, "mail", roundRobin), dial(t, client, prefix, "mail", ""),
			}
			l := callers(t, 2, conns...)
			for _, old := range olds {
				old.calls.await(t, "an old server is called", func(n int) bool { return n > 0 })
			}
			for id, old := range olds {
				l.more(t, 250)
				s := serve(t)
				r := announce(t, cli, prefix, "mail", restartedAs(id), s)
				s.calls.await(t, "the new server is called", func(n int) bool { return n > 0 })
				if restartedAs(id) != id {
					become(t, old.Registration, registry.Draining)
				}
				old.open.await(t, "nobody is connected to the old server", func(n int) bool { return n == 0 })
				old.grpc.GracefulStop()
				if err := old.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if err := r.Err(); err != nil {
					t.Errorf("the new one: %v", err)
				}
			}
			l.more(t, 1000)
			l.ends(t, 2000)
		})
	}
}

func TestARPCInFlightOutlivesTheDrainingOfItsInstance(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	a, b := serve(t), serve(t)
	r := announce(t, cli, prefix, "mail", "a", a)
	conn := dial(t, etcdtest.Client(t), prefix, "mail", roundRobin)
	type answer struct {
		from string
		err  error
	}
	long := make(chan answer, 1)
	go func() {
		from, err := call(t.Context(), conn, "hold", grpc.WaitForReady(true))
		long <- answer{from, err}
	}()
	etcdtest.Receive(t, soon, "the long call", a.held)
	announce(t, cli, prefix, "mail", "b", b)
	reaches(t, conn, a, b)
	become(t, r, registry.Draining)
	reaches(t, conn, b)
	if n := a.open.get(); n != 1 {
		t.Errorf("%d connections to the server that has work", n)
	}
	close(a.release)
	if got := etcdtest.Receive(t, soon, "the long call's end", long); got.err != nil || got.from != a.addr {
		t.Errorf("it was %v, %v", got.from, got.err)
	}
	a.open.await(t, "nobody is connected to it", func(n int) bool { return n == 0 })
	// It may come back.
	become(t, r, registry.Ready)
	reaches(t, conn, a, b)
}
