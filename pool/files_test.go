package pool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// issued is a certificate, its key and who has signed it, in PEM and not.
type issued struct {
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	certPEM   []byte
	keyPEM    []byte
	authority *issued
}

// issue makes a certificate for names and addresses, signed by authority; without one it is an authority.
func issue(t *testing.T, authority *issued, change func(*x509.Certificate), hosts ...string) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "etcdkit"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	parent, signer := template, key
	if authority != nil {
		parent, signer = authority.cert, authority.key
	} else {
		template.IsCA, template.BasicConstraintsValid = true, true
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{
		cert: cert, key: key, authority: authority,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// folder is a directory of files whose times differ, however fast they are written.
type folder struct {
	t    *testing.T
	path string
	now  time.Time
}

func newFolder(t *testing.T) *folder {
	return &folder{t: t, path: t.TempDir(), now: time.Now()}
}

// write replaces a file, and returns its name.
func (f *folder) write(name string, content ...[]byte) string {
	f.t.Helper()
	path := filepath.Join(f.path, name)
	var all []byte
	for _, c := range content {
		all = append(all, c...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.now = f.now.Add(time.Second)
	if err := os.Chtimes(path, f.now, f.now); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// watched is a logger, and what it was told.
func watched() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

func TestAFileThatCannotBeUsedIsRefusedAtOnceAndTheErrorSaysWhy(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ca := issue(t, nil, nil)
	one, other := issue(t, ca, nil), issue(t, ca, nil)
	good := f.write("ca.pem", ca.certPEM)
	cert, key := f.write("cert.pem", one.certPEM), f.write("key.pem", one.keyPEM)
	missing := filepath.Join(f.path, "missing.pem")
	for _, c := range []struct {
		what  string
		files TLSFiles
		want  string
	}{
		{"nothing", TLSFiles{}, ""},
		{"all", TLSFiles{CA: good, Cert: cert, Key: key}, ""},
		{"a bundle", TLSFiles{CA: f.write("bundle.pem", ca.certPEM, []byte("# another\n"), one.certPEM)}, ""},
		{"a bundle with one that Go does not like", TLSFiles{CA: f.write("odd.pem", ca.certPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("odd")}))}, ""},
		{"no authority", TLSFiles{CA: missing}, "TLSFiles.CA: open " + missing},
		{"an empty one", TLSFiles{CA: f.write("empty.pem")}, "empty.pem holds no certificate in PEM"},
		{"one that is none", TLSFiles{CA: f.write("text.pem", []byte("hello"))}, "text.pem holds no certificate in PEM"},
		{"a key for an authority", TLSFiles{CA: key}, "key.pem holds no certificate in PEM"},
		{"a directory", TLSFiles{CA: f.path}, "is a directory"},
		{"half a bundle", TLSFiles{CA: f.write("half.pem", ca.certPEM, one.certPEM[:len(one.certPEM)/2])}, "half.pem ends within a certificate"},
		{"half a certificate", TLSFiles{CA: f.write("halfone.pem", ca.certPEM[:len(ca.certPEM)-30])}, "halfone.pem ends within a certificate"},
		{"no certificate", TLSFiles{Cert: missing, Key: key}, "TLSFiles.Cert and Key: open " + missing},
		{"no key", TLSFiles{Cert: cert, Key: missing}, "TLSFiles.Cert and Key: open " + missing},
		{"the key of another", TLSFiles{Cert: cert, Key: f.write("other.pem", other.keyPEM)}, "private key does not match public key"},
		{"the other way round", TLSFiles{Cert: key, Key: cert}, "TLSFiles.Cert and Key: tls: "},
		{"half a key", TLSFiles{Cert: cert, Key: f.write("halfkey.pem", one.keyPEM[:50])}, "TLSFiles.Cert and Key: tls: "},
	} {
		_, err := load(c.files, zap.NewNop())
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		case err != nil && !strings.HasPrefix(err.Error(), "pool: TLSFiles."):
			t.Errorf("%s: not named: %v", c.what, err)
		}
	}
}

func TestAKeyThatAnybodyMayReadIsWarnedOf(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	pair := issue(t, nil, nil)
	files := TLSFiles{Cert: f.write("cert.pem", pair.certPEM), Key: f.write("key.pem", pair.keyPEM)}
	for mode, warned := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o604: 1, 0o644: 1} {
		if err := os.Chmod(files.Key, mode); err != nil {
			t.Fatal(err)
		}
		log, logs := watched()
		if _, err := load(files, log); err != nil {
			t.Error(err)
		}
		if n := logs.FilterMessageSnippet("anybody on this machine may read").Len(); n != warned {
			t.Errorf("mode %v: %d warnings", mode, n)
		}
	}
}

func TestACertificateThatIsNotValidNowIsWarnedOf(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for what, c := range map[string]struct {
		change func(*x509.Certificate)
		warned int
	}{
		"now":   {nil, 0},
		"late":  {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, 1},
		"early": {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, 1},
	} {
		pair := issue(t, nil, c.change)
		log, logs := watched()
		m, err := load(TLSFiles{Cert: f.write("cert.pem", pair.certPEM), Key: f.write("key.pem", pair.keyPEM)}, log)
		if err != nil {
			t.Fatal(err)
		}
		if n := logs.FilterMessageSnippet("the client certificate is not valid now").Len(); n != c.warned {
			t.Errorf("%s: %d warnings", what, n)
		}
		if !m.over().Equal(pair.cert.NotAfter) {
			t.Errorf("%s: over at %v, want %v", what, m.over(), pair.cert.NotAfter)
		}
	}
}

// shows is the serial number of the certificate that a handshake of now would show.
func shows(t *testing.T, m *material) *big.Int {
	t.Helper()
	cfg := m.config()
	if len(cfg.Certificates) != 1 {
		t.Fatalf("%d certificates", len(cfg.Certificates))
	}
	return cfg.Certificates[0].Leaf.SerialNumber
}

func TestChangedFilesAreUsedAtTheNextHandshakeAndTheLastGoodOnesUntilThen(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ca, before, after := issue(t, nil, nil), issue(t, nil, nil), issue(t, nil, nil)
	log, logs := watched()
	files := TLSFiles{CA: f.write("ca.pem", ca.certPEM), Cert: f.write("cert.pem", before.certPEM), Key: f.write("key.pem", before.keyPEM)}
	m, err := load(files, log)
	if err != nil {
		t.Fatal(err)
	}
	good := m.refresh()
	if n := m.refresh(); n != good {
		t.Errorf("version %d of files that did not change, was %d", n, good)
	}
	is := func(what string, want *issued, version int) {
		t.Helper()
		if got := shows(t, m); got.Cmp(want.cert.SerialNumber) != 0 {
			t.Errorf("%s: it shows certificate %v, want %v", what, got, want.cert.SerialNumber)
		}
		if n := m.refresh(); n != version {
			t.Errorf("%s: version %d, want %d", what, n, version)
		}
	}
	f.write("cert.pem", after.certPEM)
	is("the new certificate and the old key", before, good)
	f.write("key.pem", after.keyPEM[:50])
	is("half of the new key", before, good)
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	is("no key", before, good)
	f.write("key.pem", after.keyPEM)
	is("both", after, good+1)
	f.write("ca.pem", ca.certPEM, after.certPEM[:100])
	is("half an authority", after, good+1)
	if m.config().RootCAs.Equal(x509.NewCertPool()) {
		t.Error("the authorities are gone")
	}
	f.write("ca.pem", ca.certPEM, after.certPEM)
	is("both authorities", after, good+2)

	// Each thing that was wrong is told once, and not at every look.
	if n := logs.FilterMessage("changed TLS files are not used").Len(); n != 4 {
		t.Errorf("%d warnings: %v", n, logs.FilterMessage("changed TLS files are not used").All())
	}
	if n := logs.FilterMessage("TLS files were read again").Len(); n != 2 {
		t.Errorf("read again %d times", n)
	}
}

// Kubernetes puts a secret's files into a directory of their own, and moves a symbolic link.
func TestFilesBehindASymbolicLinkAreReplacedWithIt(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	before, after := issue(t, nil, nil), issue(t, nil, nil)
	link := func(target string) {
		t.Helper()
		next := filepath.Join(f.path, "next")
		if err := errors.Join(os.Symlink(target, next), os.Rename(next, filepath.Join(f.path, "data"))); err != nil {
			t.Fatal(err)
		}
	}
	for name, pair := range map[string]*issued{"1": before, "2": after} {
		if err := os.Mkdir(filepath.Join(f.path, name), 0o700); err != nil {
			t.Fatal(err)
		}
		f.write(name+"/cert.pem", pair.certPEM)
		f.write(name+"/key.pem", pair.keyPEM)
	}
	link("1")
	m, err := load(TLSFiles{Cert: filepath.Join(f.path, "data", "cert.pem"), Key: filepath.Join(f.path, "data", "key.pem")}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	link("2")
	if got := shows(t, m); got.Cmp(after.cert.SerialNumber) != 0 {
		t.Errorf("it shows %v, want %v", got, after.cert.SerialNumber)
	}
}

// handshake is one with a server that shows a certificate, as gRPC makes it for an endpoint.
func handshake(t *testing.T, m *material, server *issued, endpoint string) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	pair, err := tls.X509KeyPair(server.certPEM, server.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		accepted, err := listener.Accept()
		if err != nil {
			return
		}
		defer accepted.Close()
		conn := tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
		if conn.HandshakeContext(t.Context()) == nil {
			_, _ = conn.Read(make([]byte, 1))
		}
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d := &dialer{failed: map[string]error{}}
	conn, _, err := handshaker{m, d}.ClientHandshake(t.Context(), endpoint, &named{client, endpointAddr(endpoint)})
	if err == nil {
		_ = conn.Close()
	} else if d.last(endpoint) == nil {
		t.Errorf("the dialer does not know of %v", err)
	}
	_ = client.Close()
	<-done
	return err
}

func TestAServersCertificateIsVerifiedForTheHostInTheEndpoint(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ca, stranger := issue(t, nil, nil), issue(t, nil, nil)
	file := f.write("ca.pem", ca.certPEM)
	named, addressed := issue(t, ca, nil, "etcd.example"), issue(t, ca, nil, "10.0.0.1", "::1")
	expired := issue(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "etcd.example")
	clients := issue(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "etcd.example")
	common := issue(t, ca, func(c *x509.Certificate) { c.Subject.CommonName = "etcd.example" })
	for _, c := range []struct {
		what     string
		files    TLSFiles
		server   *issued
		endpoint string
		want     string
	}{
		{"the name", TLSFiles{CA: file}, named, "etcd.example:2379", ""},
		{"the address", TLSFiles{CA: file}, addressed, "10.0.0.1:2379", ""},
		{"the address of version 6", TLSFiles{CA: file}, addressed, "[::1]:2379", ""},
		{"another name", TLSFiles{CA: file}, named, "other.example:2379", "x509: certificate is valid for etcd.example, not other.example"},
		{"an address that it is not for", TLSFiles{CA: file}, named, "10.0.0.1:2379", "x509: cannot validate certificate for 10.0.0.1"},
		{"another address", TLSFiles{CA: file}, addressed, "10.0.0.2:2379", "x509: certificate is valid for 10.0.0.1, ::1, not 10.0.0.2"},
		{"a name, which it is not for", TLSFiles{CA: file}, addressed, "etcd.example:2379", "x509: certificate is not valid for any names"},
		{"the common name alone", TLSFiles{CA: file}, common, "etcd.example:2379", "x509: certificate"},
		{"the name that is given", TLSFiles{CA: file, ServerName: "etcd.example"}, named, "10.0.0.1:2379", ""},
		{"not the name that is given", TLSFiles{CA: file, ServerName: "other.example"}, named, "etcd.example:2379", "x509: certificate is valid for etcd.example, not other.example"},
		{"expired", TLSFiles{CA: file}, expired, "etcd.example:2379", "x509: certificate has expired"},
		{"for clients", TLSFiles{CA: file}, clients, "etcd.example:2379", "x509: certificate specifies an incompatible key usage"},
		{"an unknown authority", TLSFiles{CA: f.write("stranger.pem", stranger.certPEM)}, named, "etcd.example:2379", "x509: certificate signed by unknown authority"},
		{"none of the system's", TLSFiles{}, named, "etcd.example:2379", "x509: certificate signed by unknown authority"},
		{"any server", TLSFiles{AnyServer: true}, expired, "other.example:2379", ""},
	} {
		m, err := load(c.files, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		err = handshake(t, m, c.server, c.endpoint)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	t.Parallel()
	m, err := load(TLSFiles{AnyServer: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if cfg := m.config(); cfg.MinVersion < tls.VersionTLS12 {
		t.Errorf("%x", cfg.MinVersion)
	}
	h := handshaker{m, nil}
	if _, _, err := h.ServerHandshake(nil); err == nil {
		t.Error("it is a server")
	}
	if err := h.OverrideServerName("other"); err == nil {
		t.Error("the name can be changed behind TLSFiles")
	}
	if info := h.Clone().Info(); info.SecurityProtocol != "tls" {
		t.Error(info)
	}
}

func TestAHandshakeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m, err := load(TLSFiles{AnyServer: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	client, silent := net.Pipe()
	defer silent.Close()
	d := &dialer{failed: map[string]error{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, _, err := handshaker{m, d}.ClientHandshake(ctx, "a:1", &named{client, "a:1"})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := d.last("a:1"); err != nil {
		t.Errorf("a member that did not answer is said to have failed by %v", err)
	}
}
