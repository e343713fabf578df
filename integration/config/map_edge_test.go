package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// fill puts n keys below a prefix in few transactions, and returns the last revision.
func fill(t testing.TB, cli *clientv3.Client, prefix string, n int) (revision int64) {
	t.Helper()
	var ops []clientv3.Op
	for i := range n {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/t%05d", prefix, i), strconv.Itoa(i)))
	}
	for chunk := range slices.Chunk(ops, 100) {
		resp, err := cli.Txn(t.Context()).Then(chunk...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		revision = resp.Header.Revision
	}
	return revision
}

// No change, no call but the question for progress, once a second for all of a client. A change is one event: nothing is
// read again, and only that document is decoded, whatever the size. Reading allocates nothing.
func TestWhatALargeMapCosts(t *testing.T) {
	const size = 10_000
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	writer, prefix := etcdtest.Client(t), below(t)
	fill(t, writer, prefix, size)
	var decoded atomic.Int64
	began := time.Now()
	m := openMap(t, cli, prefix, &config.Options[int]{Codec: count{&decoded}})
	t.Logf("%d entries opened in %v", size, time.Since(began))
	if n := len(m.Snapshot().Entries); n != size || decoded.Load() != size {
		t.Fatalf("%d entries, %d documents decoded", n, decoded.Load())
	}
	told := diffs(t, m)
	if d := etcdtest.Receive(t, soon, "the first difference", told); len(d.Added) != size {
		t.Errorf("%d entries are told", len(d.Added))
	}
	calls.Reset()
	decoded.Store(0)
	calls.Quiet(t, 2500*time.Millisecond, etcdtest.WatchProgress)
	for n := range 10 {
		put(t, writer, prefix+"/t05000", strconv.Itoa(n))
		if d := etcdtest.Receive(t, soon, "the change", told); len(d.Changed) != 1 || len(d.Added)+len(d.Removed) != 0 {
			t.Errorf("told %s", says(d))
		}
	}
	if sent := calls.Sent() - calls.Count(etcdtest.WatchProgress); sent != 0 {
		t.Errorf("%d calls for ten changes: %v", sent, calls.Counts())
	}
	if decoded.Load() != 10 {
		t.Errorf("decoded %d documents for ten changes", decoded.Load())
	}
	var got int
	for what, read := range map[string]func(){
		"Get":      func() { got, _ = m.Get("t04711") },
		"Snapshot": func() { got, _ = m.Snapshot().Get("t04711") },
		"Err":      func() { _ = m.Err() },
	} {
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
	if got != 4711 {
		t.Errorf("got %d", got)
	}
}

func TestAWriterFindsItsOwnWriteInTheMap(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	m := openMap[int](t, cli, prefix, nil)
	for n := range 20 {
		caughtUp(t, m, put(t, cli, prefix+"/a", strconv.Itoa(n)))
		if v, _ := m.Get("a"); v != n {
			t.Fatalf("it is %d after %d was put", v, n)
		}
	}
	caughtUp(t, m, put(t, cli, prefix+"-other", "x")) // nothing below the prefix changes
	reason := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if err := m.WaitRevision(ctx, 1<<40); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- m.WaitRevision(context.Background(), 1<<40) }()
	etcdtest.Nothing(t, 100*time.Millisecond, "a revision that is far away", waiting)
	m.Close()
	if err := etcdtest.Receive(t, soon, "the wait ends with the Map", waiting); !errors.Is(err, config.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestClosingAMapEndsTheFollowingAndKeepsTheEntries(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	put(t, cli, prefix+"/a", "1")
	m, stays := openMap[int](t, cli, prefix, nil), openMap[int](t, cli, prefix, nil)
	told, of := diffs(t, m), diffs(t, stays)
	differs(t, told, "+a=1")
	differs(t, of, "+a=1")
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(m.Close)
	}
	etcdtest.Returns(t, soon, "Close", closing.Wait)
	etcdtest.Returns(t, soon, "Diffs ends", func() {
		for d := range told {
			t.Errorf("Diffs yielded %s after Close", says(d))
		}
	})
	put(t, cli, prefix+"/a", "2")
	differs(t, of, "a:1=2")
	v, there := m.Get("a")
	if s := m.Snapshot(); v != 1 || !there || s.Source != config.Stale || !errors.Is(m.Err(), config.ErrClosed) {
		t.Errorf("after Close: %d, %+v, %v", v, s, m.Err())
	}
	yielded := 0
	for range m.Changes(t.Context()) {
		yielded++
	}
	if yielded != 1 {
		t.Errorf("Changes of a closed Map yields %d snapshots", yielded)
	}
}

// The least a Map needs is READ below its prefix. Without it, OpenMap says so at once.
func TestOpenMapNeedsTheRightToReadBelowItsPrefixAndNoOther(t *testing.T) {
	c := etcdtest.New(t, nil)
	root := secure(t, c, "port")
	from, to := "tenants/", clientv3.GetPrefixRangeEnd("tenants/")
	if _, err := root.RoleGrantPermission(t.Context(), "reader", from, to, clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	put(t, root, "tenants/a", "1")
	link := c.Link(0)
	reader := link.Dial(clientv3.Config{Username: "reader", Password: "reader"})
	m := openMap[int](t, reader, "tenants", nil)
	told := diffs(t, m)
	differs(t, told, "+a=1")
	etcdtest.Returns(t, soon, "OpenMap", func() {
		if _, err := config.OpenMap[int](t.Context(), reader, "secrets", nil); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("got %v", err)
		}
	})
	// Taken away, it is said; given back, all goes on.
	if _, err := root.RoleRevokePermission(t.Context(), "reader", from, to); err != nil {
		t.Fatal(err)
	}
	link.Drop()
	until(t, m, "etcd's refusal is said", func(err error) bool {
		return errors.Is(err, config.ErrNotCurrent) && errors.Is(err, rpctypes.ErrPermissionDenied)
	})
	put(t, root, "tenants/a", "2")
	if _, err := root.RoleGrantPermission(t.Context(), "reader", from, to, clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	differs(t, told, "a:1=2")
	becomes(t, m, nil)
}
