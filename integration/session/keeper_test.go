package session_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// keep returns a keeper that is closed with the test.
func keep(t *testing.T, k *session.Keeper) *session.Keeper {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = k.Close(ctx) // the test may have closed it, or hurt etcd
	})
	return k
}

func TestAKeeperOpensTheNextSessionOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	c := etcdtest.Shared(t)
	cli, calls := counted(t, c)
	k := keep(t, session.NewKeeper(cli, &session.Options{TTL: 10 * time.Second}))
	if n := calls.Sent(); n != 0 {
		t.Errorf("NewKeeper made %d calls", n)
	}
	first, err := k.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Live(t.Context()); err != nil || again != first {
		t.Errorf("Live while the session lives: %p, %v, want %p", again, err, first)
	}
	c.Revoke(first.Lease())
	first.Probe()
	ended(t, soon, first)
	calls.Quiet(t, 100*time.Millisecond)
	second, err := k.Live(t.Context())
	if err != nil || second == first || second.Lease() == first.Lease() || second.Context().Err() != nil {
		t.Errorf("Live after a loss: %p, %v, want another session than %p", second, err, first)
	}
}

func TestEverybodyWhoAsksAKeeperGetsTheSameSession(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t, etcdtest.Shared(t))
	k := keep(t, session.NewKeeper(cli, nil))
	var (
		all sync.WaitGroup
		mu  sync.Mutex
		got = map[*session.Session]bool{} // guarded by mu
	)
	for range 16 {
		all.Go(func() {
			s, err := k.Live(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[s] = true
		})
	}
	all.Wait()
	if len(got) != 1 || calls.Count("LeaseGrant") != 1 {
		t.Errorf("%d sessions, %d grants, want 1", len(got), calls.Count("LeaseGrant"))
	}
}

func TestAKeeperIsGoodAfterAFailure(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	k := keep(t, session.NewKeeper(link.Client(), &session.Options{TTL: shortTTL}))
	link.Blackhole(etcdtest.Both)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := k.Live(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind a black hole: %v, want the deadline", err)
	}
	link.Heal()
	first, err := k.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Lost because the path was cut: the next one is there as soon as it is mended, and the old lease is given back.
	link.Blackhole(etcdtest.Both)
	ended(t, soon, first)
	link.Heal()
	second, err := k.Live(t.Context())
	if err != nil || second == first {
		t.Errorf("after a loss: %p, %v, want another session than %p", second, err, first)
	}
}

func TestAClosedKeeperClosesItsSessionAndOpensNoOther(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	k := session.NewKeeper(c.Client(), nil)
	s, err := k.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if cause := ended(t, promptly, s); !errors.Is(cause, session.ErrClosed) {
		t.Errorf("the cause is %v, want session.ErrClosed", cause)
	}
	if _, err := k.Live(t.Context()); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Live after Close: %v, want session.ErrClosed", err)
	}
	if n := leases(t, c); n != 0 {
		t.Errorf("%d leases are left", n)
	}
	if err := session.NewKeeper(c.Client(), nil).Close(t.Context()); err != nil {
		t.Errorf("closing a keeper that was never asked: %v", err)
	}
}

func TestAKeeperClosesPromptlyWhileItOpensASessionBehindABlackHole(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	k := session.NewKeeper(link.Client(), nil)
	link.Blackhole(etcdtest.Both)
	opened := make(chan error, 1)
	go func() {
		_, err := k.Live(t.Context())
		opened <- err
	}()
	etcdtest.Nothing(t, 100*time.Millisecond, "Live", opened)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	etcdtest.Returns(t, promptly, "Close", func() { _ = k.Close(ctx) })
	if err := etcdtest.Receive(t, promptly, "Live", opened); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Live, closed meanwhile: %v, want session.ErrClosed", err)
	}
}
