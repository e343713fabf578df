package pool

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// TLSFiles names the files for connections with TLS. They are read again when they change, so that certificates and
// authorities can be rotated without a restart; what cannot be read then is logged, and the last good content stays.
type TLSFiles struct {
	// CA is a file of certificates, in PEM, of the authorities that the members' certificates are verified against.
	// Default: the system's.
	CA string `json:"ca,omitempty"`

	// Cert and Key are files, in PEM, of the certificate that is shown to the members and of its key. Both or neither.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`

	// ServerName is the name that the members' certificates must be for. Default: the host in the endpoint.
	ServerName string `json:"serverName,omitempty"`

	// AnyServer accepts every certificate, also that of somebody in between. It is for testing only.
	AnyServer bool `json:"anyServer,omitempty"`
}

// validate returns the rule that f breaks, if any, without a look at the files.
func (f *TLSFiles) validate() error {
	switch {
	case f == nil:
		return nil
	case f.Cert != "" && f.Key == "":
		return errors.New("pool: TLSFiles.Cert is set, and TLSFiles.Key is not: half a key pair")
	case f.Cert == "" && f.Key != "":
		return errors.New("pool: TLSFiles.Key is set, and TLSFiles.Cert is not: half a key pair")
	case f.AnyServer && (f.CA != "" || f.ServerName != ""):
		return errors.New("pool: TLSFiles.AnyServer accepts every certificate, so CA and ServerName mean nothing")
	}
	return nil
}

// material is what the files hold.
type material struct {
	files TLSFiles
	log   *zap.Logger

	mu       sync.Mutex // guards what is below
	stamps   [3]stamp   // of CA, Cert and Key, when they were read
	roots    *x509.CertPool
	pair     *tls.Certificate // nil if there is none
	notAfter time.Time        // until when the pair's certificate is valid; zero if there is none
	version  int              // counts the contents
	unusable string           // why the files as they are now are not used; empty if they are
}

// stamp tells whether a file has changed. One that was replaced has another time, and hardly ever the same size as well.
type stamp struct {
	modified time.Time
	size     int64
}

// load reads the files for the first time.
func load(files TLSFiles, log *zap.Logger) (*material, error) {
	m := &material{files: files, log: log}
	if files.Key != "" {
		info, err := os.Stat(files.Key)
		if err == nil && info.Mode().Perm()&0o007 != 0 {
			log.Warn("anybody on this machine may read the key file", zap.String("key", files.Key), zap.Stringer("mode", info.Mode()))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(m.look()); err != nil {
		return nil, err
	}
	return m, nil
}

// refresh reads the files if they have changed, and returns the number of their content. If they cannot be read, or do not fit
// each other, as in the middle of a rotation, the content stays.
func (m *material) refresh() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.look()
	if now == m.stamps {
		return m.version
	}
	if err := m.read(now); err != nil {
		if why := err.Error(); why != m.unusable { // once, and not at every look
			m.unusable = why
			m.log.Warn("changed TLS files are not used", zap.Error(err))
		}
		return m.version
	}
	m.unusable = ""
	m.log.Info("TLS files were read again", zap.Time("notAfter", m.notAfter))
	return m.version
}

// read reads the files. The caller holds mu.
func (m *material) read(stamps [3]stamp) error {
	var (
		roots *x509.CertPool
		pair  *tls.Certificate
		until time.Time
	)
	if m.files.CA != "" {
		text, err := os.ReadFile(m.files.CA)
		if err != nil {
			return fmt.Errorf("pool: TLSFiles.CA: %w", err)
		}
		if roots, err = authorities(text); err != nil {
			return fmt.Errorf("pool: TLSFiles.CA: %s %w", m.files.CA, err)
		}
	}
	if m.files.Cert != "" {
		read, err := tls.LoadX509KeyPair(m.files.Cert, m.files.Key)
		if err != nil {
			return fmt.Errorf("pool: TLSFiles.Cert and Key: %w", err)
		}
		if now := time.Now(); now.After(read.Leaf.NotAfter) || now.Before(read.Leaf.NotBefore) {
			m.log.Warn("the client certificate is not valid now", zap.Time("notBefore", read.Leaf.NotBefore), zap.Time("notAfter", read.Leaf.NotAfter))
		}
		pair, until = &read, read.Leaf.NotAfter
	}
	m.roots, m.pair, m.notAfter, m.stamps = roots, pair, until, stamps
	m.version++
	return nil
}

// authorities reads certificates in PEM, to the end: a file that is being written would else count as one of fewer authorities.
func authorities(text []byte) (*x509.CertPool, error) {
	roots, n := x509.NewCertPool(), 0
	for begun := bytes.Count(text, []byte("-----BEGIN ")); begun > 0; begun-- {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("ends within a certificate")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil { // bundles of hundreds have one that Go does not like
			roots.AddCert(cert)
			n++
		}
	}
	if n == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return roots, nil
}

// look takes the stamps of the files. One that is not there has none.
func (m *material) look() (stamps [3]stamp) {
	for i, name := range [...]string{m.files.CA, m.files.Cert, m.files.Key} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

// over is when the certificate that is shown to the members is no longer valid; the zero time if there is none.
func (m *material) over() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notAfter
}

// config is one for a handshake now.
func (m *material) config() *tls.Config {
	m.refresh()
	m.mu.Lock()
	defer m.mu.Unlock()
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            m.roots,
		InsecureSkipVerify: m.files.AnyServer, //nolint:gosec // asked for by name
	}
	if m.pair != nil {
		cfg.Certificates = []tls.Certificate{*m.pair}
	}
	return cfg
}

// handshaker makes each handshake with what the files hold by then.
type handshaker struct {
	material *material
	dialer   *dialer // is told of those that fail
}

func (h handshaker) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if name := h.material.files.ServerName; name != "" {
		authority = name // gRPC puts the host of the endpoint over a name in the configuration
	}
	secured, info, err := credentials.NewTLS(h.material.config()).ClientHandshake(ctx, authority, conn)
	address := conn.RemoteAddr().String()
	if err != nil {
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) { // and not that nobody answered
			h.dialer.note(address, err)
		}
		return nil, nil, err
	}
	// With TLS 1.3, what the other side thinks of our certificate comes after the handshake.
	return &heard{Conn: secured, failed: func(err error) { h.dialer.note(address, err) }}, info, nil
}

func (h handshaker) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("pool: not a server")
}

func (h handshaker) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}).Info()
}

func (h handshaker) Clone() credentials.TransportCredentials { return h }

// OverrideServerName is gRPC's older way to set a name; ours is TLSFiles.ServerName.
func (h handshaker) OverrideServerName(string) error {
	return errors.New("pool: the name is TLSFiles.ServerName")
}
