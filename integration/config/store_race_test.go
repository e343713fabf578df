package config_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// apollo#1677 and many like it: of those who change a key at the same time, one overwrites what another has just written. Here publishers,
// and those who compute the next value from the one before, meet on one key, each through a client of its own.
func TestOfSixteenWritersAtOnceNoneLosesAnUpdate(t *testing.T) {
	t.Parallel()
	const writers, each = 16, 10
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"set"
	keeper := store(t, cli, &config.StoreOptions{Keep: -1})
	var (
		wait     sync.WaitGroup
		returned = make([][]config.Version, writers)
	)
	for w := range writers {
		client := cli
		if w%4 == 0 {
			client = etcdtest.Client(t)
		}
		s := store(t, client, &config.StoreOptions{Keep: -1})
		wait.Go(func() {
			for n := range each {
				member := fmt.Sprintf("%d.%d", w, n)
				var v config.Version
				var err error
				if w%2 == 0 {
					v, err = s.Update(t.Context(), key, func(old []byte) ([]byte, error) {
						return append(old, " "+member...), nil
					}, config.PublishOptions{Author: strconv.Itoa(w)})
				} else { // the same by hand
					for {
						var now config.Version
						if now, err = s.Get(t.Context(), key); err != nil && !errors.Is(err, config.ErrAbsent) {
							break
						}
						expect := now.Revision
						if errors.Is(err, config.ErrAbsent) {
							expect = config.Absent
						}
						v, err = s.Publish(t.Context(), key, append(now.Value, " "+member...), config.PublishOptions{Author: strconv.Itoa(w), Expect: expect})
						if !errors.Is(err, config.ErrConflict) {
							break
						}
					}
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				returned[w] = append(returned[w], v)
			}
		})
	}
	wait.Wait()

	history := must[[]config.Version](t)(keeper.History(t.Context(), key, 0))
	slices.Reverse(history)
	if len(history) != writers*each {
		t.Fatalf("%d versions of %d writers by %d", len(history), writers, each)
	}
	var before string
	members := make(map[string]bool)
	for i, v := range history {
		if v.Number != int64(i+1) || v.Kind != config.Published || v.Missed != 0 || i > 0 && v.Revision <= history[i-1].Revision {
			t.Fatalf("version %d is %+v", i+1, v)
		}
		added, grew := strings.CutPrefix(string(v.Value), before+" ")
		if !grew || members[added] || !strings.HasPrefix(added, v.Author+".") {
			t.Fatalf("version %d makes %q of %q", v.Number, v.Value, before)
		}
		members[added], before = true, string(v.Value)
	}
	for w, versions := range returned {
		for n, v := range versions {
			if in := history[v.Number-1]; fmt.Sprint(in) != fmt.Sprint(v) || !strings.HasSuffix(string(v.Value), fmt.Sprintf(" %d.%d", w, n)) {
				t.Errorf("writer %d was told %+v, the history says %+v", w, v, in)
			}
		}
	}
}

// Whoever is overtaken tries again, as long as it is all the same to him what was there.
func TestSixteenPublishersAtOnceAllPublish(t *testing.T) {
	t.Parallel()
	const writers, each = 16, 5
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				if _, err := s.Publish(t.Context(), key, fmt.Appendf(nil, "%d.%d", w, n), config.PublishOptions{}); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wait.Wait()
	history := told(t, s, key)
	for w := range writers {
		last := -1
		for n := range each {
			at := slices.Index(history, fmt.Sprintf("published %d.%d", w, n))
			if at <= last {
				t.Errorf("version %d.%d is at %d in %q", w, n, at, history)
			}
			last = at
		}
	}
	if len(history) != writers*each {
		t.Errorf("%d versions", len(history))
	}
}

// Others who know nothing of histories write in between: each of their changes is a version, or is counted as missed.
func TestPublishersAndOthersAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, &config.StoreOptions{Keep: -1})
	var wait sync.WaitGroup
	const writers, each = 4, 25
	var puts atomic.Int64
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				if _, err := s.Publish(t.Context(), key, fmt.Appendf(nil, "p%d.%d", w, n), config.PublishOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Go(func() {
		for n := range each {
			put(t, cli, key, fmt.Sprintf("other %d", n))
			puts.Add(1)
		}
	})
	wait.Wait()
	var published, others int64
	for _, v := range must[[]config.Version](t)(s.History(t.Context(), key, 0)) {
		others += v.Missed
		switch v.Kind {
		case config.Published:
			published++
		case config.Outside:
			others++
		default:
			t.Errorf("a version %+v", v)
		}
	}
	if published != writers*each || others != puts.Load() {
		t.Errorf("%d versions were published of %d, and %d are others' of %d", published, writers*each, others, puts.Load())
	}
}

