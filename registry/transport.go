package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// maxTries is how many instances a request is sent to at the most, none of which got it but the last.
	maxTries = 3

	// dialTimeout bounds connecting to an instance: within a network that takes no time, or does not succeed.
	dialTimeout = time.Second

	// idlePerInstance is how many idle connections are kept. Callers of a service come back to all its instances.
	idlePerInstance = 32
)

// TransportOptions of NewTransport. The zero value, and a nil *TransportOptions, mean the defaults.
type TransportOptions struct {
	// View is how the services are watched.
	View *ViewOptions

	// Kind and Pick are how an instance is chosen. Default LeastLoaded.
	Kind PickKind
	Pick *PickOptions

	// Service gives the name of the service that a request is for. Default the host of its URL, which must not have a port
	// then. It must be safe for concurrent use, and must not make names out of what comes from outside: each is watched
	// until Close.
	Service func(*http.Request) string

	// Key gives the key of a request, for ConsistentHash. Default the path of its URL. It must be safe for concurrent use.
	Key func(*http.Request) string

	// Base sends the requests, each with an instance's address in its URL. Default one like http.DefaultTransport, but
	// without a proxy, with a second to connect, and with up to 32 idle connections an instance. Over https the name
	// that an instance must prove is its address, unless Base is an http.Transport whose TLSClientConfig says another.
	Base http.RoundTripper

	// InstanceHost sends an instance's own address as the Host header. Default is the one of the request, and so the
	// name of the service.
	InstanceHost bool
}

// Transport sends HTTP requests to the instances of the service that the host of their URL names: http://mail/path goes
// to an instance of mail. It is an http.RoundTripper, and safe for concurrent use.
//
// A service is watched from the first request to it until Close, so hosts must not come from outside. The host is
// the whole name, without a port; for one with a slash, which cannot be a host, there is [TransportOptions.Service].
//
// Nothing new goes to an instance that is not ready. A request that has reached no instance, as no connection could be
// made, is tried with another one, three in all, if it has no body or one with GetBody: so an instance that has died
// costs nothing while there are others. What may have been sent is never sent again by the Transport itself.
//
// An instance that could not be reached, broke a connection off, or answered with 502, 503 or 504 has failed, and five
// times running leave it out for a time (PickOptions). A pick is done when the response's body is read to its end
// or closed.
type Transport struct {
	client *clientv3.Client
	opts   TransportOptions

	life context.Context // ends with Close
	end  context.CancelCauseFunc
	work sync.WaitGroup // views that are being opened

	mu       sync.Mutex
	services map[string]*destination // guarded by mu; nil once closed
}

// destination is a service whose view is being opened, or is open.
type destination struct {
	done   chan struct{} // closed when the rest is set
	view   *View
	picker *Picker
	err    error
}

// NewTransport returns a Transport over the services in etcd. It does no I/O. Close it when no more requests come.
//
// It panics if Kind is none, or an option of Pick is out of its range, as [NewPicker] does. What is wrong with View is
// the error of each request.
func NewTransport(client *clientv3.Client, opts *TransportOptions) *Transport {
	t := &Transport{client: client, services: map[string]*destination{}}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.Kind == 0 {
		t.opts.Kind = LeastLoaded
	}
	if _, err := t.opts.Pick.withDefaults(t.opts.Kind); err != nil {
		panic(err)
	}
	if t.opts.Key == nil {
		t.opts.Key = func(r *http.Request) string { return r.URL.Path }
	}
	if t.opts.Base == nil {
		t.opts.Base = newBase()
	}
	t.life, t.end = context.WithCancelCause(context.Background())
	return t
}

// newBase returns the default of TransportOptions.Base.
func newBase() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: idlePerInstance,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
}

// RoundTrip sends a request to an instance. The request's context bounds the wait for the service's first list, which
// gives up by itself after 10 s, and everything else as with any http.RoundTripper.
//
// An error is [ErrNoInstances] if none is ready, what [Watch] returns if the service cannot be watched, [ErrClosed]
// after Close, or what Base has returned, with the instance's ID.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	service, err := t.service(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	picker, err := t.picker(req.Context(), service)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	key := ""
	if t.opts.Kind == ConsistentHash {
		key = t.opts.Key(req)
	}
	pick, err := picker.Pick(key)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	body := req.Body
	for tried := make([]Pick, 0, maxTries); ; {
		resp, unsent, err := t.send(req, body, pick.Instance)
		if err == nil {
			return answered(req, resp, pick), nil
		}
		err = &instanceError{instance: pick.Instance, err: err}
		pick.Done(err)
		if tried = append(tried, pick); !unsent || len(tried) == maxTries || req.Context().Err() != nil {
			return nil, err
		}
		again, whole := bodyAgain(req)
		if !whole {
			return nil, err
		}
		next, ok := picker.another(key, tried)
		if !ok {
			if again != nil {
				_ = again.Close() // of a copy that nobody has read
			}
			return nil, err
		}
		pick, body = next, again
	}
}

