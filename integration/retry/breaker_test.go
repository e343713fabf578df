package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestABreakerOpensAfterFiveFailuresAndThenNothingIsSent(t *testing.T) {
	t.Parallel()
	breaker := &retry.Breaker{OpenFor: time.Hour}
	cli := calm(t, retry.Policy{Breaker: breaker, MaxAttempts: 2}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	cli.wire.Inject(etcdtest.Fault{Times: -1, Err: rpctypes.ErrGRPCNoLeader})
	// Reads and writes count together, and every attempt does: two calls of two attempts, and the first of the third.
	for i, call := range []func() error{
		func() error { _, err := cli.Get(t.Context(), key); return err },
		func() error { _, err := cli.Put(t.Context(), key, ""); return err },
		func() error { _, err := cli.Get(t.Context(), key); return err },
	} {
		err := call()
		want(t, "a call that closes in", err, rpctypes.ErrNoLeader)
		isTransient(t, "a call that closes in", err)
		if is := errors.Is(err, retry.ErrBreakerOpen); is != (i == 2) {
			t.Errorf("call %d: ErrBreakerOpen is %t: %v", i, is, err)
		}
	}
	if s := breaker.State(); s != retry.BreakerOpen {
		t.Fatalf("the breaker is %v after %v", s, cli.wire.Counts())
	}
	sent := cli.wire.Sent()
	if sent != 5 {
		t.Errorf("%d calls were sent before it opened, want 5", sent)
	}
	for what, call := range calls() {
		if what == "GetStream" || what == "Defragment" {
			continue // a stream is its reader's, and Defragment has a connection of its own, which it would open
		}
		err := call(t.Context(), cli.Client)
		want(t, what, err, retry.ErrBreakerOpen)
		isTransient(t, what, err)
		if err == nil || !strings.Contains(err.Error(), "5 failures running") || !strings.Contains(err.Error(), "etcdserver: no leader") {
			t.Errorf("%s: %v does not name the reason", what, err)
		}
	}
	if n := cli.wire.Sent(); n != sent {
		t.Errorf("an open breaker let %d calls pass", n-sent)
	}
}

// What opened the breaker was another call's answer, and must not make this one ambiguous, of which nothing was sent.
func TestACallThatABreakerHoldsBackIsTransientWhateverOpenedIt(t *testing.T) {
	t.Parallel()
	for what, opener := range map[string]error{"lost": nil, "canceled": answer(codes.Canceled), "timeout": rpctypes.ErrGRPCTimeout} {
		cli := calm(t, retry.Policy{Breaker: &retry.Breaker{OpenFor: time.Hour, Failures: 1}, MaxAttempts: 1}, etcdtest.Shared(t).Endpoints()...)
		cli.wire.Inject(etcdtest.Fault{Call: "Put", Err: opener})
		_, err := cli.Put(t.Context(), etcdtest.Prefix(t), "")
		isAmbiguous(t, what, err)
		_, err = cli.Put(t.Context(), etcdtest.Prefix(t), "")
		want(t, what, err, retry.ErrBreakerOpen)
		isTransient(t, what, err)
		if got := retry.EtcdError(err); got != nil {
			t.Errorf("%s: the etcd error of a call that was not sent is %v", what, got)
		}
	}
}

func TestABreakerLetsOneProbeThroughAndClosesAfterItSucceeded(t *testing.T) {
	t.Parallel()
	const openFor = 2 * time.Second
	breaker := &retry.Breaker{OpenFor: openFor}
	cli := calm(t, retry.Policy{Breaker: breaker, MaxAttempts: 1}, etcdtest.Shared(t).Endpoints()...)
	get := func() error { _, err := cli.Get(t.Context(), "k"); return err }
	down := cli.wire.Inject(etcdtest.Fault{Call: "Range", Times: -1, Err: rpctypes.ErrGRPCNoLeader})
	for range 5 {
		want(t, "a failure", get(), rpctypes.ErrNoLeader)
	}
	half := func() {
		etcdtest.Eventually(t, soon, "half-open", func(context.Context) error {
			if s := breaker.State(); s != retry.BreakerHalfOpen {
				return fmt.Errorf("it is %v", s)
			}
			return nil
		})
	}
	// A probe that fails opens it again, and says so.
	half()
	want(t, "the first probe", get(), rpctypes.ErrNoLeader)
	if err := get(); !errors.Is(err, retry.ErrBreakerOpen) || !strings.Contains(err.Error(), "probe") {
		t.Errorf("after the first probe: %v", err)
	}
	down.Remove()

	// Of many calls at once one is let through.
	half()
	hold := make(chan struct{})
	probe := cli.wire.Inject(etcdtest.Fault{Call: "Range", Hold: hold})
	cli.wire.Reset()
	var (
		wg   sync.WaitGroup
		back atomic.Int64
	)
	for range 10 {
		wg.Go(func() {
			switch err := get(); {
			case errors.Is(err, retry.ErrBreakerOpen):
				back.Add(1)
			case err != nil:
				t.Errorf("the probe: %v", err)
			}
		})
	}
	etcdtest.Eventually(t, soon, "nine are held back", func(context.Context) error {
		if n := back.Load(); n < 9 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	etcdtest.Done(t, soon, "the probe", probe.Hit())
	if n := cli.wire.Count("Range"); n != 1 {
		t.Errorf("%d probes", n)
	}
	close(hold)
	wg.Wait()
	if s := breaker.State(); s != retry.BreakerClosed {
		t.Errorf("the breaker is %v after its probe succeeded", s)
	}
	if err := get(); err != nil {
		t.Error(err)
	}
}

func TestABreakerDoesNotCountWhatSaysNothingAboutTheCluster(t *testing.T) {
	t.Parallel()
	breaker := &retry.Breaker{OpenFor: time.Hour, Failures: 3, MinCalls: 3}
	cli := calm(t, retry.Policy{Breaker: breaker}, etcdtest.Shared(t).Endpoints()...)
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		fault := cli.wire.Inject(etcdtest.Fault{Call: "Range", Silent: true})
		go func() { <-fault.Hit(); cancel() }()
		_, err := cli.Get(ctx, "k")
		want(t, "cancelled", err, context.Canceled)
		cancel()
	}
	for _, err := range []error{
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCCompacted, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCNoSpace,
		answer(codes.InvalidArgument),
	} {
		for range 4 {
			cli.wire.Inject(etcdtest.Fault{Call: "Put", Err: err})
			if _, got := cli.Put(t.Context(), "k", ""); got == nil {
				t.Errorf("%v did not arrive", err)
			}
		}
	}
	if s := breaker.State(); s != retry.BreakerClosed {
		t.Errorf("the breaker is %v", s)
	}
}

// When a cluster is down, its callers' repeats must not multiply what it is asked (F3).
func TestABudgetBoundsTheRepeatsOfAllCallers(t *testing.T) {
	t.Parallel()
	const callers, burst = 40, 25
	budget := &retry.Budget{Burst: burst, PerSecond: 1e-6}
	cli := calm(t, retry.Policy{Budget: budget, Initial: time.Millisecond, Max: 2 * time.Millisecond}, etcdtest.Shared(t).Endpoints()...)
	cli.wire.Inject(etcdtest.Fault{Times: -1, Err: rpctypes.ErrGRPCNoLeader})
	var (
		wg    sync.WaitGroup
		spent atomic.Int64
	)
	for i := range callers {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = cli.Get(t.Context(), "k")
			} else {
				_, err = cli.Put(t.Context(), "k", "")
			}
			want(t, "a caller", err, rpctypes.ErrNoLeader)
			isTransient(t, "a caller", err)
			if errors.Is(err, retry.ErrBudget) {
				spent.Add(1)
			}
		})
	}
	wg.Wait()
	if n := cli.wire.Sent(); n != callers+burst {
		t.Errorf("%d calls were sent %d times, want %d: the budget is %d", callers, n, callers+burst, burst)
	}
	if spent.Load() == 0 {
		t.Error("nobody was told that the budget is spent")
	}

	// A lost write is not made certain by an empty budget.
	p := retry.Policy{Budget: budget, Retryable: retry.Idempotent}
	lost := dial(t, p, etcdtest.Shared(t).Endpoints()...)
	lost.wire.Inject(etcdtest.Fault{Call: "Put", After: true})
	_, err := lost.Put(t.Context(), etcdtest.Prefix(t), "")
	want(t, "a lost write", err, retry.ErrBudget)
	isAmbiguous(t, "a lost write", err)
}

