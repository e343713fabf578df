package config_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// count is a codec of ints that counts what it decodes.
type count struct{ decoded *atomic.Int64 }

func (c count) Decode(data []byte) (int, error) {
	c.decoded.Add(1)
	return strconv.Atoi(string(data))
}

func (count) Encode(n int) ([]byte, error) { return []byte(strconv.Itoa(n)), nil }

func TestAChangeReachesEveryReader(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	put(t, cli, key, "info")
	v := open[string](t, cli, key, nil)
	first, second := changes(t, v), changes(t, v)
	for _, s := range []config.Snapshot[string]{next(t, first), next(t, second)} {
		if s.Value != "info" {
			t.Errorf("the current value is %+v", s)
		}
	}
	revision := put(t, cli, key, "debug")
	for _, s := range []config.Snapshot[string]{next(t, first), next(t, second)} {
		if s.Value != "debug" || s.Revision != revision || s.Source != config.Live {
			t.Errorf("the change is %+v, put as %d", s, revision)
		}
	}
	if v.Get() != "debug" || v.Err() != nil {
		t.Errorf("got %q, %v", v.Get(), v.Err())
	}
}

// open-telemetry-collector#6226: a bad configuration took the running process down.
func TestABadChangeIsRefusedAndTheNextGoodOneHeals(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	put(t, cli, key, "8080")
	var asked atomic.Int64
	rule := errors.New("must be at least 1024")
	v := open(t, cli, key, &config.Options[int]{Validate: func(port int) error {
		asked.Add(1)
		switch {
		case port == 666:
			panic("the number of the beast")
		case port < 1024:
			return rule
		}
		return nil
	}})
	changed := changes(t, v)
	next(t, changed)

	for _, c := range []struct{ document, says string }{
		{"eighty", "codec: decode int"},
		{"80", rule.Error()},
		{"666", "Validate panicked"},
	} {
		revision := put(t, cli, key, c.document)
		until(t, v, c.document+" is refused", refusedAt(revision))
		if err := v.Err(); !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: Err is: %v", c.document, err)
		}
		if s := v.Snapshot(); v.Get() != 8080 || s.Value != 8080 || s.Source != config.Stale {
			t.Errorf("%q: got %d, %+v", c.document, v.Get(), s)
		}
	}
	revision := put(t, cli, key, "9090")
	if s := next(t, changed); s.Value != 9090 || s.Revision != revision {
		t.Errorf("after the bad ones: %+v", s)
	}
	if v.Err() != nil {
		t.Errorf("Err is: %v", v.Err())
	}
	if asked.Load() != 4 {
		t.Errorf("Validate was called %d times for four documents that decode", asked.Load())
	}
}

func TestADeletedKeyKeepsTheLastGoodDocument(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	put(t, cli, key, "8080")
	initial := 1
	v := open(t, cli, key, &config.Options[int]{Default: &initial})
	changed := changes(t, v)
	next(t, changed)
	revision := remove(t, cli, key)
	becomes(t, v, config.ErrAbsent)
	if err := v.Err(); !strings.Contains(err.Error(), fmt.Sprintf("deleted as of revision %d", revision)) {
		t.Errorf("Err is: %v", err)
	}
	if s := v.Snapshot(); v.Get() != 8080 || s.Source != config.Stale {
		t.Errorf("got %d, %+v", v.Get(), s)
	}
	// Put again as it was, it is another document, and the first thing that Changes has to say.
	revision = put(t, cli, key, "8080")
	if s := next(t, changed); s.Value != 8080 || s.Revision != revision || v.Err() != nil {
		t.Errorf("after it was put again: %+v, %v", s, v.Err())
	}
}

func TestASlowReaderOfChangesGetsTheNewest(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"n"
	put(t, cli, key, "0")
	v := open[int](t, cli, key, nil)
	seen := 0
	for s := range v.Changes(t.Context()) {
		if seen++; s.Value == 100 {
			break
		}
		if s.Value != 0 {
			t.Fatalf("a reader who was away since 0 got %d", s.Value)
		}
		for n := range 100 {
			put(t, cli, key, strconv.Itoa(n+1))
		}
		etcdtest.Eventually(t, soon, "Get is the newest", func(context.Context) error {
			if n := v.Get(); n != 100 {
				return fmt.Errorf("it is %d", n)
			}
			return nil
		})
	}
	if seen != 2 {
		t.Errorf("%d values for a hundred changes", seen)
	}
}

