package etcdtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// shared is the one cluster of the process that tests share. The mutex guards all of it and is held while the
// cluster starts, so that the first callers wait for it together.
var shared struct {
	sync.Mutex
	core *core
	err  error
	done bool // Main has stopped it: what comes now comes too late
}

// Shared returns the one-member cluster that all tests of the package share, started when the first of them asks.
// Keep to the keys under [Prefix]; whatever hurts the cluster (stopping a member, compacting ...) fails the test.
// It is safe with t.Parallel.
//
// The package's TestMain must call [Main], which stops it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	c, err := sharedCore()
	if err != nil {
		t.Fatal(err)
	}
	return &Cluster{t: t, core: c}
}

// Client opens a client of the shared cluster for this test alone. It is closed when the test ends.
func Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return Shared(t).Client()
}

// Endpoints returns the endpoint of the shared cluster. It is for examples, which have no testing.TB; it panics if
// the cluster cannot be started.
func Endpoints() []string {
	c, err := sharedCore()
	if err != nil {
		panic(err)
	}
	return []string{c.members[0].GRPCURL}
}

func sharedCore() (*core, error) {
	shared.Lock()
	defer shared.Unlock()
	switch {
	case !mainCalled.Load():
		return nil, fmt.Errorf("etcdtest: the shared cluster needs a TestMain that calls etcdtest.Main")
	case shared.done:
		return nil, fmt.Errorf("etcdtest: the shared cluster was stopped: the tests are over")
	case shared.core == nil && shared.err == nil:
		shared.core, shared.err = startShared()
	}
	return shared.core, shared.err
}

func startShared() (*core, error) {
	dir, err := os.MkdirTemp("", "etcdtest-")
	if err != nil {
		return nil, err
	}
	c, err := start(context.Background(), (*Options)(nil).withDefaults(), dir)
	if err != nil {
		return nil, err
	}
	c.shared = true
	return c, nil
}

// stopShared ends the shared cluster for good.
func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	shared.done = true
	if shared.core == nil {
		return nil
	}
	err := shared.core.close()
	shared.core = nil
	return err
}

// Prefix returns a key prefix that no other test and no other call uses. It names the test, ends in a slash, and
// holds only letters, digits, "-" and "_" otherwise, so that it may start any key, lock name or registry name.
func Prefix(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		default:
			return '_'
		}
	}, t.Name())
	return name[:min(len(name), 80)] + "-" + rand.Text()[:8] + "/"
}
