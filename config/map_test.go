package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// runningMap returns a Map of tenants/ without a follower, that is told what etcd has through its inbox.
func runningMap(t testing.TB, opts *Options[int]) *Map[int] {
	m := newMap("tenants", opts)
	m.life, m.cancel = context.WithCancel(context.Background())
	go m.run()
	t.Cleanup(func() { m.cancel(); <-m.done })
	return m
}

// became is an event of a tenant: a document of a revision, or a deletion for none.
func became(name string, revision int64, document string) follow.Event {
	ev := follow.Event{Key: "tenants/" + name, Revision: revision}
	if document != "" {
		ev.New = put(revision, document)
	}
	return ev
}

// held is a Map's values by name.
func held(list []*MapEntry[int]) map[string]int {
	out := map[string]int{}
	for _, e := range list {
		out[e.Name] = e.Value
	}
	return out
}

// apply makes a difference to values by name, and fails the test if it does not begin where they are.
func (d *MapDiff[T]) apply(t *testing.T, to map[string]T, equal func(a, b T) bool) {
	t.Helper()
	for _, e := range d.Removed {
		if was, there := to[e.Name]; !there || !equal(was, e.Value) {
			t.Fatalf("%s is removed as %v, and was %v", e.Name, e.Value, was)
		}
		delete(to, e.Name)
	}
	for _, c := range d.Changed {
		if was, there := to[c.Before.Name]; !there || !equal(was, c.Before.Value) {
			t.Fatalf("%s changes from %v, and was %v", c.Before.Name, c.Before.Value, was)
		}
		to[c.After.Name] = c.After.Value
	}
	for _, e := range d.Added {
		if was, there := to[e.Name]; there {
			t.Fatalf("%s is added, and was %v", e.Name, was)
		}
		to[e.Name] = e.Value
	}
}

// Whatever happens to the keys, and however much of it is taken at once: the Map is the newest good documents, in order, and
// the differences lead there.
func TestAMapIsTheNewestGoodDocuments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 100 {
		m := newMap("tenants", &Options[int]{Codec: decimal{}, Validate: positive})
		var (
			good, told = map[string]int{}, map[string]int{}
			bad        = map[string]bool{}
			newest     = map[string]string{} // what is not taken yet
			before     []*MapEntry[int]
			state      = *m.current.Ptr()
		)
		m.inbox.Changed(follow.Change{Initial: true, Revision: 1})
		m.inbox.Live()
		for revision := int64(2); revision < 60; revision++ {
			c := follow.Change{Revision: revision}
			for range 1 + rng.IntN(3) {
				name := "t" + strconv.Itoa(rng.IntN(8))
				document := []string{"", "x", "-1", strconv.Itoa(1 + rng.IntN(100))}[rng.IntN(4)]
				c.Events = append(c.Events, became(name, revision, document))
				newest[name] = document
			}
			m.inbox.Changed(c)
			if rng.IntN(3) > 0 {
				continue
			}
			p, whole := m.inbox.take()
			if !whole {
				t.Fatal("a change of a Map that is live is not whole")
			}
			for name, document := range newest {
				delete(bad, name)
				n, err := strconv.Atoi(document)
				switch {
				case document == "":
					delete(good, name)
				case err != nil || n < 0:
					bad[name] = true
				default:
					good[name] = n
				}
			}
			clear(newest)
			state, _ = m.judge.next(t.Context(), &state, p)
			if got := held(state.entries); !maps.Equal(got, good) || state.revision != revision {
				t.Fatalf("holds %v at %d, want %v at %d", got, state.revision, good, revision)
			}
			if !slices.IsSortedFunc(state.entries, func(a, b *MapEntry[int]) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("%v is not in order", state.entries)
			}
			for name := range bad {
				if !strings.Contains(fmt.Sprint(state.err), strconv.Quote(name)) {
					t.Fatalf("%s is bad, and Err is: %v", name, state.err)
				}
			}
			if (state.err != nil) != (len(bad) > 0) || len(bad) > 0 && !errors.Is(state.err, ErrRefused) {
				t.Fatalf("%d are bad, and Err is: %v", len(bad), state.err)
			}
			if rng.IntN(2) == 0 { // not every reader takes every step
				d := diffEntries(before, state.entries)
				before = state.entries
				d.apply(t, told, func(a, b int) bool { return a == b })
				if !maps.Equal(told, good) {
					t.Fatalf("told %v, want %v", told, good)
				}
			}
		}
	}
}

