package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

func TestTokensThatLiveForTwoSecondsAreNoticedByNobody(t *testing.T) {
	t.Parallel()
	g := guard(t, 3, 2*time.Second)
	p := open(t, g.app())
	l := under(t, p, "k/")
	l.sources(t, p.Client(), "s/")
	began, before := time.Now(), g.desk.total.Load()
	l.during(seconds(t, 10))
	l.end()
	took := time.Since(began)
	if n := g.desk.total.Load() - before; n < 2 || n > int64(took/(500*time.Millisecond)) {
		t.Errorf("%d tokens were fetched in %v", n, took)
	}
	if most := g.desk.most.Load(); most > 1 {
		t.Errorf("%d tokens were fetched at once", most)
	}
	t.Logf("%d tokens in %v, at most %d at once", g.desk.total.Load()-before, took, g.desk.most.Load())
}

func TestATokenFromACallbackIsReplacedBeforeItExpires(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, time.Hour)
	var asked, inside atomic.Int64
	cfg := pool.Config{Endpoints: g.Endpoints(), PlaintextCredentials: true, Retry: unhurried}
	revision := g.revision(t)
	cfg.Credentials = func(context.Context) (pool.Credentials, error) {
		if inside.Add(1) > 1 {
			t.Error("the callback is called twice at once")
		}
		defer inside.Add(-1)
		asked.Add(1)
		return pool.Credentials{Token: g.sign("app", revision, time.Now().Add(2*time.Second))}, nil
	}
	p := open(t, cfg)
	l := under(t, p, "k/")
	l.sources(t, p.Client(), "s/")
	l.during(4 * time.Second)
	l.end()
	if n := asked.Load(); n < 3 || n > 20 {
		t.Errorf("the callback was asked %d times in 4 s", n)
	}
}

// An issuer that is away, or slow, is felt when the last token has expired, and not before.
func TestACallbackThatFailsIsNotFeltBeforeTheTokenExpires(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, time.Hour)
	var fails atomic.Bool
	var failed atomic.Int64
	cfg := pool.Config{Endpoints: g.Endpoints(), PlaintextCredentials: true, Retry: unhurried}
	revision := g.revision(t)
	down := errors.New("the vault is sealed")
	cfg.Credentials = func(context.Context) (pool.Credentials, error) {
		if fails.Load() {
			failed.Add(1)
			return pool.Credentials{}, down
		}
		return pool.Credentials{Token: g.sign("app", revision, time.Now().Add(4*time.Second))}, nil
	}
	p := open(t, cfg)
	l := under(t, p, "k/")
	fails.Store(true)
	etcdtest.Eventually(t, soon, "the callback fails", func(context.Context) error {
		if failed.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := l.still(); err != nil {
		t.Error(err)
	}
	fails.Store(false)
	l.during(time.Second)
	l.end()
}

// Tokens of etcd's own kind end a second after their last use, and do not say so: whatever comes first after that is made twice.
func TestWhateverComesFirstAfterASimpleTokenHasExpiredSucceeds(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, 0)
	p := open(t, g.app())
	etcd := p.Client()
	grant, err := etcd.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Put(t.Context(), "k/leased", "", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		call func(ctx context.Context) error
	}{
		{"a put", func(ctx context.Context) error { _, err := etcd.Put(ctx, "k/a", ""); return err }},
		{"a get", func(ctx context.Context) error { _, err := etcd.Get(ctx, "k/a"); return err }},
		{"a watch", func(ctx context.Context) error {
			resp, ok := <-etcd.Watch(ctx, "k/a", clientv3.WithCreatedNotify())
			if !ok || !resp.Created {
				return fmt.Errorf("%+v: %w", resp, resp.Err())
			}
			return resp.Err()
		}},
		{"KeepAliveOnce", func(ctx context.Context) error { _, err := etcd.KeepAliveOnce(ctx, grant.ID); return err }},
		{"a stream of a read", func(ctx context.Context) error {
			parts, err := etcd.GetStream(ctx, "k/", clientv3.WithPrefix())
			if err != nil {
				return err
			}
			for part := range parts {
				if err := part.Err(); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
			return nil
		}},
		{"a put in Do", func(ctx context.Context) error {
			return p.Do(ctx, func(ctx context.Context, bulk *clientv3.Client) error { _, err := bulk.Put(ctx, "k/a", ""); return err })
		}},
		{"a watch in Do", func(ctx context.Context) error {
			return p.Do(ctx, func(ctx context.Context, bulk *clientv3.Client) error {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				resp := <-bulk.Watch(ctx, "k/a", clientv3.WithCreatedNotify())
				return resp.Err()
			})
		}},
	} {
		g.forget(t)
		before := g.desk.total.Load()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		if err := c.call(ctx); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		cancel()
		if n := g.desk.total.Load() - before; n != 1 {
			t.Errorf("%s: %d tokens were fetched", c.what, n)
		}
	}
	// And once by time alone; asking whether it has expired would keep it alive.
	before := g.desk.total.Load()
	<-time.After(2500 * time.Millisecond)
	if _, err := etcd.Put(t.Context(), "k/a", ""); err != nil {
		t.Error(err)
	}
	if n := g.desk.total.Load() - before; n != 1 {
		t.Errorf("%d tokens were fetched after a token's life", n)
	}
}

func TestALeaseIsKeptAliveBeyondTheTokenThatItsStreamBeganWith(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, 0)
	p := open(t, g.app())
	etcd := p.Client()
	grant, err := etcd.Grant(t.Context(), 3) // renewed each second
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Put(t.Context(), "k/leased", "", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	alive, err := etcd.KeepAlive(t.Context(), grant.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if resp := etcdtest.Receive(t, 20*time.Second, fmt.Sprintf("renewal %d", i), alive); resp.TTL <= 0 {
			t.Error(resp)
		}
		g.forget(t)
	}
}

func TestManyCallsThatAreRefusedAtOnceFetchOneToken(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, 0)
	p := open(t, g.app())
	etcd := p.Client()
	for range 3 {
		g.forget(t)
		before := g.desk.total.Load()
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				if _, err := etcd.Put(t.Context(), fmt.Sprintf("k/%d", i), ""); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if n := g.desk.total.Load() - before; n != 1 {
			t.Errorf("%d tokens were fetched for 64 calls", n)
		}
	}
	if most := g.desk.most.Load(); most > 1 {
		t.Errorf("%d tokens were fetched at once", most)
	}
}

