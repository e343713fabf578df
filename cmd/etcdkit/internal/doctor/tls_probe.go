package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// dialogue is how it is seen whether a server lets somebody in: what is said, and whether that is what a server answers who does.
type dialogue struct {
	protocol, say string
	taken         func(answer []byte) bool
}

var (
	// asClient is that of HTTP/2: who says hello with an empty frame of settings gets one, which is of kind 4.
	asClient = dialogue{
		"h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		func(answer []byte) bool { return answer[3] == 4 },
	}

	// asPeer is that of HTTP/1.1, which members speak among themselves.
	asPeer = dialogue{
		"http/1.1", "GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n",
		func(answer []byte) bool { return bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) },
	}
)

// tlsVersions are those that are tried, the oldest first.
var tlsVersions = []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}

// tlsFor is how an endpoint is connected to: it has a name that its certificate must be for.
func (p *Patient) tlsFor(endpoint string) *tls.Config {
	c := p.TLS()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(hostOf(endpoint))
	}
	return c
}

// shaken is what came of a handshake.
type shaken struct {
	chain   []*x509.Certificate // as shown by the other side, perhaps before it broke off
	version uint16
	err     error
}

// handshake makes one and hangs up.
func handshake(ctx context.Context, endpoint string, c *tls.Config) (s shaken) {
	conn, err := dial(ctx, endpoint)
	if err != nil {
		s.err = err
		return s
	}
	defer func() { _ = conn.Close() }() // nothing was sent that could be lost
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c = c.Clone()
	verify := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		s.chain = state.PeerCertificates
		if verify != nil {
			return verify(state)
		}
		return nil
	}
	secure := tls.Client(conn, c)
	if s.err = secure.HandshakeContext(ctx); s.err == nil {
		s.version = secure.ConnectionState().Version
	}
	return s
}

// look makes a handshake that takes any certificate, to have it seen.
func look(ctx context.Context, endpoint string, c *tls.Config) shaken {
	c = c.Clone()
	c.InsecureSkipVerify = true
	return handshake(ctx, endpoint, c)
}

// offered are the versions of TLS that a member agrees to.
func offered(ctx context.Context, endpoint string, c *tls.Config) (all []uint16) {
	for _, version := range tlsVersions {
		c := c.Clone()
		c.MinVersion, c.MaxVersion = version, version
		if look(ctx, endpoint, c).err == nil {
			all = append(all, version)
		}
	}
	return all
}

// lets reports whether a member speaks with somebody who connects in this way: nil for without TLS.
func (d dialogue) lets(ctx context.Context, endpoint string, c *tls.Config) bool {
	return d.with(ctx, endpoint, c) == nil
}

// refuses reports whether it hangs up on them, after a handshake that may look well.
func (d dialogue) refuses(ctx context.Context, endpoint string, c *tls.Config) bool {
	err := d.with(ctx, endpoint, c)
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// with has the dialogue, and returns nil if it came about.
func (d dialogue) with(ctx context.Context, endpoint string, c *tls.Config) error {
	conn, err := dial(ctx, endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was sent that could be lost
	if err := conn.SetDeadline(time.Now().Add(askWithin)); err != nil {
		return err
	}
	if c != nil {
		c = c.Clone()
		c.InsecureSkipVerify, c.NextProtos = true, []string{d.protocol} // who the other side is was looked at
		secure := tls.Client(conn, c)
		// With TLS 1.3 this ends before the member says what it thinks of the certificate.
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = secure
	}
	if _, err := conn.Write([]byte(d.say)); err != nil {
		return err
	}
	answer := make([]byte, 9) // the head of a frame
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if !d.taken(answer) {
		return errors.New("it speaks another protocol")
	}
	return nil
}

// anonymous is a configuration without a certificate to show.
func anonymous(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.Certificates, c.GetClientCertificate = nil, nil
	return c
}

// firstToExpire is the certificate of a chain that is the first to be over.
func firstToExpire(chain []*x509.Certificate) *x509.Certificate {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}
