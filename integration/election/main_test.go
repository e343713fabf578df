package election_test

import (
	"context"
	"flag"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) {
	// Most of these tests wait: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

const (
	soon     = 10 * time.Second // the patience with what has no bound of its own
	promptly = time.Second      // the bound of what takes a fifth of one, on a busy machine
)

// open opens a session for the test's time.
func open(t *testing.T, cli *clientv3.Client) *session.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	s, err := session.Open(ctx, cli, &session.Options{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // the test may have lost it
	})
	return s
}

// counted opens a client whose calls are counted and can be made to fail.
func counted(t *testing.T) (*clientv3.Client, *etcdtest.Calls) {
	t.Helper()
	var calls etcdtest.Calls
	return etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), &calls
}

// elected campaigns, and fails the test if that does not succeed soon.
func elected(t *testing.T, s *session.Session, name, value string) *election.Term {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	term, err := election.Campaign(ctx, s, name, value)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// standing starts to campaign, until the test's end.
func standing(t *testing.T, s *session.Session, name, value string) <-chan *election.Term {
	t.Helper()
	got := make(chan *election.Term, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(got)
		term, err := election.Campaign(t.Context(), s, name, value)
		switch {
		case err == nil:
			got <- term
		case t.Context().Err() == nil:
			t.Error(err)
		}
	}()
	t.Cleanup(func() { <-done })
	return got
}

// merge is those who are elected, whoever it is.
func merge(some ...<-chan *election.Term) <-chan *election.Term {
	all := make(chan *election.Term, len(some))
	for _, one := range some {
		go func() {
			for term := range one {
				all <- term
			}
		}()
	}
	return all
}

// campaigning starts to campaign, and returns when the line is n long.
func campaigning(t *testing.T, s *session.Session, name, value string, n int) <-chan *election.Term {
	t.Helper()
	got := standing(t, s, name, value)
	etcdtest.WaitKeys(t, soon, s.Client(), name+"/", n)
	return got
}

// resign resigns, and fails the test if that does not succeed.
func resign(t *testing.T, term *election.Term) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := term.Resign(ctx); err != nil {
		t.Fatal(err)
	}
}

// sighting is what an observer yields.
type sighting struct {
	leader election.Leader
	err    error
}

// observe observes until the test's end.
func observe(t *testing.T, cli *clientv3.Client, name string) <-chan sighting {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan sighting, 100)
	go func() {
		defer close(out)
		for leader, err := range election.Observe(ctx, cli, name) {
			out <- sighting{leader, err}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range out {
		}
	})
	return out
}

// sees waits for an observer to see a value, and fails the test if something else comes first.
func sees(t *testing.T, out <-chan sighting, value string) election.Leader {
	t.Helper()
	s := etcdtest.Receive(t, soon, "seeing "+value, out)
	if s.err != nil || s.leader.Value != value {
		t.Fatalf("observed %+v, %v, want the value %q", s.leader, s.err, value)
	}
	return s.leader
}
