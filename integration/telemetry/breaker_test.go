package telemetry_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// breakersAre waits until so many breakers are reported to be open, and half-open. Those of other tests are closed or gone.
func breakersAre(t *testing.T, open, half float64) {
	t.Helper()
	gaugeReads(t, open, "etcdkit.retry.breakers", "etcdkit.retry.state", "open")
	gaugeReads(t, half, "etcdkit.retry.breakers", "etcdkit.retry.state", "half-open")
}

// breakerDial opens a client through a link whose calls are made once, under a breaker.
func breakerDial(t *testing.T, link *etcdtest.Link, b *retry.Breaker) *clientv3.Client {
	t.Helper()
	p := retry.Policy{Breaker: b, MaxAttempts: 1, ConnectTimeout: 200 * time.Millisecond}
	cli := link.Dial(clientv3.Config{DialOptions: retry.DialOptions(p)})
	breakerCall(t, cli, nil)
	return cli
}

// breakerCall makes a call that is to succeed, or to fail.
func breakerCall(t *testing.T, cli *clientv3.Client, fails func(error) bool) {
	t.Helper()
	_, err := cli.Get(t.Context(), "a")
	if fails == nil && err != nil || fails != nil && !fails(err) {
		t.Fatalf("a call returned %v", err)
	}
}

func breakerHolds(err error) bool { return errors.Is(err, retry.ErrBreakerOpen) }
func breakerFails(err error) bool { return err != nil && !breakerHolds(err) }

// breakerGlobal is no object of the heap, and half-open as soon as it has opened.
var breakerGlobal = retry.Breaker{Failures: 1, OpenFor: time.Nanosecond}

func TestBreakersAreReportedWhileTheyAreNotClosed(t *testing.T) {
	runtime.GC() // those of other tests
	c := etcdtest.New(t, nil)
	breakersAre(t, 0, 0)

	// One that is part of a larger thing, and stays open.
	service := &struct {
		name    string
		breaker retry.Breaker
	}{breaker: retry.Breaker{Failures: 1, OpenFor: time.Hour}}
	link := c.Link(0)
	cli := breakerDial(t, link, &service.breaker)
	breakersAre(t, 0, 0)
	link.Cut()
	breakerCall(t, cli, breakerFails)
	breakerCall(t, cli, breakerHolds)
	breakersAre(t, 1, 0)

	// And one that is half-open until a probe succeeds.
	link = c.Link(0)
	cli = breakerDial(t, link, &breakerGlobal)
	breakersAre(t, 1, 0)
	link.Cut()
	for range 3 {
		breakerCall(t, cli, breakerFails)
		breakersAre(t, 1, 1)
	}
	link.Heal()
	etcdtest.Eventually(t, gaugeSoon, "a probe succeeds", func(ctx context.Context) error {
		_, err := cli.Get(ctx, "a")
		return err
	})
	breakersAre(t, 1, 0)
	runtime.KeepAlive(service)
}

// Nobody closes a breaker for good: one that nobody has any more is gone from the gauge, and from memory.
func TestABreakerThatIsDroppedIsNoLongerReported(t *testing.T) {
	fail := func(context.Context) error { return retry.ErrBreakerOpen }
	func() {
		b := &retry.Breaker{Failures: 1, OpenFor: time.Hour}
		if err := retry.Do(t.Context(), retry.Policy{Breaker: b, MaxAttempts: 1}, fail); err == nil {
			t.Fatal("no error")
		}
		if n := value(t, "etcdkit.retry.breakers", "etcdkit.retry.state", "open"); b.State() != retry.BreakerOpen || n < 1 {
			t.Fatalf("it is %v, and %v are reported as open", b.State(), n)
		}
	}()
	etcdtest.Eventually(t, gaugeSoon, "it is collected", func(context.Context) error {
		runtime.GC()
		if value(t, "etcdkit.retry.breakers", "etcdkit.retry.state", "open") != 0 {
			return errors.New("it is still reported")
		}
		return nil
	})
	breakersAre(t, 0, 0)
}
