package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// theirEndpoints is what a watch of etcd's own naming/endpoints has seen.
type theirEndpoints struct {
	mu    sync.Mutex
	known map[string]endpoints.Endpoint // guarded by mu, by the last part of the key
	ended chan struct{}                 // closed when the watch's channel is
}

// followEndpoints watches as etcd's gRPC resolver does.
func followEndpoints(t *testing.T, cli *clientv3.Client, target string) *theirEndpoints {
	t.Helper()
	m, err := endpoints.NewManager(cli, target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := &theirEndpoints{known: map[string]endpoints.Endpoint{}, ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		for batch := range updates {
			e.take(batch)
		}
	}()
	t.Cleanup(func() { cancel(); <-e.ended })
	return e
}

func (e *theirEndpoints) take(batch []*endpoints.Update) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range batch {
		if u.Op == endpoints.Delete {
			delete(e.known, path.Base(u.Key))
		} else {
			e.known[path.Base(u.Key)] = u.Endpoint
		}
	}
}

func (e *theirEndpoints) ids() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.known))
}

// has returns an error unless exactly these are known.
func (e *theirEndpoints) has(ids ...string) error {
	if got := e.ids(); !slices.Equal(got, ids) {
		return fmt.Errorf("it has %v", got)
	}
	return nil
}

// ends waits for the watch to end by itself, and returns an error if it does not.
func (e *theirEndpoints) ends(t *testing.T) error {
	t.Helper()
	select {
	case <-e.ended:
		return nil
	case <-time.After(soon):
		return errors.New("its watch did not end")
	}
}

func TestEtcdsEndpointsFindWhatIsRegisteredHere(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	i := mail("a")
	i.Zone, i.Metadata = "eu", map[string]string{"k": "v"}
	r := register(t, cli, i, &registry.Options{Prefix: prefix})
	m, err := endpoints.NewManager(cli, prefix+"/mail")
	if err != nil {
		t.Fatal(err)
	}
	found, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, there := found[prefix+"/mail/a"]
	metadata, _ := e.Metadata.(map[string]any)
	if !there || len(found) != 1 || e.Addr != "10.0.0.7:80" || metadata["k"] != "v" {
		t.Errorf("they find %v", found)
	}

	theirs := followEndpoints(t, cli, prefix+"/mail")
	register(t, cli, mail("b"), &registry.Options{Prefix: prefix})
	etcdtest.Eventually(t, soon, "they see both", func(context.Context) error { return theirs.has("a", "b") })
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcdtest.Eventually(t, soon, "they see one go", func(context.Context) error { return theirs.has("b") })
}

func TestAViewFindsWhatEtcdsEndpointsHaveAdded(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	m, err := endpoints.NewManager(cli, prefix+"/mail")
	if err != nil {
		t.Fatal(err)
	}
	for id, metadata := range map[string]any{
		"none": nil, "text": "plain", "object": map[string]any{"s": "v", "n": 1.5, "o": map[string]int{"x": 1}},
	} {
		e := endpoints.Endpoint{Addr: "10.0.0.7:80", Metadata: metadata}
		if err := m.AddEndpoint(t.Context(), prefix+"/mail/"+id, e); err != nil {
			t.Fatal(err)
		}
	}
	s := sees(t, soon, v, "none", "object", "text")
	for n, want := range []map[string]string{nil, {"s": "v", "n": "1.5", "o": `{"x":1}`}, {"": "plain"}} {
		i := s.Instances[n]
		if !maps.Equal(i.Metadata, want) || i.Addr != "10.0.0.7:80" || i.Weight != 100 {
			t.Errorf("%s is seen as %+v, want metadata %v", i.ID, *i, want)
		}
	}
	if err := m.DeleteEndpoint(t.Context(), prefix+"/mail/none"); err != nil {
		t.Fatal(err)
	}
	sees(t, soon, v, "object", "text")
}

// A plain gRPC client with etcd's own resolver reaches what is registered here, and follows as it comes and goes.
func TestAPlainGRPCClientReachesWhatIsRegisteredHere(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	server := func(id string) (*registry.Registration, string) {
		t.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, health.NewServer())
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = s.Serve(listener) // ends with Stop
		}()
		t.Cleanup(func() { s.Stop(); <-served })
		i := mail(id)
		i.Addr = listener.Addr().String()
		return register(t, cli, i, &registry.Options{Prefix: prefix}), i.Addr
	}
	one, first := server("one")
	builder, err := resolver.NewBuilder(cli)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("etcd:///"+prefix+"/mail", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// reaches calls until exactly these addresses answer, in one round after another.
	reaches := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		etcdtest.Eventually(t, soon, fmt.Sprint("reaches ", want), func(ctx context.Context) error {
			got := map[string]bool{}
			for range 4 {
				var p peer.Peer
				_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&p), grpc.WaitForReady(true))
				if err != nil {
					return err
				}
				got[p.Addr.String()] = true
			}
			if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, want) {
				return fmt.Errorf("it reaches %v", all)
			}
			return nil
		})
	}
	reaches(first)
	_, second := server("two")
	reaches(first, second)
	if err := one.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	reaches(second)
}
