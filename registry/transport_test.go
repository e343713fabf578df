package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// over returns a Transport that knows one service, whose instances are given, without etcd.
func over(t testing.TB, opts *TransportOptions, list ...*Instance) (*Transport, *View) {
	t.Helper()
	v := viewOf(list...)
	rt := NewTransport(nil, opts)
	t.Cleanup(rt.CloseIdleConnections)
	o := &destination{done: make(chan struct{}), picker: NewPicker(v, rt.opts.Kind, rt.opts.Pick)}
	close(o.done)
	rt.services["mail"] = o
	return rt, v
}

// serve returns an instance that answers with the handler.
func serve(t testing.TB, id string, handler http.HandlerFunc) *Instance {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return &Instance{Service: "mail", ID: id, Addr: s.Listener.Addr().String(), Weight: 100}
}

// dead returns an instance that nobody serves.
func dead(t testing.TB, id string) *Instance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &Instance{Service: "mail", ID: id, Addr: l.Addr().String(), Weight: 100}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// get sends a GET and returns its status, or its error, with the body read.
func get(rt http.RoundTripper) (int, error) {
	resp, err := (&http.Client{Transport: rt}).Get("http://mail/path")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func loadOf(rt *Transport) (sum int64) {
	for _, m := range rt.services["mail"].picker.members {
		sum += m.load.Load()
	}
	return sum
}

func TestARequestThatReachedNobodyIsTriedWithAnother(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		for name, send := range map[string]func(*http.Client) (*http.Response, error){
			"GET":  func(c *http.Client) (*http.Response, error) { return c.Get("http://mail/path") },
			"HEAD": func(c *http.Client) (*http.Response, error) { return c.Head("http://mail/path") },
			"POST": func(c *http.Client) (*http.Response, error) {
				body := func() (io.ReadCloser, error) { return &closing{Reader: strings.NewReader("all of it")}, nil }
				req, _ := http.NewRequest(http.MethodPost, "http://mail/path", nil)
				req.Body, _ = body()
				req.GetBody = body
				return c.Do(req)
			},
		} {
			var bodies atomic.Int32
			alive := serve(t, "c", func(_ http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); string(b) == "all of it" {
					bodies.Add(1)
				}
			})
			rt, _ := over(t, &TransportOptions{Kind: kind, Pick: &PickOptions{EjectAfter: -1}}, dead(t, "a"), dead(t, "b"), alive)
			for range 30 {
				resp, err := send(&http.Client{Transport: rt})
				if err != nil {
					t.Fatalf("%s, %s: %v", kind, name, err)
				}
				resp.Body.Close()
			}
			if n := bodies.Load(); name == "POST" && n != 30 {
				t.Errorf("%s: %d bodies arrived whole, want 30", kind, n)
			}
			if n := loadOf(rt); n != 0 {
				t.Errorf("%s: %d picks are not done", kind, n)
			}
		}
	}
}

func TestThreeInstancesAreTriedAndNoMore(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	base := newBase()
	base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errFailed
	}
	for n, want := range map[int]int32{1: 1, 2: 2, 3: 3, 9: 3} {
		rt, _ := over(t, &TransportOptions{Base: base}, crowd(n)...)
		dials.Store(0)
		_, err := get(rt)
		if !errors.Is(err, errFailed) || !strings.Contains(err.Error(), `registry "mail": instance "0000`) {
			t.Errorf("got %v, want the dial's error and an instance", err)
		}
		if got := dials.Load(); got != want {
			t.Errorf("of %d instances %d were tried, want %d", n, got, want)
		}
	}
}

// A body that can be read once may have been read; and what may have arrived must not be done twice.
func TestWhatMayHaveBeenSentIsNotSentAgain(t *testing.T) {
	t.Parallel()
	rt, _ := over(t, nil, dead(t, "a"), dead(t, "b"))
	for range 10 {
		once := &closing{Reader: strings.NewReader("once")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://mail/", once)
		var dials atomic.Int32
		base := newBase()
		base.DialContext = func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, errFailed
		}
		rt.opts.Base = base
		if _, err := rt.RoundTrip(req); !errors.Is(err, errFailed) || dials.Load() != 1 || !once.closed.Load() {
			t.Fatalf("got %v after %d dials, closed %t", err, dials.Load(), once.closed.Load())
		}
	}

	var hits atomic.Int32
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	}
	rt, _ = over(t, nil, serve(t, "a", hangUp), serve(t, "b", hangUp))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		hits.Store(0)
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://mail/", http.NoBody)
		if _, err := rt.RoundTrip(req); err == nil || hits.Load() != 1 {
			t.Errorf("%s: got %v after %d times", method, err, hits.Load())
		}
	}
}

