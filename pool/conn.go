package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// conn is a client of its own: one connection to each member, which requests take in turn. It is replaced as a whole, and
// closed when the last call through it has ended.
type conn struct {
	client *clientv3.Client
	until  time.Time // when it is too old; zero for never

	mu      sync.Mutex // guards what is below
	calls   int        // in flight
	used    time.Time  // when the last one ended
	streams map[*stream]struct{}
	retired bool
	drained chan struct{} // closed when it is retired and nothing is in flight
}

func newConn(client *clientv3.Client, until time.Time) *conn {
	return &conn{client: client, until: until, used: time.Now(), streams: map[*stream]struct{}{}, drained: make(chan struct{})}
}

// acquire begins a call, unless the connection is retired.
func (c *conn) acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return false
	}
	c.calls++
	return true
}

// release ends a call.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls--
	c.used = time.Now()
	if c.retired && c.calls == 0 {
		close(c.drained)
	}
}

// busy is how many calls are in flight, and since when there are none.
func (c *conn) busy() (calls int, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.used
}

// retire lets no call begin any more, and has the streams that go on for ever opened elsewhere by clientv3.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return
	}
	c.retired = true
	for s := range c.streams {
		s.leave()
	}
	if c.calls == 0 {
		close(c.drained)
	}
}

// leaveEndpoint has the streams to one endpoint that go on for ever opened elsewhere.
func (c *conn) leaveEndpoint(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		if s.address == address {
			s.leave()
		}
	}
}

// close closes a retired connection when its calls have ended, or ctx has.
func (c *conn) close(ctx context.Context) error {
	select {
	case <-c.drained:
	case <-ctx.Done():
	}
	err := c.client.Close()
	if errors.Is(err, context.Canceled) { // what clientv3 says of its own context
		err = nil
	}
	<-c.drained // every call on a closed connection ends at once
	return err
}

// discard closes a connection that nobody has called through.
func (c *conn) discard() {
	c.retire()
	_ = c.close(context.Background()) // nothing is in flight, and what clientv3 says of closing is of no use to anybody
}

// ready waits until there is a connection to a member.
func (c *conn) ready(ctx context.Context) error {
	cc := c.client.ActiveConnection()
	for {
		state := cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			cc.Connect()
		case connectivity.Connecting, connectivity.TransientFailure, connectivity.Shutdown:
		}
		if !cc.WaitForStateChange(ctx, state) {
			return context.Cause(ctx)
		}
	}
}

// dialer opens the network connections of all clients, and remembers how the last attempt for each address failed: gRPC wraps
// that in words of its own, if it tells at all.
type dialer struct {
	mu     sync.Mutex
	failed map[string]error // guarded by mu
}

// dial opens one, which names the endpoint's address as its other side.
func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	network, to := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, to = "unix", strings.TrimPrefix(path, "//")
		address = "unix:" + to
	}
	d.begin(address)
	raw, err := (&net.Dialer{}).DialContext(ctx, network, to)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = errUnanswered // and not that somebody else gave up on it
	}
	if err != nil {
		d.note(address, err)
		return nil, err
	}
	d.reached(address)
	return &heard{Conn: &named{raw, endpointAddr(address)}, failed: func(err error) {
		d.note(address, fmt.Errorf("the connection ended before anything was said (perhaps it wants TLS): %w", err))
	}}, nil
}

// errUnanswered is the failure of an attempt that nobody has answered yet: it is not even refused.
var errUnanswered = errors.New("does not answer to connecting: it is down, or a firewall is between")

// begin remembers that an attempt has not ended, unless it is known how the one before failed.
func (d *dialer) begin(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed[address] == nil {
		d.failed[address] = errUnanswered
	}
}

// reached remembers that an attempt was answered. How the one before failed after that is known still: so may this one.
func (d *dialer) reached(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed[address] == errUnanswered { //nolint:errorlint // the very same
		delete(d.failed, address)
	}
}

// note remembers how an attempt ended.
func (d *dialer) note(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[address] = err
}

// last is how the last attempt failed; nil if it did not.
func (d *dialer) last(address string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed[address]
}

// heard is a connection that tells if it fails before anything was read from it: a member that does not like how it is spoken
// to, or the certificate that it was shown, says so then, if it says anything.
type heard struct {
	net.Conn
	failed func(error)
	any    atomic.Bool
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if n > 0 || errors.Is(err, net.ErrClosed) { // by this side
		h.any.Store(true)
	}
	if err != nil && !h.any.Swap(true) {
		h.failed(err)
	}
	return n, err
}

// named is a network connection that names the endpoint it was opened for, whatever that resolved to.
type named struct {
	net.Conn
	addr endpointAddr
}

func (n *named) RemoteAddr() net.Addr { return n.addr }

type endpointAddr string

func (a endpointAddr) Network() string {
	if strings.HasPrefix(string(a), "unix:") {
		return "unix"
	}
	return "tcp"
}
func (a endpointAddr) String() string { return string(a) }

var _ grpc.ClientConnInterface = (*class)(nil)