// go-zero#4707: a listener was told an old value. Here what it is told only grows, Get is never behind it, and the last is
// etcd's.
func TestNobodyIsToldAnOldValue(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"n"
	put(t, cli, key, "0")
	v := open[string](t, cli, key, nil)

	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := range 100 {
				if _, err := cli.Put(t.Context(), key, fmt.Sprintf("%d of writer %d", n, w)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	last := make(chan int64, 1)
	go func() {
		writers.Wait()
		last <- put(t, cli, key, "the last")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var revision int64
	for s := range v.Changes(ctx) {
		if s.Revision <= revision {
			t.Fatalf("revision %d after %d", s.Revision, revision)
		}
		revision = s.Revision
		if now := v.Snapshot(); now.Revision < revision {
			t.Fatalf("Get is at revision %d, Changes at %d", now.Revision, revision)
		}
		if s.Value == "the last" {
			break
		}
	}
	if want := <-last; revision != want || v.Get() != "the last" {
		t.Errorf("the last is %q of revision %d, want %d", v.Get(), revision, want)
	}
}

// viper#1394, viper#2026: reading while a change comes in was a concurrent map write.
func TestReadingIsSafeWhileChangesComeIn(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, `{"rate":0}`)
	v := open[map[string]int](t, cli, key, nil)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range v.Changes(t.Context()) {
				for range 1000 { // while the next change comes in
					rate, there := v.Get()["rate"]
					if !there || v.Snapshot().Source == config.Default {
						t.Error("a value that was never put")
						return
					}
					if rate == 100 {
						return
					}
				}
			}
		})
	}
	for n := range 100 {
		put(t, cli, key, fmt.Sprintf(`{"rate":%d}`, n+1))
	}
	etcdtest.Returns(t, soon, "the readers see the last change", readers.Wait)
}

func TestClosingEndsTheFollowingAndKeepsTheValue(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	put(t, cli, key, "8080")
	v := open[int](t, cli, key, nil)
	stays := open[int](t, cli, key, nil)
	changed, of := changes(t, v), changes(t, stays)
	next(t, changed)
	next(t, of)
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(v.Close)
	}
	etcdtest.Returns(t, soon, "Close", closing.Wait)
	etcdtest.Returns(t, soon, "Changes ends", func() {
		for s := range changed {
			t.Errorf("Changes yielded %+v after Close", s)
		}
	})
	put(t, cli, key, "9090")
	next(t, of)
	if s := v.Snapshot(); v.Get() != 8080 || s.Source != config.Stale || !errors.Is(v.Err(), config.ErrClosed) {
		t.Errorf("after Close: %d, %+v, %v", v.Get(), s, v.Err())
	}
	yielded := 0
	for range v.Changes(t.Context()) {
		yielded++
	}
	if yielded != 1 {
		t.Errorf("Changes of a closed Value yields %d values", yielded)
	}
}

// No change, no call but the question for progress, once a second for all Values of a client. A change is one event: it
// is read by nobody, and decoded once by each.
func TestWhatAValueCosts(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	writer, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	put(t, writer, prefix+"a", "1")
	put(t, writer, prefix+"b", "1")
	var decoded atomic.Int64
	opts := &config.Options[int]{Codec: count{&decoded}}
	a, also, b := open(t, cli, prefix+"a", opts), open(t, cli, prefix+"a", opts), open(t, cli, prefix+"b", opts)
	if n := calls.Count(etcdtest.WatchCreate); n != 2 {
		t.Errorf("%d watches for two keys", n)
	}
	if n := calls.Count("Watch"); n != 1 {
		t.Errorf("%d streams", n)
	}
	changed, same := changes(t, a), changes(t, also)
	next(t, changed)
	next(t, same)

	calls.Reset()
	decoded.Store(0)
	calls.Quiet(t, 2500*time.Millisecond, etcdtest.WatchProgress)
	if n := calls.Count(etcdtest.WatchProgress); n > 3 {
		t.Errorf("%d questions for progress in 2.5 s", n)
	}
	for n := range 10 {
		put(t, writer, prefix+"a", strconv.Itoa(n))
		next(t, changed)
		next(t, same)
	}
	if sent := calls.Sent() - calls.Count(etcdtest.WatchProgress); sent != 0 {
		t.Errorf("%d calls for ten changes: %v", sent, calls.Counts())
	}
	if decoded.Load() != 20 {
		t.Errorf("decoded %d times: ten documents, two Values", decoded.Load())
	}
	if b.Get() != 1 || b.Err() != nil {
		t.Errorf("the other key: %d, %v", b.Get(), b.Err())
	}
}

func TestASnapshotDoesNotAllocate(t *testing.T) {
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	put(t, cli, key, "info")
	v := open[string](t, cli, key, nil)
	if n := testing.AllocsPerRun(100, func() { _ = v.Snapshot() }); n != 0 {
		t.Errorf("Snapshot allocates %v times", n)
	}
}
