package interop_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// soon is the patience with what has no bound of its own.
const soon = 10 * time.Second

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
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openTheirs opens a session of etcd's recipes for the test's time.
func openTheirs(t *testing.T, cli *clientv3.Client) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// lease grants a lease for the test's time, as a client of the server's services does.
func lease(t *testing.T, cli *clientv3.Client) int64 {
	t.Helper()
	resp, err := cli.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if _, err := cli.Revoke(ctx, resp.ID); err != nil {
			t.Error(err)
		}
	})
	return int64(resp.ID)
}

// began runs f in a goroutine of its own, once the line is n long it returns the channel of f's result.
func began[T any](t *testing.T, cli *clientv3.Client, name string, n int, f func() (T, error)) <-chan T {
	t.Helper()
	got := make(chan T, 1)
	go func() {
		v, err := f()
		if err != nil {
			t.Error(err)
		}
		got <- v
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", n)
	return got
}