// send sends a request to an instance. If that fails it reports whether nothing of it can have been sent: Base asked
// for a connection and got none. What it may have sent before on a connection that turned out to be closed, it has judged
// itself that it may be sent again.
func (t *Transport) send(req *http.Request, body io.ReadCloser, to *Instance) (resp *http.Response, unsent bool, err error) {
	var waiting atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { waiting.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { waiting.Store(false) },
	})
	out := req.WithContext(ctx) // a copy: the caller's is not ours to write to
	url := *req.URL
	url.Host = to.Addr
	out.URL, out.Body = &url, body
	if out.Host == "" {
		out.Host = req.URL.Host
	}
	if t.opts.InstanceHost && out.Host == req.URL.Host {
		out.Host = to.Addr
	}
	resp, err = t.opts.Base.RoundTrip(out)
	return resp, waiting.Load(), err
}

// service is the name of the service that a request is for.
func (t *Transport) service(req *http.Request) (string, error) {
	switch {
	case req.URL == nil:
		return "", errors.New("registry: request refused: it has no URL")
	case t.opts.Service != nil:
		return t.opts.Service(req), nil // Watch checks it
	case req.URL.Host == "" || req.URL.Port() != "":
		return "", fmt.Errorf("registry: URL %s refused: its host is not the name of a service, without a port", req.URL.Redacted())
	}
	return req.URL.Host, nil
}

// View returns the view of a service that the Transport chooses from, opened now if there was no request to it so far: for
// whoever wants to know when its instances come and go, or how it is. It belongs to the Transport, whose Close closes it.
// ctx bounds the wait; errors are those of [Watch], and [ErrClosed].
func (t *Transport) View(ctx context.Context, service string) (*View, error) {
	p, err := t.picker(ctx, service)
	if err != nil {
		return nil, err
	}
	return p.view, nil
}

// picker returns the picker of a service, and opens its view if this is the first request to it. That goes on when ctx
// is done, as others may wait for it too. If it fails, the next request tries again.
func (t *Transport) picker(ctx context.Context, service string) (*Picker, error) {
	t.mu.Lock()
	if t.services == nil {
		t.mu.Unlock()
		return nil, fmt.Errorf("registry %q: %w", service, ErrClosed)
	}
	o := t.services[service]
	if o == nil {
		o = &destination{done: make(chan struct{})}
		t.services[service] = o
		t.work.Go(func() { t.open(o, service) })
	}
	t.mu.Unlock()
	select {
	case <-o.done:
		return o.picker, o.err
	default:
	}
	select {
	case <-o.done:
		return o.picker, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("registry %q: %w", service, context.Cause(ctx))
	}
}

// open opens the view of a service.
func (t *Transport) open(o *destination, service string) {
	defer close(o.done)
	o.view, o.err = Watch(t.life, t.client, service, t.opts.View)
	if o.err == nil {
		o.picker = NewPicker(o.view, t.opts.Kind, t.opts.Pick)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.services, service)
}

// CloseIdleConnections closes the idle connections of Base. It is what http.Client.CloseIdleConnections calls.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.opts.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Close ends the views of all services and closes idle connections. Requests that are under way go on; later ones fail
// with [ErrClosed]. It is idempotent, and waits until nothing of the Transport runs any more.
func (t *Transport) Close() {
	t.mu.Lock()
	services := t.services
	t.services = nil
	t.mu.Unlock()
	t.end(ErrClosed)
	t.work.Wait()
	for _, o := range services {
		if o.view != nil {
			o.view.Close()
		}
	}
	t.CloseIdleConnections()
}

// bodyAgain returns a request's body for another attempt, and false if there is none.
func bodyAgain(req *http.Request) (io.ReadCloser, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

// closeBody closes the body of a request that is not sent, as an http.RoundTripper has to.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // nobody has read of it
	}
}

// instanceError says which instance it was.
type instanceError struct {
	instance *Instance
	err      error
}

func (e *instanceError) Error() string {
	return fmt.Sprintf("registry %q: instance %q at %s: %v", e.instance.Service, e.instance.ID, e.instance.Addr, e.err)
}

func (e *instanceError) Unwrap() error { return e.err }

// Timeout is asked for by url.Error, which does not look at what an error wraps.
func (e *instanceError) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(e.err, &timeout) && timeout.Timeout()
}
