package config

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// running returns a Value without a follower, that is told what etcd has through the observer.
func running(t *testing.T, opts *Options[int]) (*Value[int], listener) {
	v := unfollowed("port", opts)
	life, cancel := context.WithCancel(t.Context())
	v.work.Go(func() { v.run(life) })
	t.Cleanup(func() { cancel(); v.work.Wait() })
	return v, listener{v.ear, &v.ear.keys}
}

// unfollowed returns a Value that hears nothing by itself.
func unfollowed[T any](key string, opts *Options[T]) *Value[T] {
	v := newValue(key, opts)
	v.reader.form = document(opts.Codec, nil, "")
	v.listen(layout{key})
	return v
}

// step is a change of the key, or its absence for a nil document.
func step(revision int64, document *follow.Entry) follow.Change {
	return follow.Change{Revision: revision, Events: []follow.Event{{Key: "port", New: document}}}
}

// What a slow Validate holds up is its own Value: the follower goes on, Err says that Get is not what etcd has, and
// of what came meanwhile only the newest is looked at.
func TestASlowValidateHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var validated []int
		v, etcd := running(t, &Options[int]{Codec: decimal{}, Validate: func(n int) error {
			validated = append(validated, n)
			if n == 2 {
				<-release
			}
			return nil
		}})
		etcd.Changed(step(1, put(1, "1")))
		etcd.Live()
		synctest.Wait()
		if v.Get() != 1 || v.Err() != nil {
			t.Fatalf("got %d, %v", v.Get(), v.Err())
		}
		for revision, document := range []string{2: "2", 3: "3", 4: "4"} {
			if document != "" {
				etcd.Changed(step(int64(revision), put(int64(revision), document)))
				synctest.Wait()
			}
		}
		if err := v.Err(); v.Get() != 1 || !errors.Is(err, ErrNotCurrent) || !strings.Contains(err.Error(), "being checked") {
			t.Errorf("while Validate runs: %d, %v", v.Get(), err)
		}
		close(release)
		synctest.Wait()
		if v.Get() != 4 || v.Err() != nil {
			t.Errorf("when Validate has returned: %d, %v", v.Get(), v.Err())
		}
		if len(validated) != 3 {
			t.Errorf("validated %v, want 1, 2 and 4", validated)
		}
	})
}

// A step may hold several events of the key, and the last of them is what etcd has.
func TestTheLastEventOfAStepCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, etcd := running(t, &Options[int]{Codec: decimal{}})
		etcd.Changed(follow.Change{Initial: true, Revision: 9, Events: []follow.Event{{Key: "port", New: put(5, "1")}}})
		etcd.Live()
		etcd.Changed(follow.Change{Revision: 12, Events: []follow.Event{
			{Key: "port", New: put(10, "x")},
			{Key: "port"},
			{Key: "port", New: put(12, "2")},
		}})
		synctest.Wait()
		if v.Get() != 2 || v.Err() != nil {
			t.Errorf("got %d, %v", v.Get(), v.Err())
		}
	})
}

// The first word about a key that does not exist has no events.
func TestAnInitialChangeWithoutEventsIsAnAbsentKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		initial := 7
		v, etcd := running(t, &Options[int]{Codec: decimal{}, Default: &initial})
		if err := v.Err(); !errors.Is(err, ErrNotCurrent) {
			t.Errorf("before the first word: %v", err)
		}
		etcd.Changed(follow.Change{Initial: true, Revision: 9})
		etcd.Live()
		synctest.Wait()
		if err := v.Err(); v.Get() != 7 || !errors.Is(err, ErrAbsent) {
			t.Errorf("got %d, %v", v.Get(), err)
		}
	})
}

// Retries of the follower are repeated words, and no news.
func TestOnlyWhatChangesIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		_, etcd := running(t, &Options[int]{Codec: decimal{}, Logger: zap.New(core)})
		for _, happens := range []func(){
			func() { etcd.Changed(follow.Change{Initial: true, Revision: 1}) },
			etcd.Live,
			func() { etcd.Changed(step(5, put(5, "80"))) },
			func() { etcd.Changed(step(6, put(6, "x"))) },
			func() { etcd.Stale(errCut) },
			func() { etcd.Stale(errCut) },
			func() { etcd.Stale(errors.New("another reason")) },
			etcd.Live,
			etcd.Live,
			func() { etcd.Changed(step(7, nil)) },
		} {
			happens()
			synctest.Wait()
		}
		want := []string{
			"config not taken", "config taken", "config not taken", "config not current", "config current again", "config not taken",
		}
		var got []string
		for _, entry := range logs.All() {
			got = append(got, entry.Message)
			if entry.ContextMap()["key"] != "port" {
				t.Errorf("%q does not name the key", entry.Message)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

func TestOpenRefusesWhatItNeedsNoEtcdFor(t *testing.T) {
	open := func(key string, initial int) error {
		_, err := Open(t.Context(), nil, key, &Options[int]{Default: &initial, Validate: positive})
		return err
	}
	for key, rule := range map[string]string{
		"":           "empty",
		"config/":    "ends in a slash",
		"/":          "ends in a slash",
		"a//b":       "empty segment",
		"a/../b":     `".."`,
		"config\x00": "control character",
		"config\xff": "control character",
	} {
		if err := open(key, 1); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("key %q: %v", key, err)
		}
	}
	if err := open("config", -1); err == nil || !strings.Contains(err.Error(), "must be positive") {
		t.Errorf("a default that Validate refuses: %v", err)
	}
}

func TestGetAndErrDoNotAllocate(t *testing.T) {
	v := unfollowed("limits", &Options[limits]{Default: &limits{}})
	if n := testing.AllocsPerRun(1000, func() { sink.limits = v.Get() }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = v.Err() }); n != 0 {
		t.Errorf("Err allocates %v times", n)
	}
}

// limits is a value of 64 bytes, as programs have them: two strings, a slice and a number.
type limits struct {
	Addr, Level string
	Tags        []string
	Rate        int
}

// sink keeps the compiler from leaving out what is measured.
var sink struct {
	int    int
	limits limits
}

func BenchmarkGet(b *testing.B) {
	b.Run("bytes=8", func(b *testing.B) {
		v := unfollowed("port", &Options[int]{Default: new(int)})
		var got int
		b.ReportAllocs()
		for b.Loop() {
			got = v.Get()
		}
		sink.int = got
	})
	b.Run("bytes=64", func(b *testing.B) {
		v := unfollowed("limits", &Options[limits]{Default: &limits{}})
		var got limits
		b.ReportAllocs()
		for b.Loop() {
			got = v.Get()
		}
		sink.limits = got
	})
}
