package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdkit/etcdkit/internal/telemetry"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// upkeepEvery is how often files are looked at, and connections that nobody uses are closed.
	upkeepEvery = 5 * time.Second

	// replaceWithin bounds the wait for a connection that is to take another's place: until then that goes on.
	replaceWithin = 10 * time.Second

	// drainWithin bounds what a replaced connection is kept for: calls that began on it, a snapshot perhaps.
	drainWithin = time.Minute

	// pingEvery and pingWithin are gRPC's own questions on a connection that is silent. Members refuse them more often
	// than every five seconds.
	pingEvery  = 10 * time.Second
	pingWithin = 3 * time.Second

	// dialAgain is the longest wait of gRPC before it dials again what it could not reach. By itself it waits two minutes.
	dialAgain = 2 * time.Second
)

// ErrClosed is what is returned once the pool has been closed.
var ErrClosed = errors.New("pool: closed")

// Pool is a set of connections to one cluster. Make one with [Open]. It is safe for concurrent use.
type Pool struct {
	cfg      Config       // resolved
	policy   retry.Policy // of cfg, for reading
	material *material    // nil without TLS
	dialer   *dialer
	tokens   *tokens
	health   *health

	client *clientv3.Client // what Client returns
	unary  class
	lease  class
	watch  class
	bulk   bulk

	draining telemetry.Live[drained]

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup // of upkeep, and of connections that are being replaced

	patience context.Context // of retired connections with calls in flight; ends when Close's does
	cut      context.CancelFunc

	once   sync.Once
	result error // of Close
}

// newPool makes a pool of a valid configuration, which has connected to nothing.
func newPool(cfg Config) (*Pool, error) {
	p := &Pool{cfg: cfg.resolve(), policy: cfg.Retry.Effective(), dialer: newDialer()}
	if p.cfg.secure(p.cfg.Endpoints[0]) {
		files := p.cfg.TLS
		if files == nil {
			files = &TLSFiles{}
		}
		m, err := load(*files, p.cfg.Logger)
		if err != nil {
			return nil, err
		}
		p.material = m
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.patience, p.cut = context.WithCancel(context.Background())
	p.health = newHealth(p.life, p.cfg.Endpoints, p.policy.AttemptTimeout, p.cfg.Logger)
	p.health.probe, p.health.apply = p.probe, p.useEndpoints
	// Questions about an endpoint, which this client dials for, are no part of the traffic that a budget and a breaker are for.
	apart := p.cfg.Retry
	apart.Budget, apart.Breaker = nil, nil
	client, err := p.dial(p.cfg.Endpoints, apart)
	if err != nil {
		p.end()
		p.cut()
		return nil, fmt.Errorf("pool: %w", err)
	}
	p.client = client
	p.tokens = newTokens(p.cfg, authenticateBy(client))
	p.bulk.pool = p
	p.unary.name, p.lease.name, p.watch.name = unaryClass, leaseClass, watchClass
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		c, err := p.connect()
		if err != nil {
			p.end()
			return nil, errors.Join(err, p.shut(p.life))
		}
		cl.health = p.health
		cl.replace(c)
	}
	p.assemble()
	return p, nil
}

// assemble builds the client's parts on the classes. The client itself keeps a connection of its own, for ActiveConnection
// and Dial.
func (p *Pool) assemble() {
	c := p.client
	c.KV = clientv3.NewKVFromKVClient(pb.NewKVClient(&p.unary), c)
	c.Auth = clientv3.NewAuthFromAuthClient(pb.NewAuthClient(&p.unary), c)
	c.Cluster = clientv3.NewClusterFromClusterClient(pb.NewClusterClient(&p.unary), c)
	own := []any{c.Lease, c.Watcher} // which clientv3.New has made, and which never get anything to do
	c.Lease = clientv3.NewLeaseFromLeaseClient(pb.NewLeaseClient(&p.lease), c, p.policy.ConnectTimeout+time.Second)
	c.Watcher = clientv3.NewWatchFromWatchClient(pb.NewWatchClient(&p.watch), c)
	for _, part := range own {
		if closer, ok := part.(interface{ Close() error }); ok {
			_ = closer.Close()
		}
	}
	p.within(c)
}

