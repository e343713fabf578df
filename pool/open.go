package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/retry"
)

var (
	// ErrUnreachable says that no member answered.
	ErrUnreachable = errors.New("pool: no member answers")

	// ErrNoQuorum says that members answered, and that they have no leader, or that it cannot commit: too many are down or
	// cut off from each other.
	ErrNoQuorum = errors.New("pool: no quorum")
)

// Open connects to a cluster, and returns when a member has answered, and the cluster has taken the credentials. ctx and
// Retry.ConnectTimeout (default 1 s) bound that, and not the life of the pool: close it. Members that refuse or hang up may only
// be starting, and have all of that time; when each has turned down what it was shown, or cannot be trusted itself, Open
// fails at once.
//
// Errors: the rule that cfg breaks, or the file that cannot be used; [ErrUnreachable] with what each endpoint did (refused,
// no route, why its certificate was not taken, silent); [ErrNoQuorum], if members answered and cannot commit; etcd's own for
// credentials that it refused.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("pool: %w", context.Cause(ctx))
	}
	p, err := newPool(cfg)
	if err != nil {
		return nil, err
	}
	if err := p.check(ctx); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	if p.cfg.IdleTimeout > 0 || p.cfg.MaxLifetime > 0 || p.material != nil {
		p.work.Go(p.upkeep)
	}
	pools.Add(p)
	return p, nil
}

// check returns when a member has answered and there is a token.
func (p *Pool) check(ctx context.Context) error {
	within := p.policy.ConnectTimeout
	bounded := ctx
	if within > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	if err := p.anybody(bounded); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	}
	if p.tokens == nil {
		return nil
	}
	tok, err := p.tokens.get(ctx)
	if err != nil || tok.text == "" {
		return err
	}
	// A password was looked at now, and a token was not. Whether it may read this does not matter.
	_, err = pb.NewKVClient(&p.unary).Range(ctx, &pb.RangeRequest{Key: []byte("etcdkit"), Serializable: true, CountOnly: true})
	if refused(err) {
		return fmt.Errorf("pool: etcd does not take the token: %w", rpctypes.Error(err))
	}
	return nil
}

// anybody asks all members at once, and returns nil as soon as one has answered as it should.
func (p *Pool) anybody(ctx context.Context) error {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	findings := make([]error, len(p.cfg.Endpoints))
	well := make(chan struct{}, len(p.cfg.Endpoints))
	var asked sync.WaitGroup
	for i, endpoint := range p.cfg.Endpoints {
		asked.Go(func() {
			if findings[i] = p.probe(asking, endpoint); findings[i] == nil {
				well <- struct{}{}
			}
		})
	}
	all := make(chan struct{})
	go func() { asked.Wait(); close(all) }()
	select {
	case <-well:
		cancel()
		<-all
		return nil
	case <-all:
	}
	select {
	case <-well:
		return nil
	default:
	}
	return p.nobody(findings)
}

// nobody is the error of an Open to which no member answered as it should.
func (p *Pool) nobody(findings []error) error {
	what := ErrUnreachable
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = fmt.Sprintf("%s: %v", p.cfg.Endpoints[i], f)
		if errors.Is(f, errNoLeader) || errors.Is(f, errNoCommit) {
			what = ErrNoQuorum
		}
	}
	return fmt.Errorf("%w: %s", what, strings.Join(lines, "; "))
}

// What an endpoint did, if it did not answer as it should.
var (
	errNoLeader = errors.New("answers, but has no leader")
	errNoCommit = errors.New("answers, but cannot commit")
	errSilent   = errors.New("accepts connections, but does not answer")
)

// bare marks the context of a call that carries no token, and says nothing about the health of an endpoint.
type bare struct{}

// probe asks a member for something that it cannot answer alone, through a connection of its own, and tells how it failed.
func (p *Pool) probe(ctx context.Context, endpoint string) error {
	cc, err := p.client.Dial(endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }() // a question's, of which nothing is left
	ctx, cancel := context.WithCancel(context.WithValue(ctx, bare{}, true))
	defer cancel()
	address, _ := addressOf(endpoint)
	forget := p.dialer.onVerdict(address, cancel)
	defer forget()
	alive := make(chan bool, 1)
	go func() {
		// Its own status a member knows without a leader. That it has to be asked by somebody it knows is an answer, too.
		_, err := pb.NewMaintenanceClient(cc).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
		alive <- err == nil || retry.EtcdError(err) != nil
	}()
	// Nobody needs permission for this question, and it goes through the leader and its quorum.
	_, err = pb.NewAuthClient(cc).AuthStatus(ctx, &pb.AuthStatusRequest{}, grpc.WaitForReady(true))
	cancel()
	known := retry.EtcdError(err)
	switch answers := <-alive; {
	case err == nil:
		return nil
	case known == rpctypes.ErrNoLeader: //nolint:errorlint // the variables of rpctypes
		return errNoLeader
	case answers:
		return errNoCommit
	case known != nil:
		return known
	}
	return p.whyNot(address)
}

// whyNot is how the connection to an address failed, in as few words as there are.
func (p *Pool) whyNot(address string) error {
	if failed := p.dialer.last(address); failed != nil {
		return failed
	}
	return errSilent
}