func TestAPasswordIsRotatedThroughTheCallback(t *testing.T) {
	t.Parallel()
	for name, life := range map[string]time.Duration{"simple tokens": 0, "JWT": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard(t, 1, life)
			var password atomic.Value
			password.Store("app secret")
			cfg := pool.Config{Endpoints: g.Endpoints(), PlaintextCredentials: true, Retry: unhurried}
			// One that waits for the member to have the new one is right at every moment.
			var rotating sync.RWMutex
			cfg.Credentials = func(context.Context) (pool.Credentials, error) {
				rotating.RLock()
				defer rotating.RUnlock()
				return pool.Credentials{Username: "app", Password: password.Load().(string)}, nil
			}
			p := open(t, cfg)
			l := under(t, p, "k/")
			l.sources(t, p.Client(), "s/")
			for i := range 3 {
				next := fmt.Sprintf("app secret %d", i)
				rotating.Lock()
				_, err := g.root.UserChangePassword(t.Context(), "app", next)
				password.Store(next)
				rotating.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				l.during(700 * time.Millisecond)
			}
			l.end()
		})
	}
}

// Each change of the users and roles has etcd refuse the JWTs of before, and whatever was in flight.
func TestUsersAndRolesMayBeChangedUnderLoad(t *testing.T) {
	t.Parallel()
	for name, life := range map[string]time.Duration{"simple tokens": 0, "JWT": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard(t, 1, life)
			p := open(t, g.app())
			l := under(t, p, "k/")
			l.sources(t, p.Client(), "s/")
			for i := range 40 {
				name := fmt.Sprintf("user%d", i)
				if _, err := g.root.UserAdd(t.Context(), name, "x"); err != nil {
					t.Fatal(err)
				}
				if _, err := g.root.RoleAdd(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				if _, err := g.root.UserGrantRole(t.Context(), name, name); err != nil {
					t.Fatal(err)
				}
				l.during(20 * time.Millisecond)
			}
			l.end()
			if most := g.desk.most.Load(); most > 2 { // root's own, and the pool's
				t.Errorf("%d tokens were fetched at once", most)
			}
			t.Logf("%d tokens for 120 changes", g.desk.total.Load())
		})
	}
}

