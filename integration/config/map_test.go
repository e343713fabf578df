package config_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
