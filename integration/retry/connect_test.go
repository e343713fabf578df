package retry_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// mute returns the endpoint of a server that accepts connections and never says a word.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return "http://" + l.Addr().String()
}

// P8 and B5: since etcd 3.7 nothing bounds connecting, and the first call burns all the time that its caller has.
func TestNoConnectionIsAnErrorOfItsOwnAndNothingWasSent(t *testing.T) {
	t.Parallel()
	const within = 300 * time.Millisecond
	endpoint := mute(t)
	for what, call := range calls() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli := dial(t, retry.Policy{ConnectTimeout: within}, endpoint)
			took, err := timed(t, what, func() error { return call(t.Context(), cli.Client) })
			want(t, what, err, retry.ErrConnectTimeout)
			isTransient(t, what, err)
			if err != nil && strings.Contains(err.Error(), "may have been applied") {
				t.Errorf("nothing was sent, but the error says otherwise: %v", err)
			}
			// clientv3 repeats a read up to a hundred times after Unavailable.
			if n := cli.outer.Sent(); n != 1 || cli.wire.Sent() != 0 {
				t.Errorf("clientv3 made %d calls, of which %d were sent; want one and none", n, cli.wire.Sent())
			}
			if took < within/2 || took > soon/2 {
				t.Errorf("it took %v, want %v", took, within)
			}
		})
	}
	t.Run("stock", func(t *testing.T) {
		t.Parallel()
		cli, _ := stock(t, endpoint)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _ = timed(t, "stock Get with 2s", func() error { _, err := cli.Get(ctx, "k"); return err })
	})
}

// calls are one call of each kind.
func calls() map[string]func(context.Context, *clientv3.Client) error {
	return map[string]func(context.Context, *clientv3.Client) error{
		"Get": func(ctx context.Context, cli *clientv3.Client) error { _, err := cli.Get(ctx, "k"); return err },
		"Put": func(ctx context.Context, cli *clientv3.Client) error { _, err := cli.Put(ctx, "k", ""); return err },
		"Txn": func(ctx context.Context, cli *clientv3.Client) error {
			_, err := cli.Txn(ctx).Then(clientv3.OpPut("k", "")).Commit()
			return err
		},
		"Grant": func(ctx context.Context, cli *clientv3.Client) error { _, err := cli.Grant(ctx, 60); return err },
		"Defragment": func(ctx context.Context, cli *clientv3.Client) error {
			_, err := cli.Defragment(ctx, cli.Endpoints()[0])
			return err
		},
		"MemberList": func(ctx context.Context, cli *clientv3.Client) error { _, err := cli.MemberList(ctx); return err },
		"GetStream":  func(ctx context.Context, cli *clientv3.Client) error { _, err := cli.GetStream(ctx, "k"); return err },
	}
}

// B5: the cause of a failed connection must not be flattened to "context deadline exceeded".
func TestARefusedConnectionIsNamedAndTransient(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	link.Cut()
	cli := dial(t, retry.Policy{}, link.Endpoint())
	for _, what := range []string{"Get", "Put"} {
		took, err := timed(t, what, func() error { return calls()[what](t.Context(), cli.Client) })
		isTransient(t, what, err)
		want(t, what, err, retry.ErrConnectTimeout)
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v does not name the cause", what, err)
		}
		if errors.Is(err, retry.ErrReadTimeout) {
			t.Errorf("%s: nothing was sent, but an answer was waited for: %v", what, err)
		}
		if took > soon/2 {
			t.Errorf("%s took %v", what, took)
		}
	}
	if n := cli.outer.Sent(); n != 2 {
		t.Errorf("clientv3 made %d calls of two", n)
	}
	plain, _ := stock(t, link.Endpoint())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _ = timed(t, "stock Get with 2s", func() error { _, err := plain.Get(ctx, "k"); return err })

	// And it is not held against the server once that is there.
	link.Heal()
	etcdtest.Eventually(t, soon, "a call after the server came", func(ctx context.Context) error {
		_, err := cli.Get(ctx, "k")
		return err
	})
}

// A certificate that is not trusted does not become so: the error names it (B5, F11).
func TestACertificateThatIsNotTrustedIsNamed(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quiet
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	cli := dialAs(t, clientv3.Config{
		Endpoints: []string{server.URL},
		TLS:       &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "example.com"},
	}, retry.Policy{})
	_, err := timed(t, "Get", func() error { _, err := cli.Get(t.Context(), "k"); return err })
	class(t, "a certificate", err, false, false)
	if err == nil || !strings.Contains(err.Error(), "x509: ") {
		t.Errorf("%v does not name the certificate", err)
	}
	if n := cli.outer.Sent(); n != 1 {
		t.Errorf("clientv3 made %d calls of one", n)
	}
}

