package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

// linksTo are so many ways to the shared member: the pool takes them for members.
func linksTo(t *testing.T, n int) (links etcdtest.Links) {
	t.Helper()
	for range n {
		links = append(links, etcdtest.Shared(t).Link(0))
	}
	return links
}

// hasOut waits until exactly these endpoints are left out, with reads all the time.
func hasOut(t *testing.T, p *pool.Pool, want ...string) {
	t.Helper()
	etcdtest.Eventually(t, 3*soon, fmt.Sprintf("left out: %v", want), func(ctx context.Context) error {
		_, err := p.Client().Get(ctx, "k")
		if out := p.Stats().LeftOut; !slices.Equal(out, want) {
			return fmt.Errorf("it is %v (a read: %w)", out, err)
		}
		return nil
	})
}

// reaches waits until reads through the pool arrive at a link.
func reaches(t *testing.T, p *pool.Pool, link *etcdtest.Link) {
	t.Helper()
	before := link.Passed(etcdtest.Responses)
	etcdtest.Eventually(t, 3*soon, "traffic", func(ctx context.Context) error {
		for range 4 {
			if _, err := p.Client().Get(ctx, "k"); err != nil {
				return err
			}
		}
		if n := link.Passed(etcdtest.Responses) - before; n < 2000 {
			return fmt.Errorf("%d bytes of answers", n)
		}
		return nil
	})
}

// F4: everything that goes to an endpoint that swallows it goes elsewhere, what is under way and what hangs on streams for
// ever included, and comes back when the endpoint does.
func TestAnEndpointThatSwallowsPacketsIsLeftOutAndTakenInAgain(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 3)
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	for _, l := range links {
		reaches(t, p, l)
	}
	if err := p.Do(t.Context(), func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, "k"); return err }); err != nil {
		t.Fatal(err)
	}
	bad := links[1]
	bad.Blackhole(etcdtest.Both)
	hasOut(t, p, bad.Endpoint())
	if use := p.Stats().Endpoints; !slices.Equal(use, []string{links[0].Endpoint(), links[2].Endpoint()}) {
		t.Errorf("in use: %v", use)
	}
	failed := 0
	for range 20 { // a third of them would meet the endpoint, time out, and not be tried again
		if _, err := p.Client().Put(t.Context(), etcdtest.Prefix(t), ""); err != nil {
			t.Logf("a put with one endpoint left out: %v", err)
			failed++
		}
	}
	if failed > 2 { // the machine may be slow
		t.Errorf("%d of 20 puts failed", failed)
	}
	// A connection that Do opens now does not use it either.
	if err := p.Do(t.Context(), func(ctx context.Context, c *clientv3.Client) error {
		if e := c.Endpoints(); !slices.Equal(e, p.Stats().Endpoints) {
			t.Errorf("the client of Do uses %v", e)
		}
		_, err := c.Get(ctx, "k")
		return err
	}); err != nil {
		t.Error(err)
	}
	bad.Heal()
	hasOut(t, p)
	reaches(t, p, bad)
}

func TestTheLastEndpointIsNeverLeftOutThoughAllAreSilent(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 2)
	p := open(t, pool.Config{Endpoints: links.Endpoints(), Retry: retry.Policy{AttemptTimeout: 100 * time.Millisecond, ReadTimeout: 300 * time.Millisecond}})
	for _, l := range links {
		reaches(t, p, l)
	}
	links.Blackhole(etcdtest.Both)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 8 {
				_, _ = p.Client().Get(t.Context(), "k") // which fails
				if s := p.Stats(); len(s.Endpoints) == 0 {
					t.Error(s)
				}
			}
		})
	}
	all.Wait()
	if s := p.Stats(); len(s.Endpoints) != 1 || len(s.LeftOut) != 1 {
		t.Error(s)
	}
	links.Heal()
	hasOut(t, p)
	for _, l := range links {
		reaches(t, p, l)
	}
}

