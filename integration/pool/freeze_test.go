package pool_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// gaps measures the longest time between two of a thing.
type gaps struct {
	mu      sync.Mutex // guards what is below
	last    time.Time
	longest time.Duration
	n       int
}

// seen notes that it has happened.
func (g *gaps) seen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last = now
	g.n++
}

// outage is the longest, the one that has not ended included.
func (g *gaps) outage() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.longest, time.Since(g.last)).Round(time.Millisecond)
}

func (g *gaps) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// again waits until it has happened some more times.
func (g *gaps) again(t *testing.T, within time.Duration, what string) {
	t.Helper()
	n := g.count() + 3
	etcdtest.Eventually(t, within, what, func(context.Context) error {
		if now := g.count(); now < n {
			return fmt.Errorf("%d of %d", now, n)
		}
		return nil
	})
}

// traffic is what goes through one client: puts one after the other, and watches at all members.
type traffic struct {
	puts    gaps
	failed  int // of them; guarded by puts.mu
	watches [9]gaps
}

// run keeps it going until ctx ends.
func (tr *traffic) run(ctx context.Context, work *sync.WaitGroup, client *clientv3.Client, put, watched string) {
	work.Go(func() {
		for ctx.Err() == nil {
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := client.Put(attempt, put, "")
			cancel()
			if err == nil {
				tr.puts.seen()
				continue
			}
			tr.puts.mu.Lock()
			tr.failed++
			tr.puts.mu.Unlock()
		}
	})
	for i := range tr.watches {
		// Raw ones, with nothing of ours above. Those whose metadata differ have a stream each, at the next endpoint that is
		// connected: so they are opened one after the other.
		own := metadata.AppendToOutgoingContext(ctx, "watch", strconv.Itoa(i))
		watch := client.Watch(own, watched, clientv3.WithCreatedNotify())
		<-watch
		work.Go(func() {
			for resp := range watch {
				for range resp.Events {
					tr.watches[i].seen()
				}
			}
		})
	}
}

// events is the longest outage of a watch.
func (tr *traffic) events() (longest time.Duration) {
	for i := range tr.watches {
		longest = max(longest, tr.watches[i].outage())
	}
	return longest
}

// flows waits until all of it goes on.
func (tr *traffic) flows(t *testing.T, within time.Duration) {
	t.Helper()
	tr.puts.again(t, within, "puts")
	for i := range tr.watches {
		tr.watches[i].again(t, within, "events")
	}
}

func (tr *traffic) String() string {
	tr.puts.mu.Lock()
	failed := tr.failed
	tr.puts.mu.Unlock()
	return fmt.Sprintf("longest outage of puts %v, of a watch %v (%d puts, %d failed)", tr.puts.outage(), tr.events(), tr.puts.count(), failed)
}

// F1, F4 (etcd#8980, etcd#14501): one of three members, the leader and a follower in turn, is a process that was stopped:
// connected, and silent. What the pool adds to the outage that everybody has, until there is another leader, is at most two
// seconds, and a session of five lives on.
func TestAMemberThatIsFrozenIsHardlyNoticed(t *testing.T) {
	t.Parallel()
	const most = 2 * time.Second
	c, err := etcdproc.Start(t.Context(), etcdproc.Config{Members: 3, NoFsync: true, Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, what := range []string{"follower", "leader"} {
		leader, err := c.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		frozen := leader
		if what == "follower" {
			frozen = (leader + 1) % 3
		}
		p := opened(t, pool.Config{Endpoints: c.Endpoints()})
		s, err := session.Open(t.Context(), p.Client(), &session.Options{TTL: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var healthy []string
		for i, e := range c.Endpoints() {
			if i != frozen {
				healthy = append(healthy, e)
			}
		}
		outside := etcdtest.Dial(t, clientv3.Config{Endpoints: healthy, DialOptions: retry.DialOptions(retry.Policy{})})
		stock := etcdtest.Dial(t, clientv3.Config{Endpoints: c.Endpoints(), DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second})

		var (
			ours, theirs, nobodys traffic
			work                  sync.WaitGroup
		)
		ctx, stop := context.WithCancel(t.Context())
		for range 4 {
			nobodys.run(ctx, &work, outside, "watched", "watched") // its puts are the events of all
		}
		theirs.run(ctx, &work, stock, "theirs", "watched")
		ours.run(ctx, &work, p.Client(), "ours", "watched")
		for _, tr := range []*traffic{&ours, &theirs, &nobodys} {
			tr.flows(t, soon)
		}

		if err := c.Freeze(frozen); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		etcdtest.Eventually(t, 3*soon, "the frozen member is left out", func(context.Context) error {
			if s := p.Stats(); len(s.LeftOut) != 1 || s.LeftOut[0] != c.Endpoint(frozen) {
				return fmt.Errorf("%v", s)
			}
			return nil
		})
		out := time.Since(began).Round(time.Millisecond)
		etcdtest.Nothing(t, 6*time.Second-time.Since(began), "the session", s.Context().Done()) // longer than its TTL
		t.Logf("%s frozen: left out after %v; ours: %v; beside it: %v; stock client: %v", what, out, &ours, &nobodys, &theirs)
		if got, all := ours.puts.outage(), nobodys.puts.outage(); got > all+most {
			t.Errorf("%s frozen: puts stood still for %v, and those to healthy members for %v", what, got, all)
		}
		if got, all := ours.events(), nobodys.events(); got > all+most {
			t.Errorf("%s frozen: a watch stood still for %v, and one at healthy members for %v", what, got, all)
		}

		if err := c.Thaw(frozen); err != nil {
			t.Fatal(err)
		}
		etcdtest.Eventually(t, 3*soon, "the member is taken in again", func(context.Context) error {
			if s := p.Stats(); len(s.LeftOut) > 0 || len(s.Endpoints) != 3 {
				return fmt.Errorf("%v", s)
			}
			return nil
		})
		if s.Context().Err() != nil {
			left, err := outside.TimeToLive(t.Context(), s.Lease())
			if what == "leader" && err == nil && left.TTL < 0 {
				// A leader that wakes up has seen no renewal for longer than the TTL, and may have its successor revoke the lease
				// before it learns that it has one (etcd#15247): nobody's client can help that.
				t.Logf("the former leader had the lease revoked: %v", context.Cause(s.Context()))
			} else {
				t.Errorf("the session is lost, and etcd has the lease: %v, %v, %v", context.Cause(s.Context()), left, err)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		stop()
		work.Wait()
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}
