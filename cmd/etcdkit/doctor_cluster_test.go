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
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
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
	config     func(doctorConfig)      // ... and their configuration
}

// doctorConfig is the configuration of a member, as in etcd's file of it.
type doctorConfig map[string]any

// doctorSecurity is how a member's listeners are secured.
type doctorSecurity map[string]any

// doctorCluster is a cluster for the doctor. Its members are processes, so that each has metrics of its own.
type doctorCluster struct {
	t         *testing.T
	dir       string
	plaintext bool
	clients   []string // the members' addresses for clients
	peers     []string // ... and for each other
	members   []*etcdproc.Process
	slow      []string // what the doctor is given in addition where the way between members is long
}

// doctorMember is the child that is a member, with the configuration in a file.
const doctorMember = "doctor member"

func init() {
	etcdproc.Child(doctorMember, func() {
		cfg, err := embed.ConfigFromFile(os.Args[1])
		if err != nil {
			panic(err)
		}
		wal.SegmentSizeBytes = 8 << 20 // or much is preallocated
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			panic(err)
		}
		select {
		case <-e.Server.ReadyNotify():
			fmt.Println("ready")
		case err := <-e.Err():
			panic(err)
		}
		panic(<-e.Err())
	})
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
	scheme := "https"
	if c.plaintext {
		scheme = "http"
	}
	var initial []string
	for i := range setup.members {
		client, _ := ports.Take() // there are enough
		peer, _ := ports.Take()
		c.clients = append(c.clients, fmt.Sprintf("%s://127.0.0.1:%d", scheme, client))
		c.peers = append(c.peers, fmt.Sprintf("%s://127.0.0.1:%d", scheme, peer))
		initial = append(initial, fmt.Sprintf("m%d=%s", i, c.peers[i]))
	}
	for i := range setup.members {
		name := fmt.Sprintf("m%d", i)
		cfg := doctorConfig{
			"name": name, "data-dir": c.file(name), "log-level": "error", "log-outputs": []string{c.file(name + ".log")},
			"listen-client-urls": c.clients[i], "advertise-client-urls": c.clients[i],
			"listen-peer-urls": c.peers[i], "initial-advertise-peer-urls": c.peers[i],
			"initial-cluster": strings.Join(initial, ","), "initial-cluster-token": c.dir, "initial-cluster-state": "new",
			"unsafe-no-fsync": true, "bcrypt-cost": 4, "auto-compaction-mode": "periodic", "auto-compaction-retention": "1h",
		}
		if !c.plaintext {
			for _, kind := range []string{"client", "peer"} {
				cfg[kind+"-transport-security"] = doctorSecurity{
					"cert-file": c.file("member.pem"), "key-file": c.file("member-key.pem"), "trusted-ca-file": c.file("ca.pem"), "client-cert-auth": true,
				}
			}
		}
		if setup.config != nil {
			setup.config(cfg)
		}
		text, err := json.Marshal(cfg) // which is YAML, too
		if err == nil {
			err = os.WriteFile(c.file(name+".yaml"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := etcdproc.Spawn(etcdproc.Command{Child: doctorMember, Args: []string{c.file(name + ".yaml")}})
		if err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, p)
		t.Cleanup(func() { _ = p.Close() })
	}
	for i, p := range c.members {
		if _, err := p.Expect(doctorWithin(t), "ready"); err != nil {
			t.Fatalf("member %d: %v; %s", i, err, p.Stderr())
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
	cli, ctx := c.client(""), doctorWithin(c.t)
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

// kill ends member i, and leaves its port to nobody.
func (c *doctorCluster) kill(i int) {
	c.t.Helper()
	if err := c.members[i].Kill(); err != nil {
		c.t.Fatal(err)
	}
}

// client is one of a user ("name:password", "" for none).
func (c *doctorCluster) client(user string) *clientv3.Client {
	c.t.Helper()
	cfg := clientv3.Config{Endpoints: c.clients, DialTimeout: soon, Logger: zap.NewNop()}
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
	flags := []string{"--endpoints", strings.Join(c.clients, ",")}
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