// A watch is opened for ever: a connect timeout must not end it (watch.go ends it on anything but Unavailable and Internal).
func TestAWatchThatWasOpenedWithoutAServerDeliversOnceItIsThere(t *testing.T) {
	t.Parallel()
	key := etcdtest.Prefix(t) + "k"
	for what, hurt := range map[string]func(*etcdtest.Link){
		"mute":    func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"refused": (*etcdtest.Link).Cut,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := etcdtest.Shared(t).Link(0)
			hurt(link)
			cli := dial(t, retry.Policy{ConnectTimeout: 100 * time.Millisecond}, link.Endpoint())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch := make(chan clientv3.WatchResponse)
			go func() {
				defer close(watch)
				for resp := range cli.Watch(ctx, key+what, clientv3.WithCreatedNotify()) {
					select {
					case watch <- resp:
					case <-ctx.Done():
						return
					}
				}
			}()
			if what == "mute" {
				cli.outer.WaitCount(t, soon, "Watch", 4) // three attempts to open it have failed
			} else {
				cli.wire.WaitCount(t, soon, "Watch", 1) // gRPC itself waits for a connection
			}
			link.Heal()
			if resp := etcdtest.Receive(t, soon, "the watch is created", watch); !resp.Created || resp.Err() != nil {
				t.Fatalf("first came %v, %v", resp, resp.Err())
			}
			mustPut(t, etcdtest.Client(t), key+what, "v")
			if resp := etcdtest.Receive(t, soon, "the change", watch); len(resp.Events) != 1 {
				t.Errorf("then came %v, %v", resp, resp.Err())
			}
		})
	}
}

// The same for the renewals of leases.
func TestKeepAliveGoesOnAfterConnectTimeouts(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	cli := dial(t, retry.Policy{ConnectTimeout: 100 * time.Millisecond}, link.Endpoint())
	lease, err := cli.Grant(t.Context(), 10) // renewed every third of that, and long enough for a slow machine
	if err != nil {
		t.Fatal(err)
	}
	renewals, err := cli.KeepAlive(t.Context(), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	etcdtest.Receive(t, soon, "a renewal", renewals)
	link.Blackhole(etcdtest.Both)
	link.Drop()
	before := cli.outer.Count("LeaseKeepAlive")
	cli.outer.WaitCount(t, soon, "LeaseKeepAlive", before+2) // the first of these has met its connect timeout
	link.Heal()
	// Long before the lease's end, or it would be in vain.
	etcdtest.Receive(t, soon, "a renewal after the outage", renewals)
}

// A cancelled caller is told so, whatever the policy is waiting for at that moment, and at once: errors.Is finds what ctx says.
func TestACallEndsWithItsContextWhateverItIsDoing(t *testing.T) {
	t.Parallel()
	held := etcdtest.Shared(t).Link(0)
	patient := retry.Policy{
		ConnectTimeout: time.Hour, AttemptTimeout: time.Hour, ReadTimeout: time.Hour, MaxElapsed: 2 * time.Hour,
		Initial: time.Hour, Max: time.Hour, Jitter: 0.001,
	}
	connecting := dial(t, patient, mute(t))
	calling := dial(t, patient, held.Endpoint())
	waiting := dial(t, patient, etcdtest.Shared(t).Endpoint(0))
	key := etcdtest.Prefix(t) + "k"
	mustPut(t, calling, key, "0")
	held.Blackhole(etcdtest.Both)
	refused := waiting.wire.Inject(etcdtest.Fault{Call: "Put", Times: -1, Err: rpctypes.ErrGRPCNoLeader})

	errCause := errors.New("the user closed the window")
	for what, now := range map[string]struct {
		cli  client
		busy func(t *testing.T) // returns when the call is where it is to be
		sent bool
	}{
		"connecting": {connecting, func(t *testing.T) { connecting.outer.WaitCount(t, soon, "Put", 1) }, false},
		"calling":    {calling, func(t *testing.T) { calling.wire.WaitCount(t, soon, "Put", 2) }, true},
		"waiting":    {waiting, func(t *testing.T) { etcdtest.Done(t, soon, "the first attempt", refused.Hit()) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan error, 1)
			go func() { _, err := now.cli.Put(ctx, key, "1"); done <- err }()
			now.busy(t)
			cancel(errCause)
			began := time.Now()
			err := etcdtest.Receive(t, soon, "the call ends", done)
			t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
			want(t, what, err, context.Canceled)
			want(t, what, err, errCause)
			if now.sent && !retry.Ambiguous(err) {
				t.Errorf("it was sent, but is not ambiguous: %v", err)
			}
			if what == "waiting" && retry.Ambiguous(err) {
				t.Errorf("every attempt was refused, but it is ambiguous: %v", err)
			}

			ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer stop()
			_, err = timed(t, "with a deadline", func() error { _, err := now.cli.Put(ctx, key, "2"); return err })
			want(t, what, err, context.DeadlineExceeded)
		})
	}
}
