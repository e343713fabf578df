package pool_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/session"
)

// cert is a certificate with its key, made for one test.
type cert struct {
	x509      *x509.Certificate
	key       *ecdsa.PrivateKey
	cert, pem []byte // in PEM: the certificate, and the key
}

// serial is what the certificate is told from others by.
func (c *cert) serial() string { return c.x509.SerialNumber.String() }

// sign makes a certificate for names and addresses. Without an authority it is one.
func sign(t testing.TB, authority *cert, change func(*x509.Certificate), hosts ...string) *cert {
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
		parent, signer = authority.x509, authority.key
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
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &cert{
		x509: made, key: key,
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// files are the certificates and keys of one test.
type files struct {
	t   testing.TB
	dir string
}

func (f files) name(name string) string { return filepath.Join(f.dir, name) }

// write replaces a file as most programs do: it is empty for a moment.
func (f files) write(name string, content ...[]byte) string {
	f.t.Helper()
	var all []byte
	for _, c := range content {
		all = append(all, c...)
	}
	if err := os.WriteFile(f.name(name), all, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return f.name(name)
}

// pair replaces a key pair, key first.
func (f files) pair(name string, c *cert) (certFile, keyFile string) {
	f.t.Helper()
	keyFile = f.write(name+"-key.pem", c.pem)
	return f.write(name+".pem", c.cert), keyFile
}

// doorman is told by members' gRPC servers of every connection, and of the certificate that was shown on it.
type doorman struct {
	mu    sync.Mutex // guards what is below
	conns map[string]string
	seen  map[string]int
}

type connKey struct{}

func (d *doorman) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connKey{}, info.RemoteAddr.String())
}

func (d *doorman) HandleConn(ctx context.Context, s stats.ConnStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		d.conns, d.seen = map[string]string{}, map[string]int{}
	}
	switch address := ctx.Value(connKey{}).(string); s.(type) {
	case *stats.ConnBegin:
		d.conns[address] = ""
	case *stats.ConnEnd:
		delete(d.conns, address)
	}
}

func (d *doorman) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (d *doorman) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.InHeader); !ok {
		return
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	serial := "none"
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
		serial = info.State.PeerCertificates[0].SerialNumber.String()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.conns[p.Addr.String()]; ok { // a call may be told of after the end of its connection
		d.conns[p.Addr.String()] = serial
	}
	d.seen[serial]++
}

// open are the connections on which a certificate was shown, and how many calls there ever were with it.
func (d *doorman) open(c *cert) (conns, calls int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, serial := range d.conns {
		if serial == c.serial() {
			conns++
		}
	}
	return conns, d.seen[c.serial()]
}

// load is everything that a pool is for, all the time, until end: what fails, or comes twice or not at all, fails the test.
type load struct {
	t      *testing.T
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex // guards what is below
	calls map[string]int
	bad   []string
	put   []int64 // revisions
	seen  []int64
}

// fault notes what should not be.
func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) < 20 {
		l.bad = append(l.bad, fmt.Sprintf("%s: ", time.Now().Format("05.000"))+fmt.Sprintf(format, args...))
	}
}

// loop calls fn again and again.
func (l *load) loop(ctx context.Context, what string, every time.Duration, fn func(ctx context.Context) error) {
	l.work.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// Without ctx's end: the last call is to be answered, too.
			if err := fn(context.WithoutCancel(ctx)); err != nil {
				l.fault("%s: %v", what, err)
			}
			l.mu.Lock()
			l.calls[what]++
			l.mu.Unlock()
		}
	})
}

// under puts a pool under load.
func under(t *testing.T, p *pool.Pool, prefix string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, cancel: cancel, calls: map[string]int{}}
	etcd := p.Client()
	grant, err := etcd.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Put(ctx, prefix+"leased", "", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	s, err := session.Open(ctx, etcd, &session.Options{TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	alive, err := etcd.KeepAlive(ctx, grant.ID)
	if err != nil {
		t.Fatal(err)
	}
	watching, unwatch := context.WithCancel(t.Context())
	events := etcd.Watch(watching, prefix+"put/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if first := etcdtest.Receive(t, soon, "the watch", events); first.Err() != nil {
		t.Fatal(first.Err())
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for resp := range events {
			if err := resp.Err(); err != nil && watching.Err() == nil {
				l.fault("watch: %v", err)
			}
			l.mu.Lock()
			for _, ev := range resp.Events {
				l.seen = append(l.seen, ev.Kv.ModRevision)
			}
			l.mu.Unlock()
		}
		if watching.Err() == nil {
			l.fault("the watch has ended")
		}
	}()
	l.work.Go(func() {
		for range alive {
		}
		if ctx.Err() == nil {
			l.fault("KeepAlive has ended")
		}
	})
	l.loop(ctx, "put", 10*time.Millisecond, func(ctx context.Context) error {
		resp, err := etcd.Put(ctx, prefix+"put/key", "value")
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.put = append(l.put, resp.Header.Revision)
		}
		return err
	})
	l.loop(ctx, "get", 10*time.Millisecond, func(ctx context.Context) error {
		_, err := etcd.Get(ctx, prefix+"put/key")
		return err
	})
	l.loop(ctx, "KeepAliveOnce", 50*time.Millisecond, func(ctx context.Context) error {
		_, err := etcd.KeepAliveOnce(ctx, grant.ID)
		return err
	})
	l.loop(ctx, "Do", 20*time.Millisecond, func(ctx context.Context) error {
		return p.Do(ctx, func(ctx context.Context, bulk *clientv3.Client) error {
			_, err := bulk.Get(ctx, prefix, clientv3.WithPrefix())
			return err
		})
	})
	l.loop(ctx, "session", 20*time.Millisecond, func(context.Context) error { return s.Context().Err() })
	l.loop(ctx, "new watch", 300*time.Millisecond, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		resp, ok := <-etcd.Watch(ctx, prefix+"put/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if !ok || !resp.Created {
			return fmt.Errorf("created %t: %w", resp.Created, errors.Join(resp.Err(), ctx.Err()))
		}
		return resp.Err()
	})
	t.Cleanup(func() {
		l.cancel()
		l.work.Wait()
		unwatch()
		<-watched
		_ = s.Close(context.WithoutCancel(ctx))
	})
	return l
}