// F6: every first attempt times out, for the way is long. Calls succeed all the same, and when the way is short again all is
// as before.
func TestASlowClusterIsNotLeftOutToDeath(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 3)
	p := open(t, pool.Config{Endpoints: links.Endpoints(), Retry: retry.Policy{AttemptTimeout: 100 * time.Millisecond, ReadTimeout: soon}})
	for _, l := range links {
		reaches(t, p, l)
	}
	links.Delay(etcdtest.Both, 70*time.Millisecond, 90*time.Millisecond) // 140 to 180 ms there and back
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 8 {
				if _, err := p.Client().Get(t.Context(), "k"); err != nil {
					t.Errorf("a read of a slow cluster: %v", err)
				}
			}
		})
	}
	all.Wait()
	t.Log(p.Stats())
	links.Heal()
	hasOut(t, p)
}

// The question whether an endpoint is back takes a connection of its own, and on a long way that takes a while.
func TestAnEndpointFarAwayIsTakenInAgain(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 2)
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	for _, l := range links {
		reaches(t, p, l)
	}
	links[0].Blackhole(etcdtest.Both)
	hasOut(t, p, links[0].Endpoint())
	links[0].Heal()
	links.Delay(etcdtest.Both, 200*time.Millisecond, 210*time.Millisecond)
	hasOut(t, p)
}

// F1, F2: a member that is down refuses, so that it need not be left out; when it is back it gets its share again. A member
// that is removed is as one that is down.
func TestMembersThatStopStartAndAreRemovedAreFollowed(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	links := c.Links()
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	etcd, key := p.Client(), etcdtest.Prefix(t)
	for _, l := range links {
		reaches(t, p, l)
	}
	for i := range 3 {
		c.Stop(i)
		for range 10 {
			// Reads, as a write that hangs with the old leader is ambiguous, and not tried again.
			if _, err := etcd.Get(t.Context(), key); err != nil {
				t.Errorf("a read with member %d down: %v", i, err)
			}
		}
		c.Restart(i)
		c.WaitLeader()
		hasOut(t, p)
		reaches(t, p, links[i])
	}
	gone := c.Follower()
	id := uint64(c.Member(gone).ID())
	etcdtest.Eventually(t, 3*soon, "a member is removed", func(ctx context.Context) error {
		_, err := etcd.MemberRemove(ctx, id) // which etcd refuses until all have been connected for a while
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		return err
	})
	c.Stop(gone) // as a member does that was removed
	for range 10 {
		if _, err := etcd.Get(t.Context(), key); err != nil {
			t.Errorf("a read with a member removed: %v", err)
		}
	}
	etcdtest.Eventually(t, soon, "a put with a member removed", func(ctx context.Context) error { _, err := etcd.Put(ctx, key, ""); return err })
}

func TestOpenIsQuickWhenOneEndpointAnswers(t *testing.T) {
	t.Parallel()
	mute := etcdtest.Shared(t).Link(0)
	mute.Blackhole(etcdtest.Both)
	p := open(t, pool.Config{
		Endpoints: []string{"http://127.0.0.1:1", mute.Endpoint(), etcdtest.Shared(t).Endpoint(0)},
		Retry:     retry.Policy{ConnectTimeout: time.Hour, MaxElapsed: -1}, // which it does not wait for
	})
	if _, err := p.Client().Put(t.Context(), etcdtest.Prefix(t), ""); err != nil {
		t.Logf("the first put: %v", err) // it may have met the mute one
	}
	if _, err := p.Client().Get(t.Context(), "k"); err != nil {
		t.Errorf("the first read: %v", err)
	}
}

