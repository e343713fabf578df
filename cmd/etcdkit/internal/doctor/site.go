package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/retry"
)

// site is a member as it is reached: by an endpoint that was given or, where none leads to it, by an address that it announces.
type site struct {
	name     string // for people
	endpoint string
	metrics  string // where it serves them; empty if that cannot be told
	client   *clientv3.Client
	status   *pb.StatusResponse // nil if it does not answer, and err says why
	err      error
}

// alive reports whether the member answered.
func (s *site) alive() bool { return s.status != nil }

// leads reports whether it is the leader.
func (s *site) leads() bool { return s.alive() && s.status.Leader == s.status.Header.MemberId }

// sites asks every member for its status, at once. The error says why the members could not be listed; those behind endpoints that were
// given are there all the same.
func sites(ctx context.Context, p *Patient) ([]*site, error) {
	all := make([]*site, 0, len(p.Endpoints))
	for i, e := range p.Endpoints {
		all = append(all, &site{name: hostOf(e), endpoint: e, metrics: metricsURL(p, i)})
	}
	ask(ctx, p, all)
	members, err := p.Members(ctx)
	names, reached := map[uint64]string{}, map[uint64]bool{}
	for _, m := range members {
		names[m.ID] = m.Name
	}
	silent := map[string]bool{}
	for _, s := range all {
		if !s.alive() {
			silent[s.endpoint] = true
			continue
		}
		reached[s.status.Header.MemberId] = true
		if name := names[s.status.Header.MemberId]; name != "" {
			s.name = cli.Visible(name) + " (" + hostOf(s.endpoint) + ")"
		}
	}
	var others []*site
	for _, m := range members {
		if reached[m.ID] || len(m.ClientURLs) == 0 || silent[m.ClientURLs[0]] {
			continue
		}
		url := m.ClientURLs[0]
		others = append(others, &site{name: cli.Visible(m.Name) + " (" + hostOf(cli.Visible(url)) + ")", endpoint: url, metrics: metricsOf(p, url)})
	}
	ask(ctx, p, others)
	return append(all, others...), err
}

// ask asks for the status of sites.
func ask(ctx context.Context, p *Patient, all []*site) {
	var asked sync.WaitGroup
	for _, s := range all {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askWithin)
			defer cancel()
			if s.client, s.err = p.At(ctx, s.endpoint); s.err != nil {
				return
			}
			s.status, s.err = statusOf(ctx, s.client)
		})
	}
	asked.Wait()
}

// statusOf is what the member behind a client says of itself. One that does not know the token, as it is behind, is asked until it does, or
// until ctx ends.
func statusOf(ctx context.Context, member *clientv3.Client) (*pb.StatusResponse, error) {
	for {
		status, err := pb.NewMaintenanceClient(member.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
		if !errors.Is(retry.EtcdError(err), rpctypes.ErrInvalidAuthToken) || !pause(ctx, tokenComes) {
			return status, err
		}
	}
}

// tokenComes is when to try a token again: a member knows one that another has given out as soon as it has applied that, and not before.
const tokenComes = 200 * time.Millisecond

// pause waits; it reports false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// living are those that answered.
func living(all []*site) []*site {
	var some []*site
	for _, s := range all {
		if s.alive() {
			some = append(some, s)
		}
	}
	return some
}

// notSeen is the finding of something that could not be looked at.
func notSeen(subject string, err error, grant string) Finding {
	f := Finding{Verdict: Skipped, Subject: subject, Evidence: []string{inLine(err)}}
	if denied(err) {
		f.Reason, f.Remedy = "the user may not look", grant
		return f
	}
	f.Reason, f.Remedy = "it could not be asked", "Examine again when the cluster answers."
	return f
}

// answered reports whether a member has answered, be it with a refusal: a round trip it was.
func answered(err error) bool {
	return err == nil || retry.EtcdError(err) != nil && !errors.Is(retry.EtcdError(err), rpctypes.ErrNoLeader)
}

// share is a part of a whole in percent.
func share(part, whole int64) string {
	if whole <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