// end ends the load, and fails the test if anything failed.
func (l *load) end() {
	l.t.Helper()
	l.cancel()
	l.work.Wait()
	etcdtest.Eventually(l.t, soon, "every event is seen once and in order", func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, revision := range l.put {
			if i >= len(l.seen) || l.seen[i] != revision {
				return fmt.Errorf("event %d of %d (%d seen) is not that of revision %d: %v", i, len(l.put), len(l.seen), revision, l.seen[max(0, i-2):min(len(l.seen), i+3)])
			}
		}
		if len(l.seen) != len(l.put) {
			return fmt.Errorf("%d events of %d puts", len(l.seen), len(l.put))
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("calls %v, events %d", l.calls, len(l.seen))
	for _, b := range l.bad {
		l.t.Error(b)
	}
}

// told returns a logger, and a function that waits until it is told something n times in all.
func told(t *testing.T) (*zap.Logger, func(what string, n int)) {
	core, logs := observer.New(zap.DebugLevel)
	return zap.New(core), func(what string, n int) {
		t.Helper()
		etcdtest.Eventually(t, 30*time.Second, what, func(context.Context) error {
			if got := logs.FilterMessage(what).Len(); got < n {
				return fmt.Errorf("told %d times of %d", got, n)
			}
			return nil
		})
	}
}

// Everything that connections are made with is replaced while they are used: the client's certificate, the members', and the
// authority of both, by way of a bundle of the old one and the new one.
func TestCertificatesAndAuthoritiesAreRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	oldCA, newCA := sign(t, nil, nil), sign(t, nil, nil)
	first, second, third := sign(t, oldCA, nil), sign(t, oldCA, nil), sign(t, newCA, nil)
	serverCert, serverKey := f.pair("server", sign(t, oldCA, nil, "127.0.0.1"))
	// etcd reads its authorities once, so it is given both at once.
	info := &transport.TLSInfo{CertFile: serverCert, KeyFile: serverKey, TrustedCAFile: f.write("server-ca.pem", oldCA.cert, newCA.cert), ClientCertAuth: true}
	door := &doorman{}
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 100 * time.Millisecond, ClientTLS: info, GRPC: []grpc.ServerOption{grpc.StatsHandler(door)}})

	clientCert, clientKey := f.pair("client", first)
	ca := f.write("ca.pem", oldCA.cert)
	log, wait := told(t)
	p := open(t, pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{CA: ca, Cert: clientCert, Key: clientKey}, Logger: log, Retry: unhurried})
	l := under(t, p, "k/")
	shown := func(now *cert, before ...*cert) {
		t.Helper()
		etcdtest.Eventually(t, 30*time.Second, "connections with the new certificate alone", func(context.Context) error {
			for _, b := range before {
				if n, _ := door.open(b); n > 0 {
					return fmt.Errorf("%d connections with an old one", n)
				}
			}
			if n, calls := door.open(now); n == 0 || calls < 100 {
				return fmt.Errorf("%d connections with the new one, %d calls", n, calls)
			}
			return nil
		})
	}
	shown(first)

	// Somebody writes the new certificate, and takes his time with the key; the authorities are in the middle of being written.
	f.write("client.pem", second.cert)
	wait("changed TLS files are not used", 1)
	if _, calls := door.open(second); calls > 0 {
		t.Error("a certificate was shown without its key")
	}
	f.write("ca.pem", oldCA.cert, newCA.cert)
	f.write("client-key.pem", second.pem)
	shown(second, first)

	// From here on the members show what only the new authority has signed, to whoever connects.
	f.pair("server", sign(t, newCA, nil, "127.0.0.1"))
	f.write("ca.pem", newCA.cert)
	f.pair("client", third)
	shown(third, first, second)
	if got := p.Stats().NotAfter; !got.Equal(third.x509.NotAfter) {
		t.Errorf("Stats say %v, and the certificate %v", got, third.x509.NotAfter)
	}
	// The old authority is not taken any more: a member that still shows it is a stranger.
	f.pair("server", sign(t, oldCA, nil, "127.0.0.1"))
	if err := l.still(); err != nil {
		t.Error(err)
	}
	_, err := pool.Open(t.Context(), pool.Config{Endpoints: c.Endpoints(), TLS: &pool.TLSFiles{CA: ca, Cert: clientCert, Key: clientKey}})
	if !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("the old authority is taken: %v", err)
	}
	f.pair("server", sign(t, newCA, nil, "127.0.0.1"))
	l.end()
}

// still is what has gone wrong so far.
func (l *load) still() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) > 0 {
		return fmt.Errorf("%d faults, the first: %s", len(l.bad), l.bad[0])
	}
	return nil
}