func TestOpenSaysOfEachEndpointHowItFailed(t *testing.T) {
	t.Parallel()
	mute := etcdtest.Shared(t).Link(0)
	mute.Blackhole(etcdtest.Both)
	cut := etcdtest.Shared(t).Link(0)
	cut.Cut()
	began := time.Now()
	const within = 400 * time.Millisecond
	_, err := pool.Open(t.Context(), pool.Config{
		Endpoints: []string{mute.Endpoint(), cut.Endpoint(), "http://no-such-host.invalid:2379"},
		Retry:     retry.Policy{ConnectTimeout: within},
	})
	took := time.Since(began)
	if !errors.Is(err, pool.ErrUnreachable) || errors.Is(err, pool.ErrNoQuorum) {
		t.Fatalf("%v, want ErrUnreachable", err)
	}
	t.Log(err)
	for _, want := range []string{
		mute.Endpoint() + ": accepts connections, but does not answer",
		cut.Endpoint() + ": dial tcp " + strings.TrimPrefix(cut.Endpoint(), "http://") + ": connect: connection refused",
		"no-such-host.invalid:2379: dial tcp: lookup no-such-host.invalid",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if took < within || took > soon {
		t.Errorf("after %v, and ConnectTimeout is %v", took, within)
	}
}

func TestOpenTellsAClusterWithoutAQuorumFromOneThatIsNotThere(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	left := c.Follower()
	for i := range 3 {
		if i != left {
			c.Stop(i)
		}
	}
	began := time.Now()
	_, err := pool.Open(t.Context(), pool.Config{Endpoints: c.Endpoints()})
	if !errors.Is(err, pool.ErrNoQuorum) || errors.Is(err, pool.ErrUnreachable) {
		t.Fatalf("%v, want ErrNoQuorum", err)
	}
	t.Logf("after %v: %v", time.Since(began), err)
	if !strings.Contains(err.Error(), c.Endpoint(left)+": answers, but") || strings.Count(err.Error(), "connection refused") != 2 {
		t.Errorf("%v", err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	mute := etcdtest.Shared(t).Link(0)
	mute.Blackhole(etcdtest.Both)
	cfg := pool.Config{Endpoints: []string{mute.Endpoint()}, Retry: retry.Policy{ConnectTimeout: -1}} // no bound but the context
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("the caller's")
	opened := make(chan error, 1)
	before := mute.Accepted()
	go func() { _, err := pool.Open(ctx, cfg); opened <- err }()
	etcdtest.Eventually(t, soon, "it dials", func(context.Context) error {
		if mute.Accepted() == before {
			return errors.New("not yet")
		}
		return nil
	})
	cancel(mine)
	if err := etcdtest.Receive(t, soon, "Open", opened); !errors.Is(err, mine) || !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("Open, cancelled: %v", err)
	}
	if _, err := pool.Open(ctx, cfg); !errors.Is(err, mine) {
		t.Errorf("Open, cancelled before: %v", err)
	} else {
		t.Log(err)
	}
}

// P7 (cilium#3496, etcd#10832, etcd#7321): one of two endpoints hangs, and many call at once. Each call may meet it twice, and none
// fails: neither a read nor a conditional write.
func TestNoCallFailsWhileOneOfTwoEndpointsHangs(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 2)
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	for _, l := range links {
		reaches(t, p, l)
	}
	etcd, prefix := p.Client(), etcdtest.Prefix(t)
	links[0].Blackhole(etcdtest.Both)
	var callers sync.WaitGroup
	call := func(what string, fn func(ctx context.Context) error) {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			began := time.Now()
			if err := fn(ctx); err != nil {
				t.Errorf("%s, after %v: %v", what, time.Since(began), err)
			}
		})
	}
	const n = 24
	for i := range n {
		call("a read", func(ctx context.Context) error {
			_, err := etcd.Get(ctx, prefix)
			return err
		})
		call("a conditional write", func(ctx context.Context) error {
			key := fmt.Sprint(prefix, i)
			is := []clientv3.Cmp{clientv3.Compare(clientv3.Version(key), "=", 0)}
			result, err := retry.Commit(ctx, etcd.KV, is, []clientv3.Op{clientv3.OpPut(key, "")}, func(ctx context.Context) (retry.Outcome, int64, error) {
				got, err := etcd.Get(ctx, key)
				if err != nil || len(got.Kvs) == 0 {
					return retry.Unknown, 0, err
				}
				return retry.Applied, got.Kvs[0].ModRevision, nil // nobody else writes it
			})
			if err == nil && result.Outcome != retry.Applied {
				err = fmt.Errorf("%+v", result)
			}
			return err
		})
	}
	callers.Wait()
	got, err := etcdtest.Client(t).Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != n {
		t.Errorf("%d keys, want %d", len(got.Kvs), n)
	}
	for _, kv := range got.Kvs {
		if kv.Version != 1 {
			t.Errorf("%s was written %d times", kv.Key, kv.Version)
		}
	}
}
