package lock_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

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

// locked locks, and fails the test if that cannot be done soon.
func locked(t *testing.T, m lock.Mutex) *lock.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	h, err := m.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// unlock unlocks, and fails the test if that does not succeed.
func unlock(t *testing.T, h *lock.Held) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := h.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
}

// waiting starts to lock, and returns when the line is n long.
func waiting(t *testing.T, m lock.Mutex, cli *clientv3.Client, name string, n int) <-chan *lock.Held {
	t.Helper()
	got := make(chan *lock.Held, 1)
	go func() {
		h, err := m.Lock(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- h
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", n)
	return got
}