// dial makes a client. It does not wait for a connection.
func (p *Pool) dial(endpoints []string, policy retry.Policy) (*clientv3.Client, error) {
	// A token is fetched outside of the attempts, which are shorter than that may take, and carried by all of them.
	opts := []grpc.DialOption{grpc.WithChainUnaryInterceptor(p.withToken), grpc.WithChainStreamInterceptor(p.streamWithToken)}
	opts = append(opts, retry.DialOptions(policy)...)
	opts = append(opts,
		grpc.WithChainUnaryInterceptor(p.health.unary),
		grpc.WithIdleTimeout(0), // leaving idleness reads the endpoints while health may be setting them
		grpc.WithContextDialer(p.dialer.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: dialAgain},
			MinConnectTimeout: orDefault(p.policy.ConnectTimeout, dialAgain),
		}),
	)
	if p.material != nil {
		opts = append(opts, grpc.WithTransportCredentials(handshaker{p.material, p.dialer}))
	}
	return clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          p.policy.ConnectTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingWithin,
		DialOptions:          opts,
		Logger:               p.cfg.Logger,
	})
}

// withToken is tokens.unary, of tokens that are made after the first client is.
func (p *Pool) withToken(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return p.tokens.unary(ctx, method, req, reply, cc, invoke, opts...)
}

// streamWithToken is tokens.stream, likewise.
func (p *Pool) streamWithToken(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return p.tokens.stream(ctx, desc, cc, method, open, opts...)
}

// connect makes a connection for the calls of a class.
func (p *Pool) connect() (*conn, error) {
	client, err := p.dial(p.health.current(), p.cfg.Retry)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	var until time.Time
	if life := p.cfg.MaxLifetime; life > 0 {
		until = time.Now().Add(life - rand.N(life/4+1))
	}
	client.ActiveConnection().Connect() // the first call need not wait for it
	return newConn(client, until), nil
}

// Client is a client whose requests, leases and watches go through connections of their own. Close the pool and not the
// client; do not replace its parts. Its Ctx ends with the pool.
func (p *Pool) Client() *clientv3.Client { return p.client }

// useEndpoints has all connections use some of the endpoints, and leaves streams to one that is left out.
func (p *Pool) useEndpoints(use []string, out string) {
	address, _ := addressOf(out)
	for _, c := range p.conns() {
		c.client.SetEndpoints(use...)
		if out != "" {
			c.leaveEndpoint(address)
		}
	}
}

// conns are all connections of now.
func (p *Pool) conns() []*conn {
	all := p.bulk.list()
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		if c := cl.get(); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// Close ends the pool: calls that begin from now on return [ErrClosed], watches and keepalives end, and calls in flight have
// until ctx ends to finish. It waits for them and for the pool's goroutines. Later calls wait for the first, and return its
// result.
func (p *Pool) Close(ctx context.Context) error {
	p.once.Do(func() { p.result = p.shut(ctx) })
	return p.result
}

// shut closes everything that there is.
func (p *Pool) shut(ctx context.Context) error {
	pools.Remove(p)
	stop := context.AfterFunc(ctx, p.cut)
	defer func() { stop(); p.cut() }()
	closing := p.bulk.shut()
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		if c := cl.close(); c != nil {
			closing = append(closing, c)
		}
	}
	errs := make([]error, len(closing)+1)
	var all sync.WaitGroup
	for i, c := range closing {
		all.Go(func() { errs[i] = c.close(ctx) })
	}
	all.Wait()
	p.end()
	p.tokens.close()
	p.health.close()
	p.work.Wait()
	if err := p.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		errs[len(closing)] = err
	}
	return errors.Join(errs...)
}
