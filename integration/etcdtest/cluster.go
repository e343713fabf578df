package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/tests/v3/framework/integration"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// patience bounds every wait of the harness for the cluster itself. It is long because tests run with -race on busy
// machines; nothing waits for it to pass.
const patience = 30 * time.Second

// Options describe a cluster. The zero value of each field means its default.
type Options struct {
	// Members is the number of members, 1 or 3 (or any other). Default 1.
	Members int

	// Tick is the heartbeat interval, a multiple of a millisecond, and ElectionTicks the election timeout in ticks.
	// Default 10 ms and 10: leaders are lost and found in a tenth of the time that production (100 ms, 10) takes.
	// Take production's for whatever is said about times. The least TTL etcd grants is 1.5 election timeouts,
	// rounded up to a second: 1 s by default, 2 s with production's.
	Tick          time.Duration
	ElectionTicks int

	// Fsync makes every commit durable, as production does. By default nothing is synced: an in-process member
	// cannot crash.
	Fsync bool

	// QuotaBytes is the size of the database that raises the NOSPACE alarm. Default etcd's, 2 GiB.
	QuotaBytes int64

	// WatchProgress is the interval of the progress notifications that watches may ask for. Default etcd's, 10 min.
	WatchProgress time.Duration

	// ClientTLS, if set, has the members accept clients over TLS alone, at https endpoints of 127.0.0.1. CertFile and
	// KeyFile are the members' own, and are read again at every handshake; TrustedCAFile with ClientCertAuth has
	// clients show a certificate. The clients that the Cluster opens use it too (ClientCertFile), unless they have a TLS
	// configuration of their own.
	ClientTLS *transport.TLSInfo

	// GRPC are more options for every member's gRPC server: an interceptor, or a stats.Handler that sees each connection.
	GRPC []grpc.ServerOption

	// Server, if set, is called for every member before it is launched, and may set what has no field here.
	Server func(i int, cfg *config.ServerConfig)
}

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Members == 0 {
		d.Members = 1
	}
	if d.Tick == 0 {
		d.Tick = 10 * time.Millisecond
	}
	if d.ElectionTicks == 0 {
		d.ElectionTicks = 10
	}
	return d
}

// Cluster is an etcd cluster in this process, as one test sees it: what fails, fails that test.
//
// All methods are safe for concurrent use. Those that can fail the test, and nearly all can, must be called from
// the test's own goroutine, as [testing.T.FailNow] demands.
type Cluster struct {
	t    testing.TB
	core *core
}

// core is the running cluster behind one Cluster, or behind those of all tests that share it.
type core struct {
	options Options
	shared  bool
	dir     string
	ports   *portPool

	// mu guards the members' running state and the partitions between them. It is held while members stop and
	// start, so that a reader never meets a half-launched one.
	mu      sync.Mutex
	members []*integration.Member
	running []bool
	ids     []types.ID      // known once a member has run
	cut     map[[2]int]bool // pairs of members, lower index first
}

// New starts a cluster of the test's own, to be hurt as the test likes, and stops it when the test ends. A nil o
// means one member with the defaults. It takes some 50 ms for one member and 150 ms for three.
func New(t testing.TB, o *Options) *Cluster {
	t.Helper()
	dir := t.TempDir()
	c, err := start(t.Context(), o.withDefaults(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.members {
				t.Logf("the end of member %s's log:\n%s", m.Name, logTail(m.Logger))
			}
		}
		if err := c.close(); err != nil {
			t.Errorf("etcdtest: stopping the cluster: %v", err)
		}
	})
	return &Cluster{t: t, core: c}
}