// closing is a body that cannot be read once it is closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

func (c *closing) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return c.Reader.Read(p)
}

func TestARequestThatIsNotSentHasItsBodyClosed(t *testing.T) {
	t.Parallel()
	rt, v := over(t, nil)
	show(v)
	closed, _ := over(t, nil, crowd(1)...)
	closed.Close()
	for _, c := range []struct {
		rt   *Transport
		url  string
		want error
	}{
		{rt, "http://mail/", ErrNoInstances},
		{rt, "http://mail:80/", nil},
		{rt, "mailto:a@example.com", nil},
		{closed, "http://mail/", ErrClosed},
	} {
		body := &closing{Reader: strings.NewReader("x")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, body)
		resp, err := c.rt.RoundTrip(req)
		if resp != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, %v", c.url, resp, err)
		}
		if !body.closed.Load() {
			t.Errorf("%s: the body was left open", c.url)
		}
	}
	closed.Close() // idempotent
}

func TestAPickIsDoneWithTheBody(t *testing.T) {
	t.Parallel()
	rt, _ := over(t, nil, serve(t, "a", hello))
	client := &http.Client{Transport: rt}
	for what, end := range map[string]func(io.ReadCloser){
		"closed":       func(b io.ReadCloser) { _ = b.Close() },
		"read":         func(b io.ReadCloser) { _, _ = io.ReadAll(b) },
		"closed twice": func(b io.ReadCloser) { _, _ = io.ReadAll(b); _ = b.Close(); _ = b.Close() },
	} {
		resp, err := client.Get("http://mail/")
		if err != nil {
			t.Fatal(err)
		}
		if n := loadOf(rt); n != 1 {
			t.Errorf("%d picks while a body is open, want 1", n)
		}
		end(resp.Body)
		if n := loadOf(rt); n != 0 {
			t.Errorf("%d picks after the body was %s, want none", n, what)
		}
		resp.Body.Close()
	}
	resp, err := client.Head("http://mail/")
	if err != nil {
		t.Fatal(err)
	}
	if n := loadOf(rt); n != 0 {
		t.Errorf("%d picks after an answer without a body, want none", n)
	}
	resp.Body.Close()
}

func TestAnswersSayWhetherAnInstanceHasFailed(t *testing.T) {
	t.Parallel()
	for status, fails := range map[int]bool{200: false, 404: false, 429: false, 500: false, 501: false, 502: true, 503: true, 504: true} {
		bad := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		rt, _ := over(t, &TransportOptions{Kind: RoundRobin}, bad, serve(t, "b", hello))
		got := map[int]int{}
		for range 40 {
			code, err := get(rt)
			if err != nil {
				t.Fatal(err)
			}
			got[code]++
		}
		if out := seatOf(rt.services["mail"].picker, "a") == nil; out != fails {
			t.Errorf("after 20 answers with %d: left out %t", status, out)
		}
		if fails && got[status] != 5 {
			t.Errorf("it was asked %d times, want 5: %v", got[status], got)
		}
	}
}

func TestABodyThatBreaksOffIsAFailure(t *testing.T) {
	t.Parallel()
	bad := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "not all")
	})
	rt, _ := over(t, &TransportOptions{Kind: RoundRobin}, bad, serve(t, "b", hello))
	broken := 0
	for range 40 {
		if _, err := get(rt); errors.Is(err, io.ErrUnexpectedEOF) {
			broken++
		}
	}
	if broken != 5 {
		t.Errorf("it was asked %d times, want 5", broken)
	}
}

// A caller that gives up says nothing of the instance.
func TestARequestThatIsCancelledEjectsNobody(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	slow := func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}
	rt, _ := over(t, nil, serve(t, "a", slow), serve(t, "b", slow))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://mail/", nil)
		failed := make(chan error)
		go func() {
			_, err := rt.RoundTrip(req)
			failed <- err
		}()
		<-arrived
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	p := rt.services["mail"].picker
	if seatOf(p, "a") == nil || seatOf(p, "b") == nil || loadOf(rt) != 0 {
		t.Errorf("one was left out, or %d picks are not done", loadOf(rt))
	}
}

func TestTheHostIsTheServiceUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	var host string
	at := serve(t, "a", func(_ http.ResponseWriter, r *http.Request) { host = r.Host })
	for _, c := range []struct {
		instance bool
		explicit string
		want     string
	}{
		{false, "mail", "mail"},
		{false, "", "mail"},
		{false, "example.com", "example.com"},
		{true, "mail", at.Addr},
		{true, "example.com", "example.com"},
	} {
		rt, _ := over(t, &TransportOptions{InstanceHost: c.instance}, at)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mail/path?q", nil)
		req.Host = c.explicit
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if host != c.want {
			t.Errorf("%+v: got %q", c, host)
		}
		if req.URL.Host != "mail" || req.Host != c.explicit || resp.Request != req {
			t.Errorf("the request was changed, or is not the response's: %+v, %+v", req, resp.Request)
		}
	}
}

func TestRedirectsStayWithTheService(t *testing.T) {
	t.Parallel()
	at := serve(t, "a", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/path" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
	})
	rt, _ := over(t, nil, at)
	resp, err := (&http.Client{Transport: rt}).Get("http://mail/path")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "mail/elsewhere" || resp.Request.URL.String() != "http://mail/elsewhere" {
		t.Errorf("got %q from %v", b, resp.Request.URL)
	}
}

func TestATimeoutIsSeenThroughTheError(t *testing.T) {
	t.Parallel()
	at := serve(t, "a", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	rt, _ := over(t, nil, at)
	_, err := (&http.Client{Transport: rt, Timeout: 50 * time.Millisecond}).Get("http://mail/")
	var u *url.Error
	if !errors.As(err, &u) || !u.Timeout() {
		t.Errorf("got %v, which is no timeout", err)
	}
	base := newBase()
	base.ResponseHeaderTimeout = 50 * time.Millisecond
	rt, _ = over(t, &TransportOptions{Base: base}, at)
	if _, err := get(rt); !errors.As(err, &u) || !u.Timeout() {
		t.Errorf("got %v, which is no timeout", err)
	}
}

func TestAnUpgradedConnectionIsWrittenTo(t *testing.T) {
	t.Parallel()
	at := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString(line)
		_ = rw.Flush()
	})
	rt, _ := over(t, nil, at)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mail/", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("a body of type %T cannot be written to", resp.Body)
	}
	fmt.Fprintln(conn, "hello")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if n := loadOf(rt); n != 1 {
		t.Errorf("%d picks while the connection is open, want 1", n)
	}
	conn.Close()
	if n := loadOf(rt); n != 0 {
		t.Errorf("%d picks, want none", n)
	}
}

func TestRequestsOfOneKeyGoToOneInstance(t *testing.T) {
	t.Parallel()
	name := func(id string) *Instance {
		return serve(t, id, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, id) })
	}
	list := []*Instance{name("a"), name("b"), name("c"), name("d")}
	rt, _ := over(t, &TransportOptions{Kind: ConsistentHash, Key: func(r *http.Request) string { return r.Header.Get("User") }}, list...)
	users := map[string]string{}
	seen := map[string]bool{}
	for n := range 200 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprint("http://mail/", n), nil)
		user := fmt.Sprint("user ", n%40)
		req.Header.Set("User", user)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if was := users[user]; was != "" && was != string(b) {
			t.Errorf("%s went to %s and to %s", user, was, b)
		}
		users[user] = string(b)
		seen[string(b)] = true
	}
	if len(seen) != 4 {
		t.Errorf("all went to %v", seen)
	}
}

func TestTransportOptionsOutOfRangePanic(t *testing.T) {
	t.Parallel()
	for _, opts := range []*TransportOptions{{Kind: 9}, {Pick: &PickOptions{ZoneShare: 2}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is taken", opts)
				}
			}()
			NewTransport(nil, opts)
		}()
	}
}

func TestTheWaitForAServiceEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	rt, _ := over(t, nil)
	rt.services["mail"] = &destination{done: make(chan struct{})} // by nobody
	gaveUp := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://mail/", nil)
	failed := make(chan error)
	go func() {
		_, err := rt.RoundTrip(req)
		failed <- err
	}()
	cancel(gaveUp)
	if err := <-failed; !errors.Is(err, gaveUp) {
		t.Errorf("got %v", err)
	}
}
