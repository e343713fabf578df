package interop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// candidate is one way to stand for an election. Its value is its name.
type candidate struct {
	name     string
	campaign func(ctx context.Context) (leading, error)
	leader   func(ctx context.Context) (string, error)
	observe  func(ctx context.Context, yield func(value string))
}

// leading is what a leader can do.
type leading struct {
	proclaim func(ctx context.Context, value string) error
	resign   func(ctx context.Context) error
}

// candidates returns all ways to stand for an election.
func candidates(t *testing.T, name string) []candidate {
	t.Helper()
	cli := etcdtest.Client(t)
	s := open(t, cli)
	theirs := concurrency.NewElection(openTheirs(t, cli), name)
	service := v3electionpb.NewElectionClient(cli.ActiveConnection())
	return []candidate{
		{
			name: "etcdkit",
			campaign: func(ctx context.Context) (leading, error) {
				term, err := election.Campaign(ctx, s, name, "etcdkit")
				if err != nil {
					return leading{}, err
				}
				return leading{term.Proclaim, term.Resign}, nil
			},
			leader: func(ctx context.Context) (string, error) {
				l, err := election.Current(ctx, cli, name)
				return l.Value, err
			},
			observe: func(ctx context.Context, yield func(string)) {
				for l, err := range election.Observe(ctx, cli, name) {
					if err == nil && l.Token > 0 {
						yield(l.Value)
					}
				}
			},
		},
		{
			name: "concurrency.Election",
			campaign: func(ctx context.Context) (leading, error) {
				return leading{theirs.Proclaim, theirs.Resign}, theirs.Campaign(ctx, "concurrency.Election")
			},
			leader: func(ctx context.Context) (string, error) {
				resp, err := theirs.Leader(ctx)
				if err != nil {
					return "", err
				}
				return string(resp.Kvs[0].Value), nil
			},
			observe: func(ctx context.Context, yield func(string)) {
				for resp := range theirs.Observe(ctx) {
					yield(string(resp.Kvs[0].Value))
				}
			},
		},
		{
			name: "v3election",
			campaign: func(ctx context.Context) (leading, error) {
				resp, err := service.Campaign(ctx, &v3electionpb.CampaignRequest{
					Name: []byte(name), Lease: lease(t, cli), Value: []byte("v3election"),
				})
				if err != nil {
					return leading{}, err
				}
				return leading{
					proclaim: func(ctx context.Context, value string) error {
						_, err := service.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: resp.Leader, Value: []byte(value)})
						return err
					},
					resign: func(ctx context.Context) error {
						_, err := service.Resign(ctx, &v3electionpb.ResignRequest{Leader: resp.Leader})
						return err
					},
				}, nil
			},
			leader: func(ctx context.Context) (string, error) {
				resp, err := service.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte(name)})
				return string(resp.GetKv().GetValue()), err
			},
			observe: func(ctx context.Context, yield func(string)) {
				stream, err := service.Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte(name)})
				for err == nil {
					var resp *v3electionpb.LeaderResponse
					if resp, err = stream.Recv(); err == nil {
						yield(string(resp.Kv.Value))
					}
				}
			},
		},
	}
}

func TestCandidatesOfAllKindsLeadInOrderAndSeeEachOther(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	prefix := etcdtest.Prefix(t)
	names := []string{prefix + "a", prefix + "b", prefix + "c"}
	for i := range names {
		all := candidates(t, names[i])
		all = append(all[i:], all[:i]...) // each is the first once
		t.Run(all[0].name+" first", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			now, err := all[0].campaign(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var seen []<-chan string
			for _, c := range all {
				values := make(chan string, 100)
				go func() {
					defer close(values)
					c.observe(ctx, func(v string) { values <- v })
				}()
				seen = append(seen, values)
			}
			defer func() {
				cancel()
				for _, values := range seen {
					for range values {
					}
				}
			}()
			everybodySees := func(value string) {
				t.Helper()
				for n, c := range all {
					if v, err := c.leader(ctx); err != nil || v != value {
						t.Errorf("to %s, %q leads (%v), want %q", c.name, v, err, value)
					}
					for v := ""; v != value; {
						v = etcdtest.Receive(t, soon, c.name+" observes "+value, seen[n])
					}
				}
			}
			everybodySees(all[0].name)
			var next []<-chan leading
			for n, c := range all[1:] {
				next = append(next, began(t, cli, names[i], n+2, func() (leading, error) { return c.campaign(ctx) }))
			}
			for n, c := range next {
				etcdtest.Nothing(t, 20*time.Millisecond, all[n+1].name, c)
				if err := now.proclaim(ctx, all[n].name+" leaves"); err != nil {
					t.Error(err)
				}
				everybodySees(all[n].name + " leaves")
				if err := now.resign(ctx); err != nil {
					t.Error(err)
				}
				now = etcdtest.Receive(t, soon, all[n+1].name, c)
				everybodySees(all[n+1].name)
			}
			if err := now.resign(ctx); err != nil {
				t.Error(err)
			}
			etcdtest.WaitKeys(t, soon, cli, names[i]+"/", 0)
			if _, err := all[0].leader(ctx); err == nil {
				t.Error("somebody leads")
			}
			if _, err := election.Current(ctx, cli, names[i]); !errors.Is(err, election.ErrNoLeader) {
				t.Errorf("Current: %v, want ErrNoLeader", err)
			}
		})
	}
}
