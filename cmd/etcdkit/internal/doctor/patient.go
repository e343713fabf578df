package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/pool"
)

// askWithin bounds a question to one member: one that does not answer is not to use up a check's time.
const askWithin = 3 * time.Second

// Patient is the cluster that is examined, and what may be done to it.
type Patient struct {
	*cli.Connection
	Config    pool.Config      // how the application connects: the configuration that is reviewed
	Client    *clientv3.Client // to all endpoints, as given; nil if there is no connection, and Unreached says why
	Root      *clientv3.Client // as the user of --root, for what etcd shows to nobody else; nil without
	Unreached error
	Endpoints []string // those given

	Write    bool   // probe writes are allowed, below a prefix of the doctor's own, which is deleted afterwards
	Snapshot string // directory for the snapshot that is verified; empty for none

	// Of the configuration files that an operator gives the doctor, where there are any; zero if not.
	Heartbeat, Election time.Duration // the members' settings, where they are known (--heartbeat-interval, --election-timeout)
	Quota               int64         // --quota-backend-bytes, where it cannot be read from metrics
	SessionTTL          time.Duration // that of the application
	MetricsURLs         []string      // where the members serve their metrics, if not at the endpoints: as many, in the same order

	tls *tls.Config // what the files of Config hold; nil without TLS

	mu      sync.Mutex // guards what is below; held while it is found out
	members []*pb.Member
	token   string
	singles map[string]*clientv3.Client

	declared needs        // what the application may do: --recipe, --keys
	pools    []*pool.Pool // to be closed
	told     bool         // why there is no connection was said
}

// Privileged is the client that may see the most: Root, or else Client.
func (p *Patient) Privileged() *clientv3.Client {
	if p.Root != nil {
		return p.Root
	}
	return p.Client
}

// TLS is a configuration for connections to members, or nil without TLS. It is the caller's own.
func (p *Patient) TLS() *tls.Config { return p.tls.Clone() }

// Members are the cluster's, as it lists them, those that are down included. They are asked for once. Where the cluster as a whole cannot
// answer, a member that was given does.
func (p *Patient) Members(ctx context.Context) ([]*pb.Member, error) {
	p.mu.Lock()
	known := p.members
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	members, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the members: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = members
	return members, nil
}

// list asks for the members.
func (p *Patient) list(ctx context.Context) ([]*pb.Member, error) {
	err := p.Unreached
	if p.Client != nil {
		asking, cancel := context.WithTimeout(ctx, askWithin)
		resp, failed := p.Client.MemberList(asking)
		cancel()
		if failed == nil {
			return resp.Members, nil
		}
		err = failed
	}
	for _, endpoint := range p.Endpoints {
		c, failed := p.At(ctx, endpoint)
		if failed != nil {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, askWithin)
		resp, failed := pb.NewClusterClient(c.ActiveConnection()).MemberList(asking, &pb.MemberListRequest{})
		cancel()
		if failed == nil {
			return resp.Members, nil
		}
	}
	return nil, err
}

// At is a client of one member alone, with the credentials of Client; it belongs to the patient. It is there even if the member does not
// answer. Credentials are not sent without TLS to a member of a cluster that is reached with it.
func (p *Patient) At(ctx context.Context, endpoint string) (*clientv3.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.singles[endpoint]; c != nil {
		return c, nil
	}
	cfg := clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: askWithin, Logger: zap.NewNop(), MaxUnaryRetries: 1,
		PermitWithoutStream: true, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: askWithin,
	}
	if secured(endpoint) {
		if cfg.TLS = p.tls.Clone(); cfg.TLS == nil {
			cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	if secured(endpoint) || p.tls == nil {
		cfg.Token = p.login(ctx)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", endpoint, err)
	}
	if p.singles == nil {
		p.singles = map[string]*clientv3.Client{}
	}
	p.singles[endpoint] = c
	return c, nil
}

// login returns a token of the credentials, which every member knows; "" if there is none to be had. p.mu is held.
func (p *Patient) login(ctx context.Context) string {
	switch {
	case p.Config.Token != "":
		return p.Config.Token
	case p.token != "" || p.Config.Username == "" || p.Client == nil:
		return p.token
	}
	resp, err := p.Client.Authenticate(ctx, p.Config.Username, p.Config.Password)
	if err == nil { // where it is not, authentication is off, or the member will say what is missing
		p.token = resp.Token
	}
	return p.token
}

// secured reports whether an endpoint is one with TLS.
func secured(endpoint string) bool {
	return strings.HasPrefix(endpoint, "https://") || strings.HasPrefix(endpoint, "unixs://")
}
