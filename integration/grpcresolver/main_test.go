package grpcresolver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/registry/grpcresolver"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

const (
	// soon is the patience with what has no bound of its own; a busy machine may need it.
	soon = 10 * time.Second

	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// under returns the prefix for a test's services, made of its key prefix.
func under(t *testing.T) string { return strings.TrimSuffix(etcdtest.Prefix(t), "/") }

// gauge is a number that can be waited for.
type gauge struct {
	mu      sync.Mutex
	n       int           // guarded by mu
	changed chan struct{} // guarded by mu; closed with the next change, nil if nobody waits
}

func (g *gauge) add(d int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += d
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *gauge) get() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// await returns when ok holds of the number.
func (g *gauge) await(t *testing.T, what string, ok func(n int) bool) {
	t.Helper()
	timeout := time.After(soon)
	for {
		g.mu.Lock()
		n := g.n
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		if ok(n) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not within %v: %s; there are %d", soon, what, n)
		}
	}
}

// server is a gRPC server with one method that is called.
type server struct {
	healthpb.UnimplementedHealthServer
	addr string
	grpc *grpc.Server

	begun, open gauge // connections
	calls       gauge
	held        chan struct{} // one for each call of "hold" that has come
	release     chan struct{} // closed to let them go on
}

// serve starts a server for the test's time.
func serve(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: listener.Addr().String(), held: make(chan struct{}, 10), release: make(chan struct{})}
	s.grpc = grpc.NewServer(grpc.StatsHandler(s))
	healthpb.RegisterHealthServer(s.grpc, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.grpc.Serve(listener) // ends with Stop
	}()
	t.Cleanup(func() { s.grpc.Stop(); <-served })
	return s
}

// Check takes a moment, so that there always are some in flight.
func (s *server) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if req.GetService() == "hold" {
		s.held <- struct{}{}
		<-s.release
	}
	<-time.After(time.Millisecond)
	s.calls.add(1)
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (s *server) HandleConn(_ context.Context, c stats.ConnStats) {
	switch c.(type) {
	case *stats.ConnBegin:
		s.begun.add(1)
		s.open.add(1)
	case *stats.ConnEnd:
		s.open.add(-1)
	}
}

func (s *server) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (s *server) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (s *server) HandleRPC(context.Context, stats.RPCStats)                         {}

// announce registers a server for the test's time, under a lease of the least TTL.
func announce(t *testing.T, cli *clientv3.Client, prefix, service, id string, s *server) *registry.Registration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	opts := &registry.Options{Prefix: prefix, Session: &session.Options{TTL: 2 * time.Second}}
	r, err := registry.Register(ctx, cli, registry.Instance{Service: service, ID: id, Addr: s.addr}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.Close(ctx) // the test may have closed it, or the way to etcd
	})
	return r
}

// become changes an instance's state.
func become(t *testing.T, r *registry.Registration, state registry.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := r.Update(ctx, func(i *registry.Instance) { i.State = state }); err != nil {
		t.Fatal(err)
	}
}

// dial opens a connection to a service for the test's time. No config means gRPC's own, which is pick_first.
func dial(t *testing.T, cli *clientv3.Client, prefix, service, config string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(opts,
		grpc.WithResolvers(grpcresolver.New(cli, &grpcresolver.Options{View: registry.ViewOptions{Prefix: prefix}})),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if config != "" {
		opts = append(opts, grpc.WithDefaultServiceConfig(config))
	}
	conn, err := grpc.NewClient("etcdkit:///"+service, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call makes one RPC and returns the address of who answered.
func call(ctx context.Context, conn *grpc.ClientConn, what string, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	var p peer.Peer
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: what}, append(opts, grpc.Peer(&p))...)
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// waiting makes one RPC that waits for ready, and gives its error when it has ended.
func waiting(t *testing.T, conn *grpc.ClientConn) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := call(t.Context(), conn, "", grpc.WaitForReady(true))
		ended <- err
	}()
	return ended
}

// reaches calls until exactly these servers answer, in one round after another.
func reaches(t *testing.T, conn *grpc.ClientConn, servers ...*server) {
	t.Helper()
	var want []string
	for _, s := range servers {
		want = append(want, s.addr)
	}
	slices.Sort(want)
	etcdtest.Eventually(t, soon, fmt.Sprint("reaches ", want), func(ctx context.Context) error {
		got := map[string]bool{}
		for range 2 * len(servers) {
			addr, err := call(ctx, conn, "", grpc.WaitForReady(true))
			if err != nil {
				return err
			}
			got[addr] = true
		}
		if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, want) {
			return fmt.Errorf("it reaches %v", all)
		}
		return nil
	})
}

// load is callers that call one after the other without waiting for ready, until the test or stop ends them.
type load struct {
	calls  gauge
	failed chan error // those that failed
	stop   func()     // waits for the callers
}

// callers starts so many callers on each connection.
func callers(t *testing.T, n int, conns ...*grpc.ClientConn) *load {
	t.Helper()
	l := &load{failed: make(chan error, 1000)}
	ending := make(chan struct{})
	var all sync.WaitGroup
	for _, conn := range conns {
		for range n {
			all.Go(func() {
				for {
					select {
					case <-ending:
						return
					default:
					}
					if _, err := call(context.Background(), conn, ""); err != nil { // t's context ends before the cleanup
						select {
						case l.failed <- err:
						default:
						}
					}
					l.calls.add(1)
				}
			})
		}
	}
	l.stop = sync.OnceFunc(func() { close(ending); all.Wait() })
	t.Cleanup(l.stop)
	return l
}

// more returns when so many more calls have been made.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	want := l.calls.get() + n
	l.calls.await(t, fmt.Sprint(want, " calls in all"), func(n int) bool { return n >= want })
}

// ends stops the callers and fails the test if any call has failed, or if there were fewer than so many.
func (l *load) ends(t *testing.T, least int) {
	t.Helper()
	l.stop()
	if n := l.calls.get(); n < least {
		t.Errorf("%d calls, want at least %d", n, least)
	}
	if n := len(l.failed); n > 0 {
		t.Errorf("%d of %d calls have failed, the first: %v", n, l.calls.get(), <-l.failed)
	}
	t.Logf("%d calls", l.calls.get())
}

var errNotYet = errors.New("not yet")
