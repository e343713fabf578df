package session_test

import (
	"context"
	"flag"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a TTL to be over: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

const (
	soon     = 10 * time.Second // the patience with what has no bound of its own
	promptly = time.Second      // the bound of what takes a fifth of one, on a busy machine
	shortTTL = 2 * time.Second  // the least there is
)

// open opens a session for the test's time.
func open(t *testing.T, cli *clientv3.Client, opts *session.Options) *session.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	s, err := session.Open(ctx, cli, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // the test may have lost it, or the way to etcd
	})
	return s
}

// counted opens a client whose calls are counted and can be made to fail.
func counted(t *testing.T, c *etcdtest.Cluster) (*clientv3.Client, *etcdtest.Calls) {
	t.Helper()
	var calls etcdtest.Calls
	return c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), &calls
}

// leases returns how many leases there are in a cluster.
func leases(t *testing.T, c *etcdtest.Cluster) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp, err := c.Oracle(c.WaitLeader()).Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return len(resp.Leases)
}

// waitRenewed waits until trust reaches as far as the given time.
func waitRenewed(t *testing.T, s *session.Session, until time.Time) {
	t.Helper()
	etcdtest.Eventually(t, time.Until(until)+time.Second, "renewals", func(context.Context) error {
		if err := s.Context().Err(); err != nil {
			t.Fatalf("the session ended: %v", context.Cause(s.Context()))
		}
		if now := s.TrustedUntil(); now.Before(until) {
			return notYetError(until.Sub(now))
		}
		return nil
	})
}

type notYetError time.Duration

func (e notYetError) Error() string { return "trust ends " + time.Duration(e).String() + " too early" }
