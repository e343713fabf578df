package election_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// keeper returns a keeper for the test's time.
func keeper(t *testing.T, cli *clientv3.Client) *session.Keeper {
	t.Helper()
	k := session.NewKeeper(cli, &session.Options{TTL: time.Minute})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := k.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return k
}

// leases returns the leases of the keys under a prefix.
func leases(t *testing.T, cli *clientv3.Client, prefix string) map[int64]int {
	t.Helper()
	resp, err := cli.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	of := map[int64]int{}
	for _, kv := range resp.Kvs {
		of[kv.Lease]++
	}
	return of
}

// One process may lead hundreds of things. They cost one lease, and are lost and led again together.
func TestManyRunsShareTheSessionsOfAKeeper(t *testing.T) {
	t.Parallel()
	const shards = 30
	cli, calls := counted(t)
	prefix := etcdtest.Prefix(t)
	k := keeper(t, cli)
	ctx, cancel := context.WithCancel(t.Context())
	opts := &election.Options{Sessions: k, Retry: retry.Policy{Initial: time.Millisecond, Max: 10 * time.Millisecond}}
	terms, done := make(chan *election.Term, shards), make(chan error, shards)
	for i := range shards {
		go func() {
			done <- election.Run(ctx, cli, fmt.Sprintf("%s%d", prefix, i), "me", opts, func(ctx context.Context, term *election.Term) error {
				terms <- term
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
	}
	for round := range 2 {
		var last *election.Term
		for range shards {
			last = etcdtest.Receive(t, soon, "leading", terms)
		}
		if of := leases(t, cli, prefix); len(of) != 1 {
			t.Errorf("the keys have the leases %v, want one", of)
		}
		if n := calls.Count("LeaseGrant"); n != round+1 {
			t.Errorf("%d leases were granted, want %d", n, round+1)
		}
		s, err := k.Live(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			etcdtest.Shared(t).Revoke(s.Lease())
			etcdtest.Done(t, soon, "the loss", last.Context().Done())
			if cause := context.Cause(last.Context()); !errors.Is(cause, fence.ErrLost) {
				t.Errorf("the cause is %v, want fence.ErrLost", cause)
			}
		}
	}
	cancel()
	for range shards {
		if err := etcdtest.Receive(t, soon, "Run", done); !errors.Is(err, context.Canceled) || errors.Is(err, fence.ErrLost) {
			t.Errorf("Run: %v", err)
		}
	}
	if of := leases(t, cli, prefix); len(of) != 0 {
		t.Errorf("keys are left: %v", of)
	}
	// The session is the keeper's.
	if s, err := k.Live(t.Context()); err != nil || s.Context().Err() != nil {
		t.Errorf("the keeper's session has ended: %v", err)
	}
	if n := calls.Count("LeaseGrant"); n != 2 {
		t.Errorf("%d leases were granted, want 2", n)
	}
}

// Waiting would be for ever: nobody opens it again.
func TestRunReturnsWhenThereAreNoSessionsAnyMore(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	lead := func(context.Context, *election.Term) error {
		t.Error("led")
		return nil
	}
	k := keeper(t, cli)
	elected(t, open(t, cli), prefix+"kept", "other")
	waiting := make(chan error, 1)
	go func() {
		waiting <- election.Run(t.Context(), cli, prefix+"kept", "me", &election.Options{Sessions: k}, lead)
	}()
	etcdtest.WaitKeys(t, soon, cli, prefix+"kept/", 2)
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := etcdtest.Receive(t, soon, "Run", waiting); !errors.Is(err, session.ErrClosed) {
		t.Errorf("with a keeper that was closed: %v, want session.ErrClosed", err)
	}
	s := open(t, cli)
	etcdtest.Shared(t).Revoke(s.Lease())
	s.Probe()
	etcdtest.Done(t, soon, "the loss", s.Context().Done())
	err := election.Run(t.Context(), cli, prefix+"lost", "me", &election.Options{Sessions: s}, lead)
	if !errors.Is(err, session.ErrLost) || !strings.Contains(err.Error(), prefix+"lost") {
		t.Errorf("with a session that is lost: %v, want session.ErrLost", err)
	}
}

// A Run under the context of the same election's term would wait for itself.
func TestARunWithinItsOwnTermFailsAtOnce(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	err := election.Run(t.Context(), cli, name, "me", nil, func(ctx context.Context, _ *election.Term) error {
		return election.Run(ctx, cli, name, "me", nil, func(context.Context, *election.Term) error {
			t.Error("led within")
			return nil
		})
	})
	if !errors.Is(err, election.ErrReentrant) {
		t.Errorf("Run: %v, want ErrReentrant", err)
	}
}