// A slow Validate holds up its own Map, and of every key that changes meanwhile the newest document is looked at.
func TestASlowValidateOfAMapLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var validated []int
		m := runningMap(t, &Options[int]{Codec: decimal{}, Validate: func(n int) error {
			validated = append(validated, n)
			if n == 1 {
				<-release
			}
			return nil
		}})
		m.inbox.Changed(follow.Change{Initial: true, Revision: 1, Events: []follow.Event{became("gone", 1, "9")}})
		m.inbox.Live()
		synctest.Wait()
		m.inbox.Changed(follow.Change{Revision: 2, Events: []follow.Event{became("a", 2, "1")}})
		synctest.Wait()
		for n := range int64(10) {
			m.inbox.Changed(follow.Change{Revision: 3 + n, Events: []follow.Event{
				became("a", 3+n, strconv.Itoa(int(20+n))), became("b", 3+n, strconv.Itoa(int(30+n))),
			}})
		}
		m.inbox.Changed(follow.Change{Revision: 13, Events: []follow.Event{became("gone", 13, "")}})
		m.inbox.Stale(errCut)
		m.inbox.Live()
		synctest.Wait()
		if err := m.Err(); !errors.Is(err, ErrNotCurrent) || !strings.Contains(err.Error(), "being checked") {
			t.Errorf("while Validate runs: %v", err)
		}
		close(release)
		synctest.Wait()
		want := map[string]int{"a": 29, "b": 39}
		if got := held(m.current.Ptr().entries); !maps.Equal(got, want) || m.Err() != nil {
			t.Errorf("got %v, %v; want %v", got, m.Err(), want)
		}
		if !slices.Equal(validated, []int{9, 1, 29, 39}) {
			t.Errorf("validated %v", validated)
		}
	})
}

// What a single member knew is replaced by what etcd has: only what differs is read, and what it does not have is gone.
// It does not matter whether the old documents had been looked at by then.
func TestWhatASingleMemberKnewIsReplaced(t *testing.T) {
	for name, slow := range map[string]bool{"looked at": false, "not looked at yet": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.DebugLevel)
				var decoded atomic.Int64
				m := newMap("tenants", &Options[int]{Codec: decimal{}, Logger: zap.New(core), Validate: func(int) error {
					decoded.Add(1)
					return nil
				}})
				m.life, m.cancel = context.WithCancel(context.Background())
				defer func() { m.cancel(); <-m.done }()
				var old []*follow.Entry
				for key, document := range map[string]string{"goes": "1", "stays": "2", "changes": "3"} {
					kv := put(5, document)
					kv.Key = []byte("tenants/" + key)
					old = append(old, kv)
				}
				m.inbox.begin(old, 6)
				if !slow {
					go m.run()
					synctest.Wait()
					s := m.current.Ptr()
					if len(s.entries) != 3 || s.revision != 6 || !errors.Is(m.Err(), ErrNotCurrent) {
						t.Errorf("%v at %d, %v", held(s.entries), s.revision, m.Err())
					}
				}
				m.inbox.Changed(follow.Change{Initial: true, Revision: 9, Events: []follow.Event{
					became("changes", 8, "4"), became("new", 9, "5"), became("stays", 5, "2"),
				}})
				if slow {
					go m.run()
				}
				synctest.Wait()
				if _, whole := m.Get("new"); whole {
					t.Error("what ends an interruption is shown before its end")
				}
				m.inbox.Live()
				synctest.Wait()
				want := map[string]int{"stays": 2, "changes": 4, "new": 5}
				if got := held(m.current.Ptr().entries); !maps.Equal(got, want) || m.Err() != nil {
					t.Errorf("got %v, %v; want %v", got, m.Err(), want)
				}
				if n := decoded.Load(); n != 5 && !slow || n != 3 && slow {
					t.Errorf("%d documents read", n)
				}
				m.inbox.begin(old, 6) // late
				synctest.Wait()
				if got := held(m.current.Ptr().entries); !maps.Equal(got, want) {
					t.Errorf("an old answer is taken: %v", got)
				}
				if n := logs.FilterMessage("document not taken").Len(); n != 0 {
					t.Errorf("%d refusals logged", n)
				}
			})
		})
	}
}