func TestWhatIsDeniedStaysDeniedAndTyped(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, 2*time.Second)
	p := open(t, g.app())
	etcd := p.Client()
	before := g.desk.total.Load()
	for what, call := range map[string]func() error{
		"a put": func() error { _, err := etcd.Put(t.Context(), "elsewhere", ""); return err },
		"a get": func() error { _, err := etcd.Get(t.Context(), "elsewhere"); return err },
		"a transaction": func() error {
			_, err := etcd.Txn(t.Context()).Then(clientv3.OpDelete("elsewhere")).Commit()
			return err
		},
		"administration": func() error { _, err := etcd.UserAdd(t.Context(), "mallory", "x"); return err },
		"a put in Do": func() error {
			return p.Do(t.Context(), func(ctx context.Context, bulk *clientv3.Client) error {
				_, err := bulk.Put(ctx, "elsewhere", "")
				return err
			})
		},
	} {
		if err := call(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	watch := etcdtest.Receive(t, soon, "the answer to the watch", etcd.Watch(t.Context(), "elsewhere"))
	if err := watch.Err(); err == nil || !errors.Is(retry.EtcdError(err), rpctypes.ErrPermissionDenied) {
		t.Errorf("a watch: %v", err)
	}
	if n := g.desk.total.Load() - before; n > 3 {
		t.Errorf("%d tokens were fetched for what is denied with any", n)
	}
}

func TestOpenRefusesAWrongPasswordAtOnceAndNamesTheUser(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, 0)
	for what, change := range map[string]func(*pool.Config){
		"a wrong password": func(c *pool.Config) { c.Password = "canary" },
		"an unknown user":  func(c *pool.Config) { c.Username, c.Password = "mallory", "canary" },
		"a callback's": func(c *pool.Config) {
			c.Username, c.Password = "", ""
			c.Credentials = func(context.Context) (pool.Credentials, error) {
				return pool.Credentials{Username: "app", Password: "canary"}, nil
			}
		},
	} {
		cfg := g.app()
		change(&cfg)
		before := g.desk.total.Load()
		_, err := pool.Open(t.Context(), cfg)
		if !errors.Is(err, rpctypes.ErrAuthFailed) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if name := cfg.Username; name != "" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: who? %v", what, err)
		}
		if n := g.desk.total.Load() - before; n != 1 {
			t.Errorf("%s: asked %d times", what, n)
		}
		t.Logf("%s: %v", what, err)
	}
}

func TestOpenRefusesATokenThatEtcdDoesNotTake(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, time.Hour)
	for what, token := range map[string]string{
		"expired": g.sign("app", g.revision(t), time.Now().Add(-time.Minute)), "of an earlier revision": g.sign("app", 1, time.Now().Add(time.Hour)),
		"garbage": "canary",
	} {
		_, err := pool.Open(t.Context(), pool.Config{Endpoints: g.Endpoints(), Token: token, PlaintextCredentials: true})
		if err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		t.Logf("%s: %v", what, err)
	}
}

// The parts of the client that have streams of their own carry the token too.
func TestEveryStreamCarriesTheToken(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, time.Hour)
	p := open(t, pool.Config{Endpoints: g.Endpoints(), Username: "root", Password: "root secret", PlaintextCredentials: true})
	snapshot := func(ctx context.Context, client *clientv3.Client) error {
		s, err := client.SnapshotWithVersion(ctx)
		if err != nil {
			return err
		}
		defer s.Snapshot.Close()
		n, err := io.Copy(io.Discard, s.Snapshot)
		if err == nil && n == 0 {
			err = errors.New("it is empty")
		}
		return err
	}
	watch := func(ctx context.Context, client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		resp := <-client.Watch(ctx, "k/", clientv3.WithCreatedNotify())
		return errors.Join(resp.Err(), ctx.Err())
	}
	keep := func(ctx context.Context, client *clientv3.Client) error {
		grant, err := client.Grant(ctx, 60)
		if err == nil {
			_, err = client.KeepAliveOnce(ctx, grant.ID)
		}
		return err
	}
	stream := func(ctx context.Context, client *clientv3.Client) error {
		parts, err := client.GetStream(ctx, "k/", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for part := range parts {
			if err := part.Err(); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return nil
	}
	for what, call := range map[string]func(context.Context, *clientv3.Client) error{"a snapshot": snapshot, "a watch": watch, "a renewal": keep, "a stream of a read": stream} {
		if err := call(t.Context(), p.Client()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := p.Do(t.Context(), call); err != nil {
			t.Errorf("%s in Do: %v", what, err)
		}
	}
}

// An issuer of tokens may take longer than one attempt at a call, and than some callers wait.
func TestACallbackMayTakeSeconds(t *testing.T) {
	t.Parallel()
	g := guard(t, 1, time.Hour)
	cfg := pool.Config{Endpoints: g.Endpoints(), PlaintextCredentials: true}
	cfg.Retry = retry.Policy{AttemptTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, ConnectTimeout: 2 * time.Second}
	cfg.Credentials = func(ctx context.Context) (pool.Credentials, error) {
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			return pool.Credentials{}, context.Cause(ctx)
		}
		return pool.Credentials{Token: g.sign("app", g.revision(t), time.Now().Add(time.Hour))}, nil
	}
	p := open(t, cfg)
	// All tokens of before are refused, and the next one takes three seconds.
	if _, err := g.root.UserAdd(t.Context(), "somebody", "x"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := p.Client().Put(t.Context(), "k/a", ""); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	all.Go(func() { // who gives up does so alone
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.Client().Put(ctx, "k/a", ""); err == nil {
			t.Error("an impatient caller was served")
		}
	})
	all.Wait()
}
