package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

// dialer opens the network connections of all clients, and remembers how the last attempt for each address failed: gRPC wraps
// that in words of its own, if it tells at all.
type dialer struct {
	mu       sync.Mutex // guards what is below
	failed   map[string]error
	verdicts map[string]map[*verdict]struct{} // that are waited for
}

// verdict is somebody's wait for the word that an endpoint is not to be had as this side is set up.
type verdict struct{ come func() }

func newDialer() *dialer {
	return &dialer{failed: map[string]error{}, verdicts: map[string]map[*verdict]struct{}{}}
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
	if !final(err) {
		return
	}
	for v := range d.verdicts[address] {
		v.come()
	}
}

// onVerdict has come called if an attempt fails, from now on, in a way that the next one will, too. Call forget in any case.
func (d *dialer) onVerdict(address string, come func()) (forget func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &verdict{come}
	if d.verdicts[address] == nil {
		d.verdicts[address] = map[*verdict]struct{}{}
	}
	d.verdicts[address][v] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.verdicts[address], v)
	}
}

// final reports whether the two sides have spoken, and one does not take what the other shows. One that refuses, or hangs up,
// may only be starting.
func final(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		header      tls.RecordHeaderError
		alert       *net.OpError
	)
	return errors.As(err, &certificate) || errors.As(err, &header) || errors.As(err, &alert) && alert.Op == "remote error"
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
