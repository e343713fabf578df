package registry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// checked is a service whose health is asked for.
type checked struct {
	*httptest.Server
	sick  atomic.Bool
	hurt  atomic.Int64  // how many of the next answers say that it is sick
	asked chan struct{} // for each answer
}

func serveChecked(t *testing.T) *checked {
	t.Helper()
	s := &checked{asked: make(chan struct{}, 10_000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.sick.Load() || s.hurt.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		s.asked <- struct{}{}
	}))
	t.Cleanup(s.Close)
	return s
}

// often returns its check, put as often as a test can wait for.
func (s *checked) often() registry.Check {
	c := registry.HTTPCheck(s.URL + "/healthz")
	c.Period, c.Timeout = 200*time.Millisecond, 200*time.Millisecond
	return c
}

// state waits for an instance to be in a state.
func state(t *testing.T, v *registry.View, want registry.State) {
	t.Helper()
	awaits(t, soon, v, want.String(), func(s registry.Snapshot) bool { return len(s.Instances) == 1 && s.Instances[0].State == want })
}

// go-zero#1427: an instance is found before it can serve, and while it cannot.
func TestChecksTakeAnInstanceOutAndBackIn(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	server := serveChecked(t)
	server.sick.Store(true)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, Checks: []registry.Check{server.often()}})
	first := awaits(t, soon, v, "announced", func(s registry.Snapshot) bool { return len(s.Instances) > 0 })
	if i := first.Instances[0]; i.State != registry.Starting {
		t.Errorf("before it has passed it is %s", i.State)
	}
	server.sick.Store(false)
	state(t, v, registry.Ready)
	server.sick.Store(true)
	state(t, v, registry.Starting)
	server.sick.Store(false)
	state(t, v, registry.Ready)

	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(t, soon, v)
	for len(server.asked) > 0 {
		<-server.asked
	}
	etcdtest.Nothing(t, 500*time.Millisecond, "a probe after Close", server.asked)
}

func TestOneFailedProbeIsSeenByNobody(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	server := serveChecked(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, Checks: []registry.Check{server.often()}})
	state(t, v, registry.Ready)
	before := v.Snapshot().Revision
	for range 3 {
		server.hurt.Store(1)
		etcdtest.Eventually(t, soon, "one that fails and three that pass", func(context.Context) error {
			if left := server.hurt.Load(); left > -3 {
				return fmt.Errorf("%d to go", left+3)
			}
			return nil
		})
	}
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Version = "2" }); err != nil {
		t.Fatal(err)
	}
	awaits(t, soon, v, "updated", func(s registry.Snapshot) bool { return s.Revision >= r.Revision() })
	if events := history(t, cli, prefix+"/mail/", before); len(events) != 1 || v.Snapshot().Instances[0].State != registry.Ready {
		t.Errorf("%d writes, and it is %s", len(events), v.Snapshot().Instances[0].State)
	}
}

func TestACheckThatBreaksARuleIsRefusedAndNothingAnnounced(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	for rule, c := range map[string]registry.Check{
		"one failure must take nobody out": {Name: "a", Probe: func(context.Context) error { return nil }, FailureThreshold: 1},
		"address refused":                  registry.TCPCheck("localhost"),
	} {
		_, err := registry.Register(t.Context(), cli, mail("a"), &registry.Options{Prefix: prefix, Checks: []registry.Check{c}})
		if err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("got %v, want %q", err, rule)
		}
	}
	if kv := get(t, cli, prefix+"/mail/a"); kv != nil {
		t.Errorf("there is %s", kv.Key)
	}
}
