package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// transport sends to the services below a prefix, for the test's time.
func transport(t *testing.T, cli *clientv3.Client, prefix string) *http.Client {
	t.Helper()
	rt := registry.NewTransport(cli, &registry.TransportOptions{View: &registry.ViewOptions{Prefix: prefix}})
	t.Cleanup(rt.Close)
	return &http.Client{Transport: rt, Timeout: soon}
}

// serving is an instance of mail that answers with its ID.
type serving struct {
	*httptest.Server
	reg *registry.Registration
}

func serveMail(t *testing.T, cli *clientv3.Client, prefix, id string) *serving {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, id) }))
	t.Cleanup(s.Close)
	i := mail(id)
	i.Addr = s.Listener.Addr().String()
	return &serving{Server: s, reg: register(t, cli, i, &registry.Options{Prefix: prefix})}
}

// kill ends an instance's server and all of its connections, and leaves it registered.
func (s *serving) kill() {
	s.CloseClientConnections()
	s.Close()
}

// ask returns the ID of the instance that has answered a GET.
func ask(ctx context.Context, c *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://mail/who", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// answers asks until exactly the given instances have answered in a row of asks, and fails the test unless that is soon.
func answers(t *testing.T, c *http.Client, ids ...string) {
	t.Helper()
	etcdtest.Eventually(t, soon, fmt.Sprintf("answered by %v", ids), func(ctx context.Context) error {
		got := map[string]int{}
		for range 20 * len(ids) {
			id, err := ask(ctx, c)
			if err != nil {
				t.Errorf("a GET has failed: %v", err)
			}
			got[id]++
		}
		if len(got) != len(ids) {
			return fmt.Errorf("by %v", got)
		}
		for _, id := range ids {
			if got[id] == 0 {
				return fmt.Errorf("by %v", got)
			}
		}
		return nil
	})
}

func TestTrafficMovesAsInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	c := transport(t, cli, prefix)
	if _, err := ask(t.Context(), c); !errors.Is(err, registry.ErrNoInstances) {
		t.Errorf("got %v before there was any instance", err)
	}
	a := serveMail(t, cli, prefix, "a")
	etcdtest.Eventually(t, soon, "answered", func(ctx context.Context) error {
		_, err := ask(ctx, c)
		return err
	})
	answers(t, c, "a")
	b := serveMail(t, cli, prefix, "b")
	answers(t, c, "a", "b")

	state := func(s *serving, to registry.State) {
		t.Helper()
		if err := s.reg.Update(t.Context(), func(i *registry.Instance) { i.State = to }); err != nil {
			t.Fatal(err)
		}
	}
	state(a, registry.Draining)
	answers(t, c, "b")
	serveMail(t, cli, prefix, "c")
	answers(t, c, "b", "c")
	state(b, registry.Starting)
	answers(t, c, "c")
	state(b, registry.Ready)
	answers(t, c, "b", "c")
	if err := a.reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.kill()
	answers(t, c, "b", "c")
}

// It is registered still, for a TTL; each GET that is sent to it finds nobody, and is sent to another one.
func TestAKilledInstanceCostsNoFailedGet(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	c := transport(t, cli, prefix)
	a := serveMail(t, cli, prefix, "a")
	b := serveMail(t, cli, prefix, "b")
	serveMail(t, cli, prefix, "c")
	sees(t, soon, watch(t, cli, "mail", prefix), "a", "b", "c")
	answers(t, c, "a", "b", "c")
	for _, dies := range []*serving{a, b} {
		dies.kill() // while no request is under way
		var askers sync.WaitGroup
		for range 4 {
			askers.Go(func() {
				for range 100 {
					if _, err := ask(t.Context(), c); err != nil {
						t.Errorf("a GET has failed: %v", err)
						return
					}
				}
			})
		}
		askers.Wait()
	}
	answers(t, c, "c")
	if err := a.reg.Err(); err != nil {
		t.Errorf("void: the killed instance is no longer registered: %v", err)
	}
}

// The first requests wait together for the list, each for as long as it wants to.
func TestAServiceIsOpenedOnceForAllRequests(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Dial(t, clientv3.Config{Endpoints: etcdtest.Endpoints(), DialOptions: calls.DialOptions()})
	prefix := under(t)
	serveMail(t, etcdtest.Client(t), prefix, "a")
	c := transport(t, cli, prefix)

	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(hurried, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v from a request that was cancelled", err)
	}
	var askers sync.WaitGroup
	for range 20 {
		askers.Go(func() {
			if id, err := ask(t.Context(), c); id != "a" {
				t.Errorf("got %q, %v", id, err)
			}
		})
	}
	askers.Wait()
	if n := calls.Count(etcdtest.WatchCreate); n != 1 {
		t.Errorf("%d watches for one service: %v", n, calls.Counts())
	}
}

func TestAServiceThatCannotBeWatchedIsTriedAgain(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Endpoints()
	cli := etcdtest.Dial(t, clientv3.Config{Endpoints: []string{"http://127.0.0.1:1"}})
	prefix := under(t)
	serveMail(t, etcdtest.Client(t), prefix, "a")
	c := transport(t, cli, prefix)
	ctx, stop := context.WithTimeout(t.Context(), soon)
	defer stop()
	if _, err := ask(ctx, c); err == nil {
		t.Fatal("a GET without etcd has succeeded")
	}
	cli.SetEndpoints(cluster...)
	etcdtest.Eventually(t, soon, "answered", func(ctx context.Context) error {
		_, err := ask(ctx, c)
		return err
	})
}

func TestAClosedTransportAnswersSo(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	serveMail(t, cli, prefix, "a")
	rt := registry.NewTransport(cli, &registry.TransportOptions{View: &registry.ViewOptions{Prefix: prefix}})
	c := &http.Client{Transport: rt}
	if _, err := ask(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	etcdtest.Returns(t, time.Second, "Close", rt.Close)
	if _, err := ask(t.Context(), c); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("got %v", err)
	}
	rt.Close()

	refused := registry.NewTransport(cli, &registry.TransportOptions{View: &registry.ViewOptions{Prefix: "a//b"}})
	defer refused.Close()
	if _, err := ask(t.Context(), &http.Client{Transport: refused}); err == nil || errors.Is(err, registry.ErrNoInstances) {
		t.Errorf("got %v with a prefix that breaks a rule", err)
	}
}

// A service whose name cannot be a host, by a function; and the view that is chosen from is there to be looked at.
func TestAServiceIsWhatTheTransportIsToldThatItIs(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	defer s.Close()
	register(t, cli, registry.Instance{Service: "shop/cart", ID: "a", Addr: s.Listener.Addr().String()}, &registry.Options{Prefix: prefix})
	rt := registry.NewTransport(cli, &registry.TransportOptions{
		View:    &registry.ViewOptions{Prefix: prefix},
		Service: func(r *http.Request) string { return r.URL.Hostname() + "/cart" },
	})
	c := &http.Client{Transport: rt, Timeout: soon}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop:80/items", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "/items" {
		t.Errorf("answered %q, %v", body, err)
	}
	v, err := rt.View(t.Context(), "shop/cart")
	if err != nil || len(v.Snapshot().Instances) != 1 {
		t.Errorf("its view: %v, %v", v, err)
	}
	rt.Close()
	if v.Err() == nil {
		t.Error("the view has outlived the Transport")
	}
	if _, err := rt.View(t.Context(), "shop/cart"); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
