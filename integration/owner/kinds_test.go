package owner_test

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a TTL to be over: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

const (
	// soon is the patience with what has no bound of its own; a busy machine may need it.
	soon = 10 * time.Second

	// promptly is the bound of everything that was cancelled.
	promptly = 250 * time.Millisecond

	// shortTTL is the least TTL of a session, for tests that wait for it to be over.
	shortTTL = 2 * time.Second
)

// owner is what the suite knows of a handle.
type owner interface {
	Context() context.Context
	Guard() fence.Guard
	Release(ctx context.Context) error
}

// kind is one way to own, through one way to make a client.
type kind struct {
	name      string
	dial      func(t *testing.T, endpoints ...string) *clientv3.Client
	acquire   func(ctx context.Context, s *session.Session, name string) (owner, error)
	reentrant error // of a nested acquisition
	plain     bool  // that it does not matter through which client is seen by another kind: once is enough
}

type held struct{ *lock.Held }

func (h held) Release(ctx context.Context) error { return h.Unlock(ctx) }

type term struct{ *election.Term }

func (t term) Release(ctx context.Context) error { return t.Resign(ctx) }

var kinds = []kind{
	{
		name:      "lock",
		reentrant: lock.ErrReentrant,
		acquire: func(ctx context.Context, s *session.Session, name string) (owner, error) {
			h, err := lock.NewMutex(s, name).Lock(ctx)
			if err != nil {
				return nil, err
			}
			return held{h}, nil
		},
	},
	{
		name:      "permits",
		plain:     true,
		reentrant: lock.ErrReentrant,
		acquire: func(ctx context.Context, s *session.Session, name string) (owner, error) {
			h, err := lock.NewSemaphore(s, name, 3).Acquire(ctx, 3)
			if err != nil {
				return nil, err
			}
			return held{h}, nil
		},
	},
	{
		name:      "term",
		reentrant: election.ErrReentrant,
		acquire: func(ctx context.Context, s *session.Session, name string) (owner, error) {
			t, err := election.Campaign(ctx, s, name, "candidate")
			if err != nil {
				return nil, err
			}
			return term{t}, nil
		},
	},
}

// clients are the ways to make a client. Nothing of ours may care which it gets.
var clients = map[string]func(t *testing.T, endpoints ...string) *clientv3.Client{
	"plain": plain,
	"pool": func(t *testing.T, endpoints ...string) *clientv3.Client {
		p, err := pool.Open(t.Context(), pool.Config{Endpoints: endpoints, Retry: retry.Policy{ConnectTimeout: soon}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(t.Context()); err != nil {
				t.Errorf("closing the pool: %v", err)
			}
		})
		return p.Client()
	},
	"namespace": func(t *testing.T, endpoints ...string) *clientv3.Client {
		cli := plain(t, endpoints...)
		etcdtest.Within(cli, "namespace/") // names differ from test to test
		return cli
	},
}

func plain(t *testing.T, endpoints ...string) *clientv3.Client {
	return etcdtest.Dial(t, clientv3.Config{Endpoints: endpoints})
}

// client opens another client of the shared cluster.
func (k kind) client(t *testing.T) *clientv3.Client {
	t.Helper()
	return k.dial(t, etcdtest.Endpoints()...)
}

// remove deletes a key of the shared cluster behind its owner's back.
func (k kind) remove(t *testing.T, key string) {
	t.Helper()
	if resp, err := k.client(t).Delete(t.Context(), key); err != nil || resp.Deleted != 1 {
		t.Fatalf("deleting %q: %v, %v", key, resp, err)
	}
}

// forEach runs a test with every kind through every client, side by side.
func forEach(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	forEachOf(t, test, "plain", "pool", "namespace")
}

// forEachCut is forEach for tests that take etcd away from a client and then close that: etcd's namespace must not be closed
// while a watch is being opened, and without etcd somebody always tries.
func forEachCut(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	forEachOf(t, test, "plain", "pool")
}

