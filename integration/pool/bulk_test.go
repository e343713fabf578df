package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

// guest is a call of Do that stays inside its function until it is told to leave.
type guest struct {
	client *clientv3.Client
	ctx    context.Context // of the function
	leave  chan struct{}
	done   chan struct{}
	err    error // of Do; read after done
}

// enter begins a call of Do that stays, and returns when it is inside.
func enter(t *testing.T, p *pool.Pool) *guest {
	t.Helper()
	g := &guest{leave: make(chan struct{}), done: make(chan struct{})}
	inside := make(chan struct{})
	go func() {
		defer close(g.done)
		g.err = p.Do(context.Background(), func(ctx context.Context, client *clientv3.Client) error {
			g.ctx, g.client = ctx, client
			close(inside)
			select {
			case <-g.leave:
			case <-ctx.Done(): // the pool is closed under it
			}
			return nil
		})
	}()
	select {
	case <-inside:
	case <-g.done:
		t.Fatalf("Do: %v", g.err)
	case <-time.After(soon):
		t.Fatal("Do does not call its function")
	}
	return g
}

// out has a guest leave, and returns what Do returned.
func (g *guest) out(t *testing.T) error {
	t.Helper()
	close(g.leave)
	etcdtest.Done(t, soon, "a call of Do", g.done)
	return g.err
}

// clientOf is the client that a call of Do gets now.
func clientOf(t *testing.T, p *pool.Pool) (client *clientv3.Client) {
	t.Helper()
	if err := p.Do(t.Context(), func(_ context.Context, c *clientv3.Client) error { client = c; return nil }); err != nil {
		t.Fatal(err)
	}
	return client
}

