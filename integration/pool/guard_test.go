package pool_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"
	"google.golang.org/grpc"

	conf "github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

// seconds is how long a test lives with something, unless ETCDKIT_POOL_SECONDS says otherwise.
func seconds(t *testing.T, otherwise uint64) time.Duration {
	t.Helper()
	return time.Duration(number(t, "ETCDKIT_POOL_SECONDS", otherwise)) * time.Second
}

// unhurried is a policy that a busy machine does not run into.
var unhurried = retry.Policy{AttemptTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxElapsed: 20 * time.Second, ConnectTimeout: 5 * time.Second}

// desk counts the members' Authenticate calls, and how many there were at once.
type desk struct {
	total, now, most atomic.Int64

	mu     sync.Mutex // guards what is below
	issued []string
}

func (d *desk) serve(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if _, ok := req.(*pb.AuthenticateRequest); ok {
		d.total.Add(1)
		now := d.now.Add(1)
		defer d.now.Add(-1)
		for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
		}
	}
	answer, err := handle(ctx, req)
	if resp, ok := answer.(*pb.AuthenticateResponse); ok && err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.issued = append(d.issued, resp.Token)
	}
	return answer, err
}

// tokens are all that were handed out.
func (d *desk) tokens() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.issued)
}

// guarded is a cluster with users: root, app, who may do everything below "k/" and "s/", and other.
type guarded struct {
	*etcdtest.Cluster
	desk desk
	root *clientv3.Client
	sign func(user string, revision int, expires time.Time) string // makes a JWT that the members take
}

// guard starts a cluster with users. Its tokens are JWTs that live for jwt, or for zero etcd's own that live a second after their
// last use.
func guard(t *testing.T, members int, jwt time.Duration) *guarded {
	t.Helper()
	g := &guarded{}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := files{t, t.TempDir()}
	private := f.write("jwt-key.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := f.write("jwt-pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	g.sign = func(user string, revision int, expires time.Time) string {
		enc := base64.RawURLEncoding.EncodeToString
		claims, _ := json.Marshal(map[string]any{"username": user, "revision": revision, "exp": expires.Unix()})
		text := enc([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc(claims)
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return text + "." + enc(signature)
	}
	g.Cluster = etcdtest.New(t, &etcdtest.Options{
		Members: members,
		Tick:    100 * time.Millisecond, // as in production: a busy machine must not cost a leader
		GRPC:    []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.desk.serve)},
		Server: func(_ int, cfg *config.ServerConfig) {
			cfg.TokenTTL = 1
			if jwt > 0 {
				cfg.AuthToken = fmt.Sprintf("jwt,pub-key=%s,priv-key=%s,sign-method=RS256,ttl=%v", public, private, jwt)
			}
		},
	})
	cli, ctx := g.Client(), t.Context()
	_, err = cli.RoleAdd(ctx, "root")
	do := func(next func() error) {
		if err == nil {
			err = next()
		}
	}
	for _, role := range []string{"app", "other"} {
		do(func() error { _, err := cli.RoleAdd(ctx, role); return err })
	}
	for _, prefix := range []string{"k/", "s/"} {
		do(func() error {
			_, err := cli.RoleGrantPermission(ctx, "app", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		})
	}
	for _, name := range []string{"root", "app", "other"} {
		do(func() error { _, err := cli.UserAdd(ctx, name, name+" secret"); return err })
		do(func() error { _, err := cli.UserGrantRole(ctx, name, name); return err })
	}
	do(func() error { _, err := cli.AuthEnable(ctx); return err })
	if err != nil {
		t.Fatal(err)
	}
	g.root = g.Dial(clientv3.Config{Username: "root", Password: "root secret"})
	return g
}

// forget ends all tokens of app, as a change of the password does; this one is the same as before.
func (g *guarded) forget(t testing.TB) {
	t.Helper()
	if _, err := g.root.UserChangePassword(t.Context(), "app", "app secret"); err != nil {
		t.Fatal(err)
	}
}

// app is the configuration of user app.
func (g *guarded) app() pool.Config {
	return pool.Config{Endpoints: g.Endpoints(), Username: "app", Password: "app secret", PlaintextCredentials: true, Retry: unhurried}
}

// revision is that of the users and roles.
func (g *guarded) revision(t testing.TB) int {
	t.Helper()
	status, err := g.root.AuthStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(status.AuthRevision)
}

// sources are a view and a value that are looked at all the time: they must never say that they are not current.
func (l *load) sources(t *testing.T, etcd *clientv3.Client, prefix string) {
	t.Helper()
	if _, err := etcd.Put(t.Context(), prefix+"config", "1"); err != nil {
		t.Fatal(err)
	}
	value, err := conf.Open[int](t.Context(), etcd, prefix+"config", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(value.Close)
	view, err := registry.Watch(t.Context(), etcd, "mail", &registry.ViewOptions{Prefix: prefix + "services"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(view.Close)
	announced, err := registry.Register(t.Context(), etcd, registry.Instance{Service: "mail", ID: "a", Addr: "a:1"}, &registry.Options{Prefix: prefix + "services"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = announced.Close(context.WithoutCancel(t.Context())) })
	ctx, cancel := context.WithCancel(t.Context())
	end := l.cancel
	l.cancel = func() { cancel(); end() }
	var n atomic.Int64
	l.loop(ctx, "value", 5*time.Millisecond, func(context.Context) error {
		if err := value.Err(); err != nil && !strings.Contains(err.Error(), "a newer document is being checked") {
			return err
		}
		return nil
	})
	l.loop(ctx, "view", 5*time.Millisecond, func(context.Context) error { return view.Err() })
	l.loop(ctx, "registration", 20*time.Millisecond, func(context.Context) error { return announced.Err() })
	l.loop(ctx, "config put", 500*time.Millisecond, func(ctx context.Context) error {
		_, err := etcd.Put(ctx, prefix+"config", strconv.FormatInt(n.Add(1), 10))
		return err
	})
}

// during lets a time pass while the load is on, or less if something has gone wrong.
func (l *load) during(d time.Duration) {
	end := time.After(d)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-tick.C:
			if l.still() != nil {
				return
			}
		}
	}
}
