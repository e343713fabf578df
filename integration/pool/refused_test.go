package pool_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
)

// secured starts a cluster with TLS whose certificate is for names and addresses, and returns what a client needs.
func secured(t *testing.T, clientCerts bool, change func(*x509.Certificate), hosts ...string) (c *etcdtest.Cluster, f files, ca *cert) {
	t.Helper()
	f, ca = files{t, t.TempDir()}, sign(t, nil, nil)
	certFile, keyFile := f.pair("server", sign(t, ca, change, hosts...))
	f.write("ca.pem", ca.cert)
	f.pair("client", sign(t, ca, nil))
	info := &transport.TLSInfo{CertFile: certFile, KeyFile: keyFile, ClientCertFile: f.name("client.pem"), ClientKeyFile: f.name("client-key.pem"), ClientCertAuth: clientCerts}
	if clientCerts {
		info.TrustedCAFile = f.name("ca.pem")
	}
	return etcdtest.New(t, &etcdtest.Options{ClientTLS: info}), f, ca
}

// port is that of an endpoint.
func port(t *testing.T, endpoint string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(strings.TrimPrefix(endpoint, "https://"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// verdict opens a pool, which must fail as soon as the two sides have spoken, with ErrUnreachable and a text.
func verdict(t *testing.T, what string, cfg pool.Config, want ...string) {
	t.Helper()
	cfg.Retry.ConnectTimeout = 2 * soon // more than refusal has
	refusal(t, what, cfg, want...)
}

// refusal opens a pool, which must fail soon, with ErrUnreachable and a text.
func refusal(t *testing.T, what string, cfg pool.Config, want ...string) {
	t.Helper()
	if cfg.Retry.ConnectTimeout == 0 {
		cfg.Retry.ConnectTimeout = 3 * time.Second // which it takes: the endpoint may only be starting
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	began := time.Now()
	p, err := pool.Open(ctx, cfg)
	took := time.Since(began)
	if err == nil {
		_ = p.Close(t.Context())
	}
	if !errors.Is(err, pool.ErrUnreachable) || ctx.Err() != nil {
		t.Errorf("%s: %v after %v", what, err, took)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want %q", what, err, w)
		}
	}
	t.Logf("%s, after %v: %v", what, took.Round(time.Millisecond), err)
}

// accepted opens a pool, which must work.
func accepted(t *testing.T, what string, cfg pool.Config) {
	t.Helper()
	cfg.Retry = unhurried
	p, err := pool.Open(t.Context(), cfg)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if _, err := p.Client().Put(t.Context(), "k", what); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if err := p.Do(t.Context(), func(ctx context.Context, bulk *clientv3.Client) error { _, err := bulk.Get(ctx, "k"); return err }); err != nil {
		t.Errorf("%s: Do: %v", what, err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestACertificateIsTakenForTheNamesInItAndForNoOthers(t *testing.T) {
	t.Parallel()
	c, f, _ := secured(t, false, nil, "localhost")
	by := "https://localhost:" + port(t, c.Endpoint(0))
	accepted(t, "the name", pool.Config{Endpoints: []string{by}, TLS: &pool.TLSFiles{CA: f.name("ca.pem")}})
	accepted(t, "TLS files and no scheme", pool.Config{Endpoints: []string{strings.TrimPrefix(by, "https://")}, TLS: &pool.TLSFiles{CA: f.name("ca.pem")}})
	accepted(t, "the name that is given", pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{CA: f.name("ca.pem"), ServerName: "localhost"}})
	accepted(t, "any server", pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{AnyServer: true}})
	accepted(t, "a certificate that nobody asked for", pool.Config{Endpoints: []string{by}, TLS: &pool.TLSFiles{CA: f.name("ca.pem"), Cert: f.name("client.pem"), Key: f.name("client-key.pem")}})

	ip := strings.TrimPrefix(c.Endpoint(0), "https://")
	var all sync.WaitGroup
	all.Go(func() {
		verdict(t, "an address that it is not for", pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{CA: f.name("ca.pem")}}, ip, "x509: ", "127.0.0.1")
	})
	all.Go(func() {
		verdict(t, "another name", pool.Config{Endpoints: []string{by}, TLS: &pool.TLSFiles{CA: f.name("ca.pem"), ServerName: "etcd.example"}}, "x509: certificate is valid for localhost, not etcd.example")
	})
	stranger := f.write("stranger.pem", sign(t, nil, nil).cert)
	all.Go(func() {
		verdict(t, "an unknown authority", pool.Config{Endpoints: []string{by}, TLS: &pool.TLSFiles{CA: stranger}}, "x509: certificate signed by unknown authority")
	})
	all.Go(func() {
		verdict(t, "none of the system's", pool.Config{Endpoints: []string{by}}, "x509: certificate signed by unknown authority")
	})
	all.Go(func() {
		refusal(t, "without TLS", pool.Config{Endpoints: []string{"http://localhost:" + port(t, c.Endpoint(0))}}, "perhaps it wants TLS")
	})
	all.Wait()
}

func TestAnExpiredCertificateOfAMemberIsNamed(t *testing.T) {
	t.Parallel()
	c, f, _ := secured(t, false, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "127.0.0.1")
	verdict(t, "expired", pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{CA: f.name("ca.pem")}}, "x509: certificate has expired")
}

func TestAMemberThatWantsACertificateSaysSo(t *testing.T) {
	t.Parallel()
	c, f, ca := secured(t, true, nil, "127.0.0.1")
	with := func(name string) pool.Config {
		tls := &pool.TLSFiles{CA: f.name("ca.pem")}
		if name != "" {
			tls.Cert, tls.Key = f.name(name+".pem"), f.name(name+"-key.pem")
		}
		return pool.Config{Endpoints: c.Endpoints(), TLS: tls}
	}
	f.pair("expired", sign(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	f.pair("stranger", sign(t, nil, nil))
	f.pair("server-only", sign(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	accepted(t, "a certificate", with("client"))
	var all sync.WaitGroup
	all.Go(func() { verdict(t, "none", with(""), "certificate required") })
	all.Go(func() { verdict(t, "one that has expired", with("expired"), "remote error: tls: ") })
	all.Go(func() { verdict(t, "a stranger's", with("stranger"), "remote error: tls: ") })
	all.Go(func() { verdict(t, "a server's", with("server-only"), "remote error: tls: bad certificate") })
	all.Wait()
}

func TestTLSWithAMemberThatHasNoneIsNamed(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Shared(t).Endpoints()[0]
	verdict(t, "TLS", pool.Config{Endpoints: []string{"https://127.0.0.1:" + port(t, endpoint)}}, "first record does not look like a TLS handshake")
}

func TestOpenReportsEachEndpointForItself(t *testing.T) {
	t.Parallel()
	c, f, _ := secured(t, false, nil, "127.0.0.1")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := refusing.Addr().String()
	_ = refusing.Close()
	name := "https://localhost:" + port(t, c.Endpoint(0))
	tls := &pool.TLSFiles{CA: f.name("ca.pem")}
	refusal(
		t, "three ways", pool.Config{Endpoints: []string{name, "https://" + silent.Addr().String(), "https://" + nobody}, TLS: tls},
		name+": ", "x509: certificate is not valid for any names", silent.Addr().String()+": accepts connections, but does not answer", nobody+": ", "connection refused",
	)
	// One that answers is enough.
	accepted(t, "one of two", pool.Config{Endpoints: []string{"https://" + nobody, c.Endpoint(0)}, TLS: tls})
}

func TestOpenReadsTheFilesBeforeItConnects(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.pair("one", sign(t, nil, nil))
	f.pair("other", sign(t, nil, nil))
	for want, tls := range map[string]*pool.TLSFiles{
		"missing.pem":                           {CA: f.name("missing.pem")},
		"text.pem holds no certificate":         {CA: f.write("text.pem", []byte("text"))},
		"private key does not match public key": {Cert: f.name("one.pem"), Key: f.name("other-key.pem")},
	} {
		_, err := pool.Open(t.Context(), pool.Config{Endpoints: []string{"https://127.0.0.1:1"}, TLS: tls})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, pool.ErrUnreachable) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestEndpointsAreSocketsToo(t *testing.T) {
	t.Parallel()
	// What listens on the socket hands on to a member.
	path := t.TempDir() + "/etcd.sock"
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimPrefix(etcdtest.Shared(t).Endpoints()[0], "http://")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			go relay(in, out)
			go relay(out, in)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	for _, endpoint := range []string{"unix://" + path, "unix:" + path} {
		accepted(t, endpoint, pool.Config{Endpoints: []string{endpoint}})
	}
	refusal(t, "a socket that is not there", pool.Config{Endpoints: []string{"unix://" + path + "x"}}, "no such file or directory")
}

// relay copies until one side ends, and ends the other.
func relay(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			_ = from.Close()
			_ = to.Close()
			return
		}
	}
}