// start launches a cluster and waits until every member serves.
func start(ctx context.Context, o Options, dir string) (*core, error) {
	ports := &portPool{}
	members, err := newMembers(o, dir, ports)
	if err != nil {
		return nil, errors.Join(err, ports.close())
	}
	c := &core{
		options: o, dir: dir, ports: ports,
		members: members, running: make([]bool, len(members)), ids: make([]types.ID, len(members)),
		cut: make(map[[2]int]bool),
	}
	all := make([]int, o.Members)
	for i := range all {
		all[i] = i
	}
	if err := c.launch(ctx, all); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// launch starts members and waits for those that can find a majority.
func (c *core) launch(ctx context.Context, which []int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	// Together, because a member's launch may wait for its peers.
	err := c.each(which, func(i int) error {
		if c.running[i] {
			return nil
		}
		if err := launch(c.members[i]); err != nil {
			return err
		}
		c.running[i], c.ids[i] = true, c.members[i].ID()
		return nil
	})
	if err != nil {
		return err
	}
	for p := range c.cut {
		c.setCut(p, true)
	}
	return c.each(which, func(i int) error {
		if !c.majority(i) {
			return nil
		}
		return ready(ctx, c.members[i])
	})
}

// halt stops members.
func (c *core) halt(which []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.each(which, func(i int) error {
		if c.running[i] {
			halt(c.members[i])
		}
		return nil
	})
	for _, i := range which {
		c.running[i] = false
	}
}

// each calls f for every index at the same time and joins the errors.
func (c *core) each(which []int, f func(i int) error) error {
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for n, i := range which {
		wg.Go(func() { errs[n] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// majority reports whether running member i reaches more than half of the members, itself included.
func (c *core) majority(i int) bool {
	n := 0
	for j := range c.members {
		if j == i || c.running[j] && !c.cut[pair(i, j)] {
			n++
		}
	}
	return n > len(c.members)/2
}

// setCut makes the two members ignore one another, or not. One that is stopped forgets about it, the other does not.
func (c *core) setCut(p [2]int, cut bool) {
	for _, one := range [][2]int{p, {p[1], p[0]}} {
		m, other := c.members[one[0]], c.ids[one[1]]
		switch {
		case !c.running[one[0]]:
		case cut:
			m.Server.CutPeer(other)
		default:
			m.Server.MendPeer(other)
		}
	}
}

func (c *core) close() error {
	c.mu.Lock()
	all := make([]int, len(c.members))
	for i := range all {
		all[i] = i
	}
	c.mu.Unlock()
	c.halt(all)
	var errs []error
	for _, m := range c.members {
		if m.Client != nil {
			errs = append(errs, m.Client.Close())
		}
	}
	errs = append(errs, os.RemoveAll(c.dir), c.ports.close())
	return errors.Join(errs...)
}

func pair(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

// Size returns the number of members, running or not.
func (c *Cluster) Size() int { return len(c.core.members) }

// Endpoints returns the members' endpoints, in order. They stay the same for the cluster's life.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, 0, c.Size())
	for i := range c.Size() {
		endpoints = append(endpoints, c.Endpoint(i))
	}
	return endpoints
}

// Endpoint returns the endpoint of member i.
func (c *Cluster) Endpoint(i int) string { return c.core.members[i].GRPCURL }

// Client opens another client over all members. It is closed when the test ends.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	return c.Dial(clientv3.Config{})
}

// ClientTo opens another client that knows member i only. It is closed when the test ends.
func (c *Cluster) ClientTo(i int) *clientv3.Client {
	c.t.Helper()
	return c.Dial(clientv3.Config{Endpoints: []string{c.Endpoint(i)}})
}

// Dial opens another client with a configuration of the test's own, as [Dial] does; without Endpoints it is one
// over all members.
func (c *Cluster) Dial(cfg clientv3.Config) *clientv3.Client {
	c.t.Helper()
	if len(cfg.Endpoints) == 0 {
		cfg.Endpoints = c.Endpoints()
	}
	if info := c.core.options.ClientTLS; info != nil && cfg.TLS == nil {
		tls, err := info.ClientConfig()
		if err != nil {
			c.t.Fatalf("etcdtest: Options.ClientTLS: %v", err)
		}
		cfg.TLS = tls
	}
	return Dial(c.t, cfg)
}

// Oracle returns the client inside member i: its calls reach the member whatever is done to any network, and are
// neither counted nor made to fail. It serves to see what is true while a fault is on. It must not be closed, and
// is void once the member stops.
func (c *Cluster) Oracle(i int) *clientv3.Client {
	c.t.Helper()
	return c.Member(i).ServerClient
}

// Member returns running member i as etcd's own test framework has it, for what this package has no method for.
// Stop and restart it through the Cluster only.
func (c *Cluster) Member(i int) *integration.Member {
	c.t.Helper()
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	if !c.core.running[i] {
		c.t.Fatalf("etcdtest: member %d is not running", i)
	}
	return c.core.members[i]
}

// Log returns the last lines member i logged. They are printed by themselves when the test fails.
func (c *Cluster) Log(i int) string { return logTail(c.core.members[i].Logger) }

// Dial opens a client that is closed when the test ends. An empty Logger means a silent one: clientv3's own logs
// every retry to stderr.
func Dial(t testing.TB, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	cli, err := clientv3.New(cfg)
	if err != nil {
		t.Fatalf("etcdtest: opening a client of %v: %v", cfg.Endpoints, err)
	}
	t.Cleanup(func() {
		// A test may have closed it itself, which is reported as a cancelled context.
		if err := cli.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("etcdtest: closing a client of %v: %v", cfg.Endpoints, err)
		}
	})
	return cli
}

// own fails the test if the cluster is shared with others.
func (c *Cluster) own(what string) {
	c.t.Helper()
	if c.core.shared {
		c.t.Fatalf("etcdtest: %s would hurt every test of the package: use a cluster of the test's own (New)", what)
	}
}

// indexes checks a list of members; an empty one means all.
func (c *Cluster) indexes(which []int) []int {
	c.t.Helper()
	if len(which) == 0 {
		for i := range c.Size() {
			which = append(which, i)
		}
		return which
	}
	which = slices.Clone(which)
	slices.Sort(which)
	which = slices.Compact(which)
	if first, last := which[0], which[len(which)-1]; first < 0 || last >= c.Size() {
		c.t.Fatalf("etcdtest: members %v: there are members 0 to %d", which, c.Size()-1)
	}
	return which
}

// short gives a call of the harness a bound of its own that outlives the test's context, so that cleanups may use
// it too.
func (c *Cluster) short() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(c.t.Context()), patience,
		fmt.Errorf("not done within %v", patience))
}
