package grpcresolver

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

// Scheme is that of the targets: etcdkit:///mail.
const Scheme = "etcdkit"

var (
	errAuthority = errors.New("it has an authority: the service stands after three slashes")
	errOpaque    = errors.New("it has no slashes: the service stands after three")
	errTail      = errors.New("it has a query or a fragment, which would not be part of the service")
)

// Options of New. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// View is how each service is followed. Its Prefix must be that of the registrations; its Logger is also told
	// when the following cannot begin.
	View registry.ViewOptions

	// Retry gives the waits between attempts to begin, while etcd is away: Initial, Max, Multiplier and Jitter. Its bounds
	// on attempts and time do not apply, as a connection does not give up.
	Retry retry.Policy
}

// builder has what the connections of one application share.
type builder struct {
	client *clientv3.Client
	opts   Options
	log    *zap.Logger
	memory memory
}

// New returns a builder for grpc.WithResolvers. It does no I/O, and neither does grpc.NewClient: a target or an option that breaks
// a rule is the error of the first RPC. The builder is safe for concurrent use, and may serve any number of connections; those
// to the same service share a watch.
//
// The client must stay open for as long as the connections are in use. Closing a connection ends what was begun for it.
func New(client *clientv3.Client, opts *Options) resolver.Builder {
	if opts == nil {
		opts = &Options{}
	}
	b := &builder{client: client, opts: *opts, log: opts.View.Logger}
	if b.log == nil {
		b.log = zap.NewNop()
	}
	return b
}

// Scheme implements resolver.Builder.
func (b *builder) Scheme() string { return Scheme }

// Build implements resolver.Builder. It does not wait for etcd. An error names the rule that the target or an option breaks.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service, err := serviceOf(target)
	if err != nil {
		return nil, err
	}
	// What Watch would refuse is refused here, as trying again will not mend it.
	if prefix := b.opts.View.Prefix; prefix != "" {
		if err := names.Path("prefix", prefix); err != nil {
			return nil, fmt.Errorf("grpcresolver: %w", err)
		}
	}
	if err := b.opts.Retry.Validate(); err != nil {
		return nil, fmt.Errorf("grpcresolver: %w", err)
	}
	r := &resolution{
		builder: b,
		service: service,
		cc:      cc,
		log:     b.log.With(zap.String("service", service)),
		seed:    maphash.MakeSeed(),
		done:    make(chan struct{}),
	}
	var life context.Context
	life, r.end = context.WithCancel(context.Background())
	go r.run(life)
	return r, nil
}

// serviceOf returns the service that a target names.
func serviceOf(target resolver.Target) (string, error) {
	refuse := func(rule error) error {
		return fmt.Errorf("grpcresolver: target %q refused: %w (as in %s:///shop/cart)", target.URL.String(), rule, Scheme)
	}
	u, service := target.URL, target.Endpoint()
	switch {
	case u.Host != "" || u.User != nil:
		return "", refuse(errAuthority)
	case u.Opaque != "":
		return "", refuse(errOpaque)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", refuse(errTail)
	}
	if err := names.Path("service", service); err != nil {
		return "", refuse(err)
	}
	return service, nil
}

// memory is what each service's connections were told last. It is for those that begin while etcd is away. It is safe for
// concurrent use.
type memory struct {
	mu    sync.Mutex
	known map[string][]*registry.Instance // guarded by mu; never an empty list
}

// put remembers the instances of a service; none are forgotten.
func (m *memory) put(service string, instances []*registry.Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(instances) == 0 {
		delete(m.known, service)
		return
	}
	if m.known == nil {
		m.known = map[string][]*registry.Instance{}
	}
	m.known[service] = instances
}

func (m *memory) get(service string) []*registry.Instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[service]
}