func TestManyMoreCallersThanConnectionsShareThem(t *testing.T) {
	t.Parallel()
	const callers, most = 64, 3
	link := etcdtest.Shared(t).Link(0)
	p := open(t, pool.Config{
		Endpoints: []string{link.Endpoint()}, MaxConnections: most, AcquireTimeout: soon,
		Retry: retry.Policy{ConnectTimeout: soon}, // one that a busy machine is slow to make is not to be made twice
	})
	before := link.Accepted()
	var (
		all, inside sync.WaitGroup
		mu          sync.Mutex // guards seen
		seen        = map[*clientv3.Client]int{}
	)
	key := etcdtest.Prefix(t)
	inside.Add(callers)
	for range callers {
		all.Go(func() { // all at once: none has a connection yet
			arrived := sync.OnceFunc(inside.Done)
			defer arrived()
			err := p.Do(t.Context(), func(ctx context.Context, client *clientv3.Client) error {
				mu.Lock()
				seen[client]++
				mu.Unlock()
				arrived()
				inside.Wait() // so all are inside at the same time
				_, err := client.Get(ctx, key)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(seen) > most || p.Stats().Bulk.Connections > most {
		t.Errorf("%d clients, %d connections, want at most %d", len(seen), p.Stats().Bulk.Connections, most)
	}
	// Each client is one connection to the only endpoint. Those of the other classes are opened with their first call.
	if n := link.Accepted() - before; n > most {
		t.Errorf("%d connections were opened, want at most %d", n, most)
	}
	if n := p.Stats().Bulk.Calls; n != 0 {
		t.Errorf("%d calls are in flight after the last", n)
	}
}

func TestAnotherConnectionIsOpenedOnlyWhenAllAreBusy(t *testing.T) {
	t.Parallel()
	p := open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), MaxConnections: 2, AcquireTimeout: soon})
	if n := p.Stats().Bulk.Connections; n != 0 {
		t.Errorf("%d connections before anybody asked for one", n)
	}
	first := clientOf(t, p)
	for range 5 {
		if c := clientOf(t, p); c != first {
			t.Fatal("a second connection, though the first is idle")
		}
	}
	one := enter(t, p)
	two := enter(t, p)
	if one.client != first || two.client == first {
		t.Fatal("the idle connection was not taken, or the busy one was")
	}
	// Both are busy with one, then one of them is with two: the third goes to either, the fourth to the other.
	three, four := enter(t, p), enter(t, p)
	if three.client == four.client {
		t.Error("the busier connection was taken")
	}
	if s := p.Stats().Bulk; s != (pool.ClassStats{Connections: 2, Calls: 4}) {
		t.Errorf("%+v", s)
	}
	// Whoever leaves makes room.
	for _, g := range []*guest{two, three, four} {
		if g.client == two.client {
			if err := g.out(t); err != nil {
				t.Error(err)
			}
		}
	}
	if c := clientOf(t, p); c != two.client {
		t.Error("the idle connection was not taken")
	}
	for _, g := range []*guest{one, three, four} {
		if g.client == one.client {
			if err := g.out(t); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestConnectionsThatNobodyUsesAreClosed(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	p := open(t, pool.Config{Endpoints: []string{link.Endpoint()}, IdleTimeout: time.Millisecond, AcquireTimeout: soon})
	before := link.Open()
	one := enter(t, p)
	two := enter(t, p)
	if n := p.Stats().Bulk.Connections; n != 2 {
		t.Fatalf("%d connections", n)
	}
	if err := two.out(t); err != nil {
		t.Error(err)
	}
	etcdtest.Eventually(t, 3*soon, "the idle connection is closed", func(context.Context) error {
		if n := p.Stats().Bulk.Connections; n != 1 || link.Open() > before+1 {
			return fmt.Errorf("%d connections, %d to the member", n, link.Open()-before)
		}
		return nil
	})
	etcdtest.Done(t, soon, "the idle client", two.client.Ctx().Done())
	if _, err := one.client.Get(t.Context(), etcdtest.Prefix(t)); err != nil {
		t.Errorf("through the busy one: %v", err)
	}
	if err := one.out(t); err != nil {
		t.Error(err)
	}
}

func TestWithoutEtcdDoSaysSoWithinAcquireTimeout(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(*etcdtest.Link){
		"refused": func(l *etcdtest.Link) { l.Cut() },
		"silent":  func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := etcdtest.Shared(t).Link(0)
			p := open(t, pool.Config{Endpoints: []string{link.Endpoint()}, MaxConnections: 2, AcquireTimeout: 300 * time.Millisecond})
			hurt(link)
			var all sync.WaitGroup
			for range 8 { // more than may be opened: some wait for those
				all.Go(func() {
					took := etcdtest.Returns(t, soon, "Do", func() {
						err := p.Do(t.Context(), func(context.Context, *clientv3.Client) error { t.Error("called"); return nil })
						if !errors.Is(err, pool.ErrAcquireTimeout) {
							t.Errorf("Do: %v, want ErrAcquireTimeout", err)
						}
					})
					if took < 300*time.Millisecond {
						t.Errorf("gave up after %v", took)
					}
				})
			}
			all.Wait()
			ctx, cancel := context.WithCancelCause(t.Context())
			mine := errors.New("the caller's")
			cancel(mine)
			if err := p.Do(ctx, nil); !errors.Is(err, mine) {
				t.Errorf("Do, cancelled before: %v", err)
			}
			link.Drop() // what is held would be let through in Heal
			link.Heal()
			etcdtest.Eventually(t, soon, "Do works again", func(ctx context.Context) error {
				return p.Do(ctx, func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, "k"); return err })
			})
		})
	}
}

func TestACallerWhoGivesUpWaitingGetsItsOwnCause(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	p := open(t, pool.Config{Endpoints: []string{link.Endpoint()}, MaxConnections: 1, AcquireTimeout: time.Hour})
	link.Blackhole(etcdtest.Both)
	var (
		all  sync.WaitGroup
		mine = errors.New("the caller's")
	)
	ctx, cancel := context.WithCancelCause(t.Context())
	for range 3 { // one opens, two wait for it
		all.Go(func() {
			if err := p.Do(ctx, nil); !errors.Is(err, mine) {
				t.Errorf("Do: %v, want the caller's cause", err)
			}
		})
	}
	cancel(mine)
	etcdtest.Returns(t, soon, "Do, cancelled", all.Wait)
}

func TestABusyConnectionIsBetterThanNone(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	p := open(t, pool.Config{Endpoints: []string{link.Endpoint()}, AcquireTimeout: 200 * time.Millisecond})
	one := enter(t, p)
	link.Blackhole(etcdtest.Both) // open ones stay, and no other comes about
	two := enter(t, p)
	if one.client != two.client {
		t.Error("another connection came about")
	}
	for _, g := range []*guest{one, two} {
		if err := g.out(t); err != nil {
			t.Error(err)
		}
	}
	link.Heal()
}

func TestAConnectionThatIsTooOldIsReplacedWhenItIsAskedForAndNotUnderItsUsers(t *testing.T) {
	t.Parallel()
	const life = time.Second
	p := open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), MaxConnections: 1, MaxLifetime: life, AcquireTimeout: soon})
	began := time.Now()
	long := enter(t, p)
	etcdtest.Eventually(t, soon, "another connection", func(context.Context) error {
		if clientOf(t, p) == long.client {
			return errors.New("the same")
		}
		return nil
	})
	if age := time.Since(began); age < life/2 {
		t.Errorf("replaced after %v, which is before three quarters of %v", age, life)
	}
	if err := long.client.Ctx().Err(); err != nil {
		t.Errorf("the old one was closed under its user: %v", err)
	}
	if _, err := long.client.Get(long.ctx, etcdtest.Prefix(t)); err != nil {
		t.Errorf("through the old one: %v", err)
	}
	if err := long.out(t); err != nil {
		t.Error(err)
	}
	etcdtest.Done(t, soon, "the old one, which nobody uses any more", long.client.Ctx().Done())
}

func TestDoReturnsWhatItsFunctionDoes(t *testing.T) {
	t.Parallel()
	p := open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints(), Namespace: etcdtest.Prefix(t), AcquireTimeout: soon})
	mine := errors.New("the function's")
	if err := p.Do(t.Context(), func(context.Context, *clientv3.Client) error { return mine }); err != mine { //nolint:errorlint // the very same
		t.Errorf("Do: %v", err)
	}
	func() {
		defer func() {
			if got := recover(); got != "mine" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = p.Do(t.Context(), func(context.Context, *clientv3.Client) error { panic("mine") })
	}()
	if s := p.Stats().Bulk; s != (pool.ClassStats{Connections: 1}) {
		t.Errorf("after an error and a panic: %+v", s)
	}
	type key struct{}
	err := p.Do(context.WithValue(t.Context(), key{}, "mine"), func(ctx context.Context, client *clientv3.Client) error {
		if ctx.Value(key{}) != "mine" {
			t.Error("it is another context")
		}
		_, err := client.Put(ctx, "k", "v") // in the namespace
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if got, err := p.Client().Get(t.Context(), "k"); err != nil || got.Count != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
