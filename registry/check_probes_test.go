package registry

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
)

// patience bounds a probe that is to be answered; a busy machine may need it.
const patience = 10 * time.Second

// probing returns what asks once, for the test's time.
func probing(t *testing.T, c Check) func(within time.Duration) error {
	t.Helper()
	if err := validateChecks([]Check{c}); err != nil {
		t.Fatal(err)
	}
	probe, end := c.begin()
	t.Cleanup(end)
	return func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return cmp.Or(probe(ctx), ctx.Err())
	}
}

// wantError fails the test unless err says what it should, or is nil for "".
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// wait fails the test if nothing comes.
func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Error(what)
	}
}

// listen returns a listener on a free port of this machine. It is closed with the test.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// deaf is the address of a listener that was closed.
func deaf(t *testing.T) string {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	l.Close()
	return l.Addr().String()
}

func TestAnHTTPCheckPassesOnA2xxOr3xx(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.String() != "/healthz?deep=1" {
			t.Errorf("it was asked by %s %s", r.Method, r.URL)
		}
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	probe := probing(t, HTTPCheck(server.URL+"/healthz?deep=1"))
	for s, want := range map[int64]string{
		101: "status 101", 200: "", 204: "", 302: "", 399: "", 400: "status 400", 404: "status 404", 500: "status 500", 503: "status 503",
	} {
		status.Store(s)
		wantError(t, probe(patience), want)
	}
}

func TestAnHTTPCheckFailsOfAServerThatIsNotThereOrNotTrusted(t *testing.T) {
	t.Parallel()
	err := probing(t, HTTPCheck("http://u:hunter2@"+deaf(t)+"/?token=hunter2"))(patience)
	wantError(t, err, "connection refused")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it repeats the URL: %v", err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it does not like to be mistrusted
	server.StartTLS()
	defer server.Close()
	wantError(t, probing(t, HTTPCheck(server.URL))(patience), "certificate")
	if name := HTTPCheck("http://u:hunter2@h:80/p?token=hunter2").Name; name != "http://h:80/p" {
		t.Errorf("its name is %q", name)
	}
}

func TestAnHTTPCheckReadsLittleOfALongAnswer(t *testing.T) {
	t.Parallel()
	cut := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				close(cut)
				return
			}
		}
	}))
	defer server.Close()
	wantError(t, probing(t, HTTPCheck(server.URL))(patience), "")
	wait(t, "the server writes on", cut)
}

func TestAnHTTPCheckKeepsNoConnection(t *testing.T) {
	t.Parallel()
	const probes = 3
	closed := make(chan struct{}, probes)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	probe := probing(t, HTTPCheck(server.URL))
	for range probes {
		wantError(t, probe(patience), "")
		wait(t, "the connection is left open", closed)
	}
}

func TestAnHTTPCheckEndsWithItsTime(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	wantError(t, probing(t, HTTPCheck(server.URL))(time.Second), "deadline exceeded")
	<-asked
}

func TestATCPCheckPassesIfAConnectionIsAccepted(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Logf("no %s here: %v", addr, err)
			continue
		}
		probe := probing(t, TCPCheck(l.Addr().String()))
		wantError(t, probe(patience), "")
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("it sent something, or left the connection open: %d, %v", n, err)
		}
		conn.Close()
		l.Close()
		wantError(t, probe(patience), "connection refused")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, TCPCheck(deaf(t)).Probe(ctx), "operation was canceled")
}

// serveGRPC serves health at an address for the test's time.
func serveGRPC(t *testing.T, addr string) (at string, states *health.Server) {
	t.Helper()
	l := listen(t, addr)
	s := grpc.NewServer()
	states = health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, states)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-served })
	return l.Addr().String(), states
}

func TestAGRPCCheckPassesIfTheServiceIsServing(t *testing.T) {
	t.Parallel()
	addr, states := serveGRPC(t, "127.0.0.1:0")
	whole, mail := probing(t, GRPCCheck(addr, "")), probing(t, GRPCCheck(addr, "mail"))
	wantError(t, whole(patience), "")
	wantError(t, mail(patience), "unknown service")
	states.SetServingStatus("mail", grpc_health_v1.HealthCheckResponse_SERVING)
	wantError(t, mail(patience), "")
	states.SetServingStatus("mail", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	wantError(t, mail(patience), "status NOT_SERVING")
	wantError(t, whole(patience), "")
	states.SetServingStatus("mail", grpc_health_v1.HealthCheckResponse_UNKNOWN)
	wantError(t, mail(patience), "status UNKNOWN")
}

// Left to itself a gRPC connection waits longer and longer before it dials again.
func TestAGRPCCheckPassesAtOnceWhenItsServerIsBack(t *testing.T) {
	t.Parallel()
	addr := deaf(t)
	probe := probing(t, GRPCCheck(addr, ""))
	wantError(t, probe(3200*time.Millisecond), "refused") // for three attempts to connect; the next is far
	serveGRPC(t, addr)
	start := time.Now()
	wantError(t, probe(patience), "")
	if took := time.Since(start); took > 800*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestAGRPCCheckKeepsOneConnectionAndClosesItInTheEnd(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int64
	closed := make(chan struct{}, 100)
	s := grpc.NewServer(grpc.StatsHandler(connections{&accepted, closed}))
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	l := listen(t, "127.0.0.1:0")
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // ends with Stop
	}()
	defer func() { s.Stop(); <-served }()

	const probes = 5
	ctx, end := context.WithTimeout(t.Context(), patience)
	defer end()
	c := GRPCCheck(l.Addr().String(), "")
	c.Period, c.SuccessThreshold = 50*time.Millisecond, probes
	runChecks(ctx, []Check{c}, func(healthy bool, _ error) {
		if healthy {
			end()
		}
	})
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		t.Fatalf("%d probes did not pass", probes)
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d probes took %d connections", probes, n)
	}
	wait(t, "the connection is left open", closed)
}

// connections counts those of a gRPC server.
type connections struct {
	accepted *atomic.Int64
	closed   chan<- struct{}
}

func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.accepted.Add(1)
	case *stats.ConnEnd:
		c.closed <- struct{}{}
	}
}
