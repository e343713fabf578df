package migrating

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// soon is the patience with what has no bound of its own.
const soon = 10 * time.Second

// own is a client and a name of the test's own.
func own(t *testing.T) (cli *clientv3.Client, name string) {
	t.Helper()
	name = etcdtest.Prefix(t)
	return etcdtest.Client(t), name[:len(name)-1]
}

// opened is a session for the test's time.
func opened(t *testing.T, cli *clientv3.Client) *session.Session {
	t.Helper()
	s, err := session.Open(t.Context(), cli, nil)
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

// turns has two wait for one thing: first gets it, then second waits for it, and gets it when first lets go.
func turns(t *testing.T, line func(), first, second func(ctx context.Context, work func() error) error) {
	t.Helper()
	has, release := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 2)
	go func() {
		ended <- first(t.Context(), func() error { close(has); <-release; return nil })
	}()
	etcdtest.Done(t, soon, "the first has it", has)
	then := make(chan struct{})
	go func() {
		ended <- second(t.Context(), func() error { close(then); return nil })
	}()
	line()
	etcdtest.Nothing(t, 100*time.Millisecond, "the second has it, too", then)
	close(release)
	etcdtest.Done(t, soon, "the second has it", then)
	for range 2 {
		if err := etcdtest.Receive(t, soon, "the end", ended); err != nil {
			t.Error(err)
		}
	}
}

// errEnough ends what goes on until an error.
var errEnough = errors.New("enough")
