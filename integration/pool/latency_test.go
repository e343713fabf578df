package pool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// number is a number from the environment, so that a run can be made longer, or made again.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// F6, F5: far away, with jitter and connections that break, a session with defaults is not lost and a view removes nobody.
func TestADistantClusterCostsNoSessionAndNoInstance(t *testing.T) {
	t.Parallel()
	during := seconds(t, 60)
	for _, way := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond} { // there and back
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			seed := number(t, "ETCDKIT_POOL_SEED", rand.Uint64())
			t.Logf("ETCDKIT_POOL_SEED=%d", seed)
			random := rand.New(rand.NewPCG(seed, uint64(way)))
			links := linksTo(t, 2)
			links.Delay(etcdtest.Both, way/2*8/10, way/2*12/10)
			p := open(t, pool.Config{Endpoints: links.Endpoints(), Retry: retry.Policy{ConnectTimeout: soon}}) // several round trips
			s, err := session.Open(t.Context(), p.Client(), nil)
			if err != nil {
				t.Fatal(err)
			}
			prefix := etcdtest.Prefix(t) + "services"
			reg, err := registry.Register(t.Context(), p.Client(), registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80"}, &registry.Options{Prefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			view, err := registry.Watch(t.Context(), p.Client(), "mail", &registry.ViewOptions{Prefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			defer view.Close()
			removals := make(chan string, 1)
			ctx, stop := context.WithCancel(t.Context())
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				seen := false
				for snapshot := range view.Changes(ctx) {
					seen = seen || len(snapshot.Instances) == 1
					if seen && len(snapshot.Instances) != 1 {
						select {
						case removals <- fmt.Sprintf("%+v", snapshot):
						default:
						}
					}
				}
			}()
			resets := 0
			for end := time.After(during); ; {
				select {
				case <-end:
					t.Logf("%d resets; %v", resets, p.Stats())
					stop()
					<-watched
					if revision := reg.Revision(); revision == 0 {
						t.Error("not registered")
					}
					if err := reg.Close(t.Context()); err != nil {
						t.Error(err)
					}
					if err := s.Close(t.Context()); err != nil {
						t.Error(err)
					}
					return
				case <-s.Context().Done():
					t.Fatalf("the session was lost: %v", context.Cause(s.Context()))
				case snapshot := <-removals:
					t.Fatalf("the instance was removed: %s", snapshot)
				case <-time.After(time.Duration(random.Int64N(int64(2 * time.Second)))):
					links[random.IntN(len(links))].Drop()
					resets++
				}
			}
		})
	}
}