// Each document that is refused is logged once, however often the follower speaks, and Err names ten.
func TestManyRefusedDocumentsAreLoggedOnceAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		m := runningMap(t, &Options[int]{Codec: decimal{}, Logger: zap.New(core)})
		c := follow.Change{Initial: true, Revision: 1}
		for n := range 50 {
			c.Events = append(c.Events, became(fmt.Sprintf("t%02d", n), 1, "x"))
		}
		c.Events = append(c.Events, became("good", 1, "7"), became(strings.Repeat("é", maxShown), 1, "x"))
		m.inbox.Changed(c)
		m.inbox.Live()
		for range 3 {
			synctest.Wait()
			m.inbox.Stale(errCut)
			synctest.Wait()
			m.inbox.Live()
		}
		m.inbox.Changed(follow.Change{Revision: 2, Events: []follow.Event{became("good", 2, "x")}})
		synctest.Wait()
		err := m.Err()
		if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines != maxRefused+1 || !strings.Contains(err.Error(), "of 42 more keys") {
			t.Errorf("%d lines: %v", lines, err)
		}
		if !strings.Contains(err.Error(), `"good" at revision 2: `) || !strings.Contains(err.Error(), "the document of revision 1 stays in use") {
			t.Errorf("Err is: %v", err)
		}
		if n := logs.FilterMessage("document not taken").Len(); n != 52 {
			t.Errorf("%d refusals logged, of 52 documents", n)
		}
		for _, entry := range logs.All() {
			if text := fmt.Sprint(entry.ContextMap()); len(text) > 600 || entry.ContextMap()["prefix"] != "tenants" {
				t.Errorf("logged: %s", text)
			}
		}
		if v, there := m.Get("good"); v != 7 || !there {
			t.Errorf("the last good one is %d, %t", v, there)
		}
	})
}

func TestOpenMapRefusesWhatItNeedsNoEtcdFor(t *testing.T) {
	for prefix, rule := range map[string]string{"": "empty", "tenants/": "ends in a slash", "a//b": "empty segment"} {
		if _, err := OpenMap[int](t.Context(), nil, prefix, nil); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
	for rule, opts := range map[string]*Options[int]{
		"Default":  {Default: new(int)},
		"CacheDir": {CacheDir: t.TempDir()},
		"Identity": {Identity: Identity{ID: "a"}},
	} {
		_, err := OpenMap(t.Context(), nil, "tenants", opts)
		if err == nil || !strings.Contains(err.Error(), rule+" refused") || !strings.Contains(err.Error(), "tenants") {
			t.Errorf("with %s: %v", rule, err)
		}
	}
}

// tenants returns a Map of n keys that is live.
func tenants(t testing.TB, n int) *Map[int] {
	m := newMap("tenants", &Options[int]{Codec: decimal{}})
	c := follow.Change{Initial: true, Revision: 1}
	for i := range n {
		c.Events = append(c.Events, became(fmt.Sprintf("tenant-%05d", i), 1, strconv.Itoa(i)))
	}
	m.inbox.Changed(c)
	m.inbox.Live()
	m.step(t)
	return m
}

// step takes in what is written down.
func (m *Map[T]) step(t testing.TB) {
	p, whole := m.inbox.take()
	s, done := m.judge.next(t.Context(), m.current.Ptr(), p)
	if !whole || !done {
		t.Fatal("not taken in")
	}
	m.current.Set(s)
}

func TestGetOfALargeMapDoesNotAllocate(t *testing.T) {
	m := tenants(t, 10_000)
	if n := testing.AllocsPerRun(1000, func() { sink.int, _ = m.Get("tenant-04711") }); n != 0 || sink.int != 4711 {
		t.Errorf("Get of %d allocates %v times", sink.int, n)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = m.Err() }); n != 0 {
		t.Errorf("Err allocates %v times", n)
	}
	before := m.current.Ptr().entries
	m.inbox.Changed(follow.Change{Revision: 2, Events: []follow.Event{became("tenant-04711", 2, "7")}})
	m.step(t)
	after := m.current.Ptr().entries
	kept := 0
	for i := range after {
		if after[i] == before[i] {
			kept++
		}
	}
	if kept != 9_999 {
		t.Errorf("%d of 10,000 entries are kept by a change of one", kept)
	}
}

func BenchmarkMap(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		m := tenants(b, n)
		name := fmt.Sprintf("tenant-%05d", n/2)
		b.Run(fmt.Sprintf("get/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink.int, _ = m.Get(name)
			}
		})
		b.Run(fmt.Sprintf("change/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for revision := int64(2); b.Loop(); revision++ {
				before := m.current.Ptr().entries
				m.inbox.Changed(follow.Change{Revision: revision, Events: []follow.Event{became(name, revision, "7")}})
				m.step(b)
				if d := diffEntries(before, m.current.Ptr().entries); len(d.Changed) != 1 {
					b.Fatal(d)
				}
			}
		})
	}
}