func TestAnUnexpectedRevisionIsAConflictThatSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	first := publish(t, s, key, "info")
	second := must[config.Version](t)(s.Publish(t.Context(), key, []byte("secret"), config.PublishOptions{Author: "ada"}))
	called := 0
	count := func(old []byte) ([]byte, error) { called++; return append(old, 'x'), nil }
	for name, write := range map[string]func(expect int64) (config.Version, error){
		"Publish": func(e int64) (config.Version, error) {
			return s.Publish(t.Context(), key, []byte("secret"), config.PublishOptions{Expect: e})
		},
		"Update": func(e int64) (config.Version, error) {
			return s.Update(t.Context(), key, count, config.PublishOptions{Expect: e})
		},
		"Delete": func(e int64) (config.Version, error) {
			return s.Delete(t.Context(), key, config.PublishOptions{Expect: e})
		},
		"Rollback": func(e int64) (config.Version, error) {
			return s.Rollback(t.Context(), key, 1, config.PublishOptions{Expect: e})
		},
	} {
		for expect, says := range map[int64]string{first.Revision: fmt.Sprintf("expected revision %d", first.Revision), config.Absent: "expected no such key"} {
			_, err := write(expect)
			var conflict *config.ConflictError
			if !errors.Is(err, config.ErrConflict) || !errors.As(err, &conflict) || conflict.Revision != second.Revision || conflict.Expected != expect {
				t.Fatalf("%s on %d: %v", name, expect, err)
			}
			for _, part := range []string{key, says, fmt.Sprintf("at revision %d, version 2, published by \"ada\"", second.Revision)} {
				if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s on %d: %v, want %q", name, expect, err, part)
				}
			}
		}
	}
	tells(t, s, key, "published info", "published secret")
	remove(t, cli, key)
	_, err := s.Publish(t.Context(), key, []byte("x"), config.PublishOptions{Expect: second.Revision})
	if !errors.Is(err, config.ErrConflict) || !strings.Contains(err.Error(), "it does not exist, version 3, outside") || called != 0 {
		t.Errorf("on a key that is gone: %v, fn was called %d times", err, called)
	}
}

func TestAnUpdateThatFailsWritesNothing(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	publish(t, s, key, "info")
	own := fmt.Errorf("own, and it looks like %w", config.ErrConflict)
	for err, fn := range map[string]func([]byte) ([]byte, error){
		"own, and it looks like": func([]byte) ([]byte, error) { return []byte("x"), own },
		"the value is nil":       func([]byte) ([]byte, error) { return nil, nil },
		"value too large":        func([]byte) ([]byte, error) { return make([]byte, config.MaxPublished+1), nil },
	} {
		called := 0
		_, got := s.Update(t.Context(), key, func(old []byte) ([]byte, error) {
			called++
			old[0] = 'X' // it is the function's own
			return fn(old)
		}, config.PublishOptions{})
		if got == nil || !strings.Contains(got.Error(), err) || called != 1 {
			t.Errorf("%q: %v, called %d times", err, got, called)
		}
	}
	// Overtaken, it is called again on what is there then.
	var seen []string
	v := must[config.Version](t)(s.Update(t.Context(), key, func(old []byte) ([]byte, error) {
		if seen = append(seen, string(old)); len(seen) == 1 {
			publish(t, s, key, "warn")
		}
		return append(old, '+'), nil
	}, config.PublishOptions{}))
	if !slices.Equal(seen, []string{"info", "warn"}) || string(v.Value) != "warn+" {
		t.Errorf("called on %q, and %q is there", seen, v.Value)
	}
	// What it is given is its own, to change in place.
	must[config.Version](t)(s.Update(t.Context(), key, func(old []byte) ([]byte, error) { old[0] = 'W'; return old, nil }, config.PublishOptions{}))
	tells(t, s, key, "published info", "published warn", "published warn+", "published Warn+")
}
