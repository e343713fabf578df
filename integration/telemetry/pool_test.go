package telemetry_test

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

// poolOpen opens a pool until the test ends.
func poolOpen(t *testing.T, cfg pool.Config) *pool.Pool {
	t.Helper()
	cfg.Retry.ConnectTimeout = gaugeSoon
	p, err := pool.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) })
	return p
}

// poolHas waits until so many connections of a class are reported to be in a state.
func poolHas(t *testing.T, want float64, class, state string) {
	t.Helper()
	gaugeReads(t, want, "etcdkit.pool.connections", "etcdkit.pool.class", class, "etcdkit.pool.state", state)
}

// poolLasting are the classes whose connections are there as long as the pool is.
var poolLasting = [...]string{"unary", "lease", "watch"}

func TestConnectionsAreReportedByClassAndState(t *testing.T) {
	c := etcdtest.New(t, nil)
	gaugeGone(t, "etcdkit.pool.connections")
	link := c.Link(0)
	p := poolOpen(t, pool.Config{Endpoints: []string{link.Endpoint()}, Retry: retry.Policy{MaxAttempts: 1}})
	for _, class := range poolLasting {
		poolHas(t, 1, class, "ready")
	}
	for _, state := range []string{"ready", "connecting", "failing", "draining"} {
		poolHas(t, 0, "bulk", state) // nobody needs one
	}
	var inside float64
	err := p.Do(t.Context(), func(context.Context, *clientv3.Client) error {
		inside = value(t, "etcdkit.pool.connections", "etcdkit.pool.class", "bulk", "etcdkit.pool.state", "ready")
		return nil
	})
	if err != nil || inside != 1 {
		t.Errorf("%v connections for bulk traffic while it is used, %v", inside, err)
	}

	link.Cut()
	for _, class := range append(poolLasting[:], "bulk") {
		poolHas(t, 1, class, "failing")
		poolHas(t, 0, class, "ready")
	}
	link.Heal()
	for _, class := range append(poolLasting[:], "bulk") {
		poolHas(t, 1, class, "ready")
	}
	// A connection that is accepted by somebody who says nothing.
	link.Blackhole(etcdtest.Both)
	link.Drop()
	for _, class := range poolLasting {
		poolHas(t, 1, class, "connecting")
	}
	link.Drop()
	link.Heal()
	poolHas(t, 1, "unary", "ready")

	other := poolOpen(t, pool.Config{Endpoints: c.Endpoints()})
	poolHas(t, 2, "unary", "ready")
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	poolHas(t, 1, "unary", "ready")
	poolHas(t, 0, "bulk", "ready")
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gaugeGone(t, "etcdkit.pool.connections")
}

// A connection that was replaced is there until the last call through it has ended.
func TestAReplacedConnectionIsDraining(t *testing.T) {
	begun, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	holds := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if get, is := req.(*pb.RangeRequest); is && string(get.Key) == "held" {
			close(begun)
			<-released
		}
		return handle(ctx, req)
	}
	c := etcdtest.New(t, &etcdtest.Options{GRPC: []grpc.ServerOption{grpc.ChainUnaryInterceptor(holds)}})
	p := poolOpen(t, pool.Config{
		Endpoints: c.Endpoints(), MaxLifetime: 1, MaxConnections: 1,
		Retry: retry.Policy{AttemptTimeout: -1, ReadTimeout: -1, MaxElapsed: -1},
	})
	began, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- p.Do(t.Context(), func(context.Context, *clientv3.Client) error {
			close(began)
			<-end
			return nil
		})
	}()
	etcdtest.Done(t, gaugeSoon, "the first call", began)
	var ready, draining float64
	err := p.Do(t.Context(), func(context.Context, *clientv3.Client) error { // through another, as that one is too old
		ready = value(t, "etcdkit.pool.connections", "etcdkit.pool.class", "bulk", "etcdkit.pool.state", "ready")
		draining = value(t, "etcdkit.pool.connections", "etcdkit.pool.class", "bulk", "etcdkit.pool.state", "draining")
		return nil
	})
	close(end)
	if err != nil || ready != 1 || draining != 1 {
		t.Errorf("%v connections are ready and %v draining, want 1 and 1; %v", ready, draining, err)
	}
	if err := etcdtest.Receive(t, gaugeSoon, "the first call's end", ended); err != nil {
		t.Error(err)
	}
	poolHas(t, 0, "bulk", "draining")

	// The others are looked at every 5 s. A watch goes on through the new connection, a call has to end.
	go func() {
		_, err := p.Client().Get(t.Context(), "held")
		ended <- err
	}()
	etcdtest.Done(t, gaugeSoon, "the call", begun)
	poolHas(t, 1, "unary", "draining")
	poolHas(t, 1, "unary", "ready")
	release()
	if err := etcdtest.Receive(t, gaugeSoon, "the call's end", ended); err != nil {
		t.Error(err)
	}
	poolHas(t, 0, "unary", "draining")
}
