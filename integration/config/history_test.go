package config_test

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// While the client is cut off the history it would have to catch up with is compacted. That is one more read: the
// newest document is taken, a delete is seen, and what has not changed is not decoded or told again.
func TestACompactionWhileCutOffCostsOneRead(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	calls := &etcdtest.Calls{}
	cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	for _, key := range []string{"changes", "stays", "goes"} {
		put(t, etcd, key, "0")
	}
	var decoded atomic.Int64
	opts := &config.Options[int]{Codec: count{&decoded}}
	changing, staying, going := open(t, cli, "changes", opts), open(t, cli, "stays", opts), open(t, cli, "goes", opts)
	changed, stayed := changes(t, changing), changes(t, staying)
	next(t, changed)
	next(t, stayed)

	link.Cut()
	for _, v := range []*config.Value[int]{changing, staying, going} {
		becomes(t, v, config.ErrNotCurrent)
	}
	calls.Reset()
	decoded.Store(0)
	for n := range 10 {
		put(t, etcd, "changes", strconv.Itoa(n+1))
	}
	remove(t, etcd, "goes")
	c.Compact(0)
	link.Heal()

	if s := next(t, changed); s.Value != 10 {
		t.Errorf("after the compaction: %+v", s)
	}
	becomes(t, changing, nil)
	becomes(t, staying, nil)
	until(t, going, "the delete is seen", func(err error) bool {
		return errors.Is(err, config.ErrAbsent) && !errors.Is(err, config.ErrNotCurrent)
	})
	if going.Get() != 0 {
		t.Errorf("the deleted one is %d", going.Get())
	}
	etcdtest.Nothing(t, 200*time.Millisecond, "a value that has not changed is told again", stayed)
	if calls.Count("Txn") != 3 || calls.Count("Range") != 0 {
		t.Errorf("three keys, and these calls: %v", calls.Counts())
	}
	if decoded.Load() != 1 {
		t.Errorf("decoded %d times for one change", decoded.Load())
	}
}

// A restored backup turns history back without an error to anybody. What it holds is taken, though its revision is lower.
func TestARestoredBackupIsTakenThoughItsRevisionIsLower(t *testing.T) {
	c := etcdtest.New(t, nil)
	etcd := c.Client()
	old := put(t, etcd, "port", "8080")
	same := put(t, etcd, "level", "1")
	b := c.Backup()
	newer := put(t, etcd, "port", "9090")
	put(t, etcd, "new", "1")

	var decoded atomic.Int64
	cli := c.Client()
	port := open[int](t, cli, "port", nil)
	level := open(t, cli, "level", &config.Options[int]{Codec: count{&decoded}})
	absent := open[int](t, cli, "new", nil)
	changed, kept := changes(t, port), changes(t, level)
	if s := next(t, changed); s.Value != 9090 || s.Revision != newer || s.Generation != 0 {
		t.Fatalf("before: %+v", s)
	}
	next(t, kept)

	c.Restore(b)
	if s := next(t, changed); s.Value != 8080 || s.Revision != old || s.Generation != 1 {
		t.Errorf("restored: %+v, put as %d", s, old)
	}
	becomes(t, port, nil)
	// The document that has not changed is now one of another history.
	if s := next(t, kept); s.Value != 1 || s.Revision != same || s.Generation != 1 {
		t.Errorf("restored: %+v, put as %d", s, same)
	}
	if decoded.Load() != 1 {
		t.Errorf("decoded %d times", decoded.Load())
	}
	// What the backup does not have is deleted, and not empty.
	becomes(t, absent, config.ErrAbsent)
	if absent.Get() != 1 {
		t.Errorf("the value is %d", absent.Get())
	}

	// The revision that the newer document had is given out again, to another.
	again := put(t, etcd, "port", "7070")
	if s := next(t, changed); s.Value != 7070 || s.Revision != again || again > newer {
		t.Errorf("after the restore: %+v, put as %d", s, again)
	}
}

// Behind the endpoints there is another cluster now. Its documents are the ones that count, and its revisions cannot be
// compared with those before.
func TestAnotherClusterIsAnotherGeneration(t *testing.T) {
	first, second := etcdtest.New(t, nil), etcdtest.New(t, nil)
	for range 5 {
		put(t, first.Client(), "port", "8080")
	}
	revision := put(t, second.Client(), "port", "9090")
	cli := first.Client()
	v := open[int](t, cli, "port", nil)
	changed := changes(t, v)
	next(t, changed)
	cli.SetEndpoints(second.Endpoints()...)
	first.Stop(0)
	if s := next(t, changed); s.Value != 9090 || s.Revision != revision || s.Generation != 1 {
		t.Errorf("of the other cluster: %+v, put as %d", s, revision)
	}
	becomes(t, v, nil)
	put(t, second.Client(), "port", "7070")
	if s := next(t, changed); s.Value != 7070 || s.Generation != 1 {
		t.Errorf("its next: %+v", s)
	}
}