// forEachPlain is forEach for tests that look into the client's calls, or that run it in another process.
func forEachPlain(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	forEachOf(t, test, "plain")
}

func forEachOf(t *testing.T, test func(t *testing.T, k kind), names ...string) {
	t.Helper()
	t.Parallel()
	for _, k := range kinds {
		for _, name := range names {
			if k.plain && name != "plain" {
				continue
			}
			through := k
			through.dial = clients[name]
			t.Run(k.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				test(t, through)
			})
		}
	}
}

// open opens a session for the test's time.
func open(t *testing.T, cli *clientv3.Client, ttl time.Duration) *session.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	s, err := session.Open(ctx, cli, &session.Options{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // the test may have lost it, or the way to etcd
	})
	return s
}

// own acquires, and fails the test if that cannot be done soon.
func own(t *testing.T, k kind, s *session.Session, name string) owner {
	t.Helper()
	return stand(t.Context(), k, s, name).owns(t, soon)
}

// candidate is one that tries to own, in a goroutine of its own.
type candidate struct {
	done   chan struct{}
	owner  owner     // read after done
	err    error     // read after done
	at     time.Time // when it ended; read after done
	cancel context.CancelCauseFunc
}

// stand starts to acquire.
func stand(ctx context.Context, k kind, s *session.Session, name string) *candidate {
	c := &candidate{done: make(chan struct{})}
	ctx, c.cancel = context.WithCancelCause(ctx)
	go func() {
		defer close(c.done)
		c.owner, c.err = k.acquire(ctx, s, name)
		c.at = time.Now()
	}()
	return c
}

// standInLine starts to acquire behind others, and returns when it is the n-th in line.
func standInLine(t *testing.T, k kind, s *session.Session, name string, n int) *candidate {
	t.Helper()
	c := stand(t.Context(), k, s, name)
	etcdtest.WaitKeys(t, soon, s.Client(), name+"/", n)
	return c
}

// owns waits until the candidate owns.
func (c *candidate) owns(t *testing.T, limit time.Duration) owner {
	t.Helper()
	within(t, limit, "acquiring", c.done)
	if c.err != nil {
		t.Fatalf("acquiring: %v", c.err)
	}
	return c.owner
}

// fails waits until the candidate has given up, and returns why.
func (c *candidate) fails(t *testing.T, limit time.Duration) error {
	t.Helper()
	within(t, limit, "giving up", c.done)
	if c.err == nil {
		t.Fatal("acquired, but should have failed")
	}
	return c.err
}

// waits fails the test if the candidate has ended.
func (c *candidate) waits(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
		t.Fatalf("does not wait: %v, %v", c.owner, c.err)
	default:
	}
}

// release gives back, and fails the test if that does not succeed.
func release(t *testing.T, o owner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := o.Release(ctx); err != nil {
		t.Fatalf("release: %v", err)
	}
}

// lost waits until the owner has been told, and fails the test if the cause is not a loss.
func lost(t *testing.T, limit time.Duration, o owner) error {
	t.Helper()
	within(t, limit, "telling the owner", o.Context().Done())
	cause := context.Cause(o.Context())
	if !errors.Is(cause, fence.ErrLost) {
		t.Fatalf("the owner's context ended with %v, want fence.ErrLost", cause)
	}
	if o.Context().Err() == nil {
		t.Fatal("Err is nil after Done")
	}
	return cause
}

// refuseWrites fails the test if anything can still be written under the owner's guard.
func refuseWrites(t *testing.T, cli *clientv3.Client, g fence.Guard, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := g.Commit(ctx, cli, clientv3.OpPut(key, "too late")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("a write under a guard of the past: %v, want fence.ErrLost", err)
	}
	resp, err := cli.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Count != 0 {
		t.Errorf("a write under a guard of the past was made at revision %d", resp.Kvs[0].ModRevision)
	}
}

// lineIsEmpty fails the test if anybody stands in a line.
func lineIsEmpty(t *testing.T, cli *clientv3.Client, name string) {
	t.Helper()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}