// What walks through the whole database, or waits for somebody else, takes its time; half a second is for calls on keys.
func TestWhatTakesItsTimeIsNotCutOffByTheTimeoutOfAnAttempt(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli := calm(t, retry.Policy{AttemptTimeout: 50 * time.Millisecond, ReadTimeout: 100 * time.Millisecond}, c.Endpoints()...)
	for what, call := range map[string]func(ctx context.Context) error{
		"Defragment": func(ctx context.Context) error { _, err := cli.Defragment(ctx, c.Endpoint(0)); return err },
		"HashKV":     func(ctx context.Context) error { _, err := cli.HashKV(ctx, c.Endpoint(0), 0); return err },
		"Compact": func(ctx context.Context) error {
			_, err := cli.Compact(ctx, 1, clientv3.WithCompactPhysical())
			return err
		},
		"Lock": func(ctx context.Context) error {
			// The server's own lock service waits until the lock is free.
			_, err := v3lockpb.NewLockClient(cli.ActiveConnection()).Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock")})
			return err
		},
	} {
		done := make(chan struct{})
		fault := cli.wire.Inject(etcdtest.Fault{Call: what, After: true, Hold: done}) // it takes its time
		go func() {
			defer close(done)
			<-fault.Hit()
			<-time.After(500 * time.Millisecond)
		}()
		if _, err := timed(t, what, func() error { return call(t.Context()) }); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
