package config_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// openMap opens a Map that is closed when the test ends.
func openMap[T any](t testing.TB, cli *clientv3.Client, prefix string, opts *config.Options[T]) *config.Map[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	m, err := config.OpenMap(ctx, cli, prefix, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// below is a prefix of the test's own, without a slash at its end.
func below(t testing.TB) string { return etcdtest.Prefix(t) + "tenants" }

// content is the values of a list by name.
func content[T any](list []*config.MapEntry[T]) map[string]T {
	out := map[string]T{}
	for _, e := range list {
		out[e.Name] = e.Value
	}
	return out
}

// caughtUp waits until a Map has everything up to a revision, and returns what it is then.
func caughtUp[T any](t testing.TB, m *config.Map[T], revision int64) config.MapSnapshot[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := m.WaitRevision(ctx, revision); err != nil {
		t.Fatal(err)
	}
	return m.Snapshot()
}

// passed passes on what an iteration yields until the test ends.
func passed[T any](t testing.TB, from func(context.Context) func(func(T) bool)) <-chan T {
	out := make(chan T)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		defer close(out)
		for d := range from(ctx) {
			select {
			case out <- d:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out
}

// diffs passes on what m.Diffs yields.
func diffs[T any](t testing.TB, m *config.Map[T]) <-chan config.MapDiff[T] {
	return passed(t, func(ctx context.Context) func(func(config.MapDiff[T]) bool) { return m.Diffs(ctx) })
}

// says is a difference in words: +name=new, name:old=new, -name=old.
func says(d config.MapDiff[int]) string {
	var words []string
	for _, e := range d.Added {
		words = append(words, fmt.Sprintf("+%s=%d", e.Name, e.Value))
	}
	for _, c := range d.Changed {
		words = append(words, fmt.Sprintf("%s:%d=%d", c.Before.Name, c.Before.Value, c.After.Value))
	}
	for _, e := range d.Removed {
		words = append(words, fmt.Sprintf("-%s=%d", e.Name, e.Value))
	}
	return strings.Join(words, " ")
}

// differs waits for the next difference and compares it.
func differs(t testing.TB, from <-chan config.MapDiff[int], want string) config.MapDiff[int] {
	t.Helper()
	d := etcdtest.Receive(t, soon, "the next difference", from)
	if got := says(d); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	return d
}

func TestAMapIsAllThatIsBelowItsPrefix(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	first := put(t, cli, prefix+"/b", "2")
	put(t, cli, prefix+"/a/deeper", "1")
	for _, other := range []string{"2/a", "", "-old/a", "0"} { // svc and svc2
		put(t, cli, prefix+other, "not a number")
	}
	m := openMap[int](t, cli, prefix, nil)
	s := m.Snapshot()
	if got := content(s.Entries); !maps.Equal(got, map[string]int{"a/deeper": 1, "b": 2}) || m.Err() != nil {
		t.Errorf("got %v, %v", got, m.Err())
	}
	if s.Entries[0].Name != "a/deeper" || s.Entries[1].Revision != first || s.Revision < first || s.Generation != 0 || s.Source != config.Live {
		t.Errorf("got %+v of %+v", s.Entries[1], s)
	}
	if age := time.Since(s.SyncedAt); age < 0 || age > soon {
		t.Errorf("synced %v ago", age)
	}
	for name, want := range map[string]bool{"b": true, "a/deeper": true, "a": false, "": false, "c": false} {
		if _, there := m.Get(name); there != want {
			t.Errorf("%q is there: %t", name, there)
		}
		if _, there := s.Get(name); there != want {
			t.Errorf("%q is in the snapshot: %t", name, there)
		}
	}
	put(t, cli, prefix+"2/a", "not a number either")
	revision := put(t, cli, prefix+"/c", "3")
	after := caughtUp(t, m, revision)
	if got := content(after.Entries); !maps.Equal(got, map[string]int{"a/deeper": 1, "b": 2, "c": 3}) || after.Revision != revision {
		t.Errorf("after a put: %v at %d, want %d", got, after.Revision, revision)
	}
	if len(s.Entries) != 2 || after.Entries[0] != s.Entries[0] {
		t.Error("a snapshot changes, or what did not change is copied")
	}
}

func TestAMapOfNothingOpensAtOnceAndIsExact(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	m := openMap[int](t, cli, prefix, nil)
	if s := m.Snapshot(); len(s.Entries) != 0 || s.Source != config.Live || s.Revision == 0 || m.Err() != nil {
		t.Errorf("got %+v, %v", s, m.Err())
	}
	told := diffs(t, m)
	differs(t, told, "")
	put(t, cli, prefix+"/a", "1")
	differs(t, told, "+a=1")
}

// A key is state, not configuration: one that is deleted is gone.
func TestDifferencesLeadFromWhatWasSeenToTheNewest(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	put(t, cli, prefix+"/a", "1")
	put(t, cli, prefix+"/b", "2")
	m := openMap[int](t, cli, prefix, nil)
	told := diffs(t, m)
	differs(t, told, "+a=1 +b=2")
	revision := put(t, cli, prefix+"/b", "3")
	if d := differs(t, told, "b:2=3"); d.Revision != revision || d.Changed[0].After.Revision != revision {
		t.Errorf("at %d, put as %d", d.Revision, revision)
	}
	remove(t, cli, prefix+"/a")
	differs(t, told, "-a=1")
	if _, there := m.Get("a"); there || m.Err() != nil {
		t.Errorf("the deleted one is there: %t, %v", there, m.Err())
	}
	// One transaction is one step.
	resp, err := cli.Txn(t.Context()).Then(
		clientv3.OpPut(prefix+"/a", "4"), clientv3.OpDelete(prefix+"/b"), clientv3.OpPut(prefix+"/c", "5"),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	differs(t, told, "+a=4 +c=5 -b=3")
	if s := m.Snapshot(); s.Revision != resp.Header.Revision {
		t.Errorf("at %d, written as %d", s.Revision, resp.Header.Revision)
	}

	// Somebody slow sees what came of it, and nothing of what came and went.
	seen := 0
	for d := range m.Diffs(t.Context()) {
		if seen++; seen == 2 {
			if got := says(d); got != "+e=9 a:4=8 -c=5" {
				t.Errorf("who was away is told %q", got)
			}
			break
		}
		for n := range 5 {
			put(t, cli, prefix+"/a", strconv.Itoa(4+n))
			put(t, cli, prefix+"/d", "0")
		}
		remove(t, cli, prefix+"/c")
		put(t, cli, prefix+"/e", "9")
		caughtUp(t, m, remove(t, cli, prefix+"/d"))
	}
}

// A document that is bad harms neither the others nor what was good before.
func TestABadDocumentHarmsNoOther(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	core, logs := observer.New(zap.WarnLevel)
	rule := errors.New("must be positive")
	first := put(t, cli, prefix+"/bad", "hunter2")
	good := put(t, cli, prefix+"/good", "1")
	put(t, cli, prefix+"/other", "2")
	m := openMap(t, cli, prefix, &config.Options[int]{Logger: zap.New(core), Validate: func(n int) error {
		switch {
		case n == 666:
			panic("the number of the beast")
		case n < 0:
			return rule
		}
		return nil
	}})
	told := diffs(t, m)
	differs(t, told, "+good=1 +other=2")
	if err := m.Err(); !refusedAt(first)(err) || !strings.Contains(err.Error(), `"bad"`) || !strings.Contains(err.Error(), "left out") {
		t.Errorf("Err is: %v", err)
	}
	if s := m.Snapshot(); s.Source != config.Live {
		t.Errorf("one bad document makes all %s", s.Source)
	}
	for n, c := range []struct{ document, says string }{
		{"-1", rule.Error()},
		{"666", "Validate panicked"},
		{"1e", "codec: decode int"},
	} {
		revision := put(t, cli, prefix+"/good", c.document)
		caughtUp(t, m, revision)
		err := m.Err()
		if !refusedAt(revision)(err) || !refusedAt(first)(err) || !strings.Contains(err.Error(), c.says) ||
			!strings.Contains(err.Error(), fmt.Sprintf("the document of revision %d stays", good)) {
			t.Errorf("%s: Err is: %v", c.document, err)
		}
		if v, there := m.Get("good"); v != 1 || !there {
			t.Errorf("%s: the last good one is %d, %t", c.document, v, there)
		}
		put(t, cli, prefix+"/other", strconv.Itoa(n+3))
		differs(t, told, fmt.Sprintf("other:%d=%d", n+2, n+3))
	}
	if n := logs.FilterMessage("document not taken").Len(); n != 4 {
		t.Errorf("%d refusals logged, of 4 documents", n)
	}
	for _, text := range []string{m.Err().Error(), fmt.Sprint(logs.All())} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "beast") {
			t.Errorf("what is in a document is told: %s", text)
		}
	}
	// A deleted key has nothing good, and nothing bad.
	remove(t, cli, prefix+"/good")
	differs(t, told, "-good=1")
	put(t, cli, prefix+"/bad", "3")
	differs(t, told, "+bad=3")
	if m.Err() != nil {
		t.Errorf("Err is: %v", m.Err())
	}
}

// A Validate that takes its time holds up neither the follower nor others, and no key's change is lost by it.
func TestASlowValidateLosesNoKey(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	put(t, cli, prefix+"/goes", "1")
	called, release := make(chan struct{}), make(chan struct{})
	var validated atomic.Int64
	slow := openMap(t, cli, prefix, &config.Options[int]{Validate: func(n int) error {
		validated.Add(1)
		if n == 2 {
			close(called)
			<-release
		}
		return nil
	}})
	quick := openMap[int](t, cli, prefix, nil)
	told := diffs(t, slow)
	differs(t, told, "+goes=1")
	put(t, cli, prefix+"/slow", "2")
	etcdtest.Done(t, soon, "Validate is called", called)
	for n := range 20 {
		for key := range 5 {
			put(t, cli, fmt.Sprintf("%s/k%d", prefix, key), strconv.Itoa(100*key+n))
		}
	}
	revision := remove(t, cli, prefix+"/goes")
	if got := content(caughtUp(t, quick, revision).Entries); len(got) != 6 {
		t.Errorf("beside it: %v", got)
	}
	if s := slow.Snapshot(); len(s.Entries) != 1 || s.Source != config.Stale || !errors.Is(slow.Err(), config.ErrNotCurrent) {
		t.Errorf("while Validate runs: %v, %s, %v", content(s.Entries), s.Source, slow.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := slow.WaitRevision(ctx, revision); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitRevision returned before Validate: %v", err)
	}
	close(release)
	want := map[string]int{"slow": 2, "k0": 19, "k1": 119, "k2": 219, "k3": 319, "k4": 419}
	if got := content(caughtUp(t, slow, revision).Entries); !maps.Equal(got, want) || slow.Err() != nil {
		t.Errorf("got %v, %v; want %v", got, slow.Err(), want)
	}
	if n := validated.Load(); n != 7 {
		t.Errorf("%d documents were looked at, want 7", n)
	}
}

func TestOpenMapReturnsWithItsContextThoughValidateHangs(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), below(t)
	put(t, cli, prefix+"/a", "1")
	called, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() {
		_, err := config.OpenMap(ctx, cli, prefix, &config.Options[int]{Validate: func(int) error {
			close(called)
			<-release
			return nil
		}})
		out <- err
	}()
	etcdtest.Done(t, soon, "Validate is called", called)
	etcdtest.Nothing(t, 100*time.Millisecond, "OpenMap waits", out)
	cancel()
	if err := etcdtest.Receive(t, 250*time.Millisecond, "OpenMap returns", out); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

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
