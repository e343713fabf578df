package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

const (
	// doctorRoot and doctorApp are the users of a cluster that the doctor is to find well, with passwords: an operator, and a program
	// that has what is below app/.
	doctorRoot = "root:of-all-evil"
	doctorApp  = "app:of-mine"
)

// doctorSetup is how a cluster is set up. The zero value is as it should be: three members with TLS that demand certificates, with users.
type doctorSetup struct {
	members   int // 3 if zero
	plaintext bool
	noAuth    bool

	memberCert func(*x509.Certificate) // changes the members' certificates
	config     func(*embed.Config)     // ... and their configuration
}

// doctorCluster is a cluster for the doctor, in this process.
type doctorCluster struct {
	t         *testing.T
	dir       string
	plaintext bool
	configs   []*embed.Config
	etcds     []*embed.Etcd
}

// newDoctorCluster starts one, which has a leader when it returns.
func newDoctorCluster(t *testing.T, setup doctorSetup) *doctorCluster {
	t.Helper()
	c := &doctorCluster{t: t, dir: t.TempDir(), plaintext: setup.plaintext}
	authority := doctorSign(t, nil, "authority", nil)
	c.write("ca", authority)
	c.write("member", doctorSign(t, authority, "member", setup.memberCert))
	c.write("client", doctorSign(t, authority, "client", nil))
	if setup.members == 0 {
		setup.members = 3
	}
	ports, err := etcdproc.ReservePorts()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ports.Close() })
	listen := func() []url.URL {
		port, _ := ports.Take() // there are enough
		u := url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", port)}
		if c.plaintext {
			u.Scheme = "http"
		}
		return []url.URL{u}
	}
	var initial []string
	for i := range setup.members {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprintf("m%d", i), filepath.Join(c.dir, fmt.Sprintf("m%d", i))
		cfg.ListenClientUrls, cfg.ListenPeerUrls = listen(), listen()
		cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
		cfg.LogOutputs, cfg.LogLevel, cfg.UnsafeNoFsync, cfg.BcryptCost = []string{filepath.Join(c.dir, cfg.Name+".log")}, "error", true, 4
		cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
		cfg.InitialClusterToken = c.dir
		if !c.plaintext {
			cfg.ClientTLSInfo = transport.TLSInfo{CertFile: c.file("member.pem"), KeyFile: c.file("member-key.pem"), TrustedCAFile: c.file("ca.pem"), ClientCertAuth: true}
			cfg.PeerTLSInfo = cfg.ClientTLSInfo
		}
		initial = append(initial, cfg.Name+"="+cfg.AdvertisePeerUrls[0].String())
		c.configs = append(c.configs, cfg)
	}
	c.etcds = make([]*embed.Etcd, len(c.configs))
	for i, cfg := range c.configs {
		cfg.InitialCluster = strings.Join(initial, ",")
		if setup.config != nil {
			setup.config(cfg)
		}
		if c.etcds[i], err = embed.StartEtcd(cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.stop(i) })
	}
	for i, e := range c.etcds {
		select {
		case <-e.Server.ReadyNotify():
		case err := <-e.Err():
			t.Fatalf("member %d: %v", i, err)
		case <-time.After(soon):
			t.Fatalf("member %d does not serve within %v", i, soon)
		}
	}
	if !setup.noAuth {
		c.enableAuth()
	}
	return c
}

// enableAuth makes the users, and has members ask who somebody is.
func (c *doctorCluster) enableAuth() {
	c.t.Helper()
	cli, ctx := c.client(""), c.t.Context()
	read := func(_ any, err error) {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	for _, user := range []string{doctorRoot, doctorApp} {
		name, password, _ := strings.Cut(user, ":")
		read(cli.RoleAdd(ctx, name))
		read(cli.UserAdd(ctx, name, password))
		read(cli.UserGrantRole(ctx, name, name))
	}
	c.grant(cli, "app", "app/", clientv3.GetPrefixRangeEnd("app/"))
	read(cli.AuthEnable(ctx))
}

// grant lets a role read and write a range of keys.
func (c *doctorCluster) grant(cli *clientv3.Client, role, from, end string) {
	c.t.Helper()
	if _, err := cli.RoleGrantPermission(c.t.Context(), role, from, end, clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		c.t.Fatal(err)
	}
}

// stop stops member i, and leaves its port to nobody.
func (c *doctorCluster) stop(i int) {
	if c.etcds[i] != nil {
		c.etcds[i].Server.HardStop() // without a wait for those who watch
		c.etcds[i].Close()
		c.etcds[i] = nil
	}
}

// endpoint is where clients reach member i.
func (c *doctorCluster) endpoint(i int) string { return c.configs[i].AdvertiseClientUrls[0].String() }

// endpoints are those of all members, running or not.
func (c *doctorCluster) endpoints() (all []string) {
	for i := range c.configs {
		all = append(all, c.endpoint(i))
	}
	return all
}

// client is one of a user ("name:password", "" for none).
func (c *doctorCluster) client(user string) *clientv3.Client {
	c.t.Helper()
	cfg := clientv3.Config{Endpoints: c.endpoints(), DialTimeout: soon, Logger: zap.NewNop()}
	cfg.Username, cfg.Password, _ = strings.Cut(user, ":")
	if !c.plaintext {
		cfg.TLS = c.tls()
	}
	cli, err := clientv3.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// tls is how a client connects that has a certificate.
func (c *doctorCluster) tls() *tls.Config {
	c.t.Helper()
	cfg, err := transport.TLSInfo{CertFile: c.file("client.pem"), KeyFile: c.file("client-key.pem"), TrustedCAFile: c.file("ca.pem")}.ClientConfig()
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// flags say how a user connects ("name:password", "" for none).
func (c *doctorCluster) flags(user string) []string {
	flags := []string{"--endpoints", strings.Join(c.endpoints(), ",")}
	if !c.plaintext {
		flags = append(flags, "--cacert", c.file("ca.pem"), "--cert", c.file("client.pem"), "--key", c.file("client-key.pem"))
	}
	if user != "" {
		flags = append(flags, "--user", user)
	}
	return flags
}

// run runs etcdkit doctor, in this process, with the flags of a user and others.
func (c *doctorCluster) run(user string, args ...string) *result {
	c.t.Helper()
	return doctorRun(c.t, append(c.flags(user), args...)...)
}

// doctorRun runs etcdkit doctor in this process.
func doctorRun(t *testing.T, args ...string) *result {
	t.Helper()
	var out, errs bytes.Buffer
	r := &result{t: t, args: args}
	r.code = execute(append([]string{"doctor"}, args...), strings.NewReader(""), &out, &errs)
	r.out, r.errs = out.String(), errs.String()
	return r
}

func (c *doctorCluster) file(name string) string { return filepath.Join(c.dir, name) }

// write leaves a certificate and its key in files.
func (c *doctorCluster) write(name string, cert *doctorCert) {
	c.t.Helper()
	for file, content := range map[string][]byte{name + ".pem": cert.certPEM, name + "-key.pem": cert.keyPEM} {
		if err := os.WriteFile(c.file(file), content, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// doctorCert is a certificate with its key.
type doctorCert struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

// doctorSign makes a certificate for this machine, for a year. Without an authority it is one.
func doctorSign(t *testing.T, authority *doctorCert, name string, change func(*x509.Certificate)) *doctorCert {
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
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := template, key
	if authority == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
	} else {
		parent, signer = authority.cert, authority.key
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
	return &doctorCert{
		cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// doctorWithin is a context for what should happen at once.
func doctorWithin(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return ctx
}
