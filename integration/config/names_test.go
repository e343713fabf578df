package config_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// segments are what names are made of here: those that look like others, begin like others, or mean something elsewhere.
var segments = []string{
	"a", "a2", "ab", "A", "a.", ".", "...", "..a", "..", "", "a b", " ", "+", "%2F", "a%2Fb", "%00", "*", "[a]", "-", "~", "a\x00b", "\x00", "\xff", "a\xff",
	"a\nb", "\u202ea", "\u05d0", "\U0010ffff", "\u00e9", "e\u0301", "etcdkit", "config", "head", "report", "rollout", "plan", "value", ".json", "a.json",
	strings.Repeat("n", 199), strings.Repeat("n", 200), strings.Repeat("n", 10<<10), strings.Repeat("n", 10<<10) + "2",
}

// allowed is the rule for keys, written down once more.
func allowed(key string) bool {
	for s := range strings.SplitSeq(strings.TrimPrefix(key, "/"), "/") {
		if s == "" || s == ".." {
			return false
		}
	}
	return utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl) && !strings.HasPrefix(strings.TrimPrefix(key, "/")+"/", "etcdkit/config/")
}

// adversarial returns names of all kinds.
func adversarial(rng *rand.Rand, many int) map[string]bool {
	names := map[string]bool{}
	for _, name := range []string{"a", "a2", "a/a", "/a", "a/", "", "/", "..", "a//report/a", "etcdkit/config", "etcdkit/config/a", "/etcdkit/config/a", "etcdkit/configs"} {
		names[name] = true
	}
	for len(names) < many {
		name := segments[rng.IntN(len(segments))]
		for range rng.IntN(3) {
			name += "/" + segments[rng.IntN(len(segments))]
		}
		names[name] = true
	}
	return names
}

// F19: whatever a key is called, either it is refused and nothing sent, or what is followed, reported, rolled out and copied to disk is
// that key's, and no other's.
func TestNoKeyLeadsToAnothersDocument(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seeded(t), 0))
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	var calls etcdtest.Calls // of what is refused
	refusing := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	dir := t.TempDir()
	opts := func(id string) *config.Options[string] {
		return &config.Options[string]{CacheDir: dir, Identity: config.Identity{ID: id, Labels: map[string]string{"tier": "canary"}}}
	}
	var keys []string
	refused := 0
	for name := range adversarial(rng, 100) {
		if allowed(name) {
			keys = append(keys, name)
			put(t, oracle, name, "of "+name)
			continue
		}
		refused++
		if v, err := config.Open(t.Context(), refusing, name, opts("a")); err == nil {
			t.Errorf("key %q was taken", name)
			v.Close()
		}
	}
	slices.Sort(keys)
	if n := calls.Sent(); n > 0 {
		t.Errorf("%d calls were sent for what was refused: %v", n, calls.Counts())
	}
	if refused < 10 || len(keys) < 10 {
		t.Fatalf("%d keys refused and %d taken: that proves little", refused, len(keys))
	}

	link := c.Link(0)
	cli := link.Client()
	values := make([]*config.Value[string], len(keys))
	each := func(do func(n int, key string)) {
		var all sync.WaitGroup
		for n, key := range keys {
			all.Go(func() { do(n, key) })
		}
		all.Wait()
	}
	opens := func() {
		each(func(n int, key string) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
			defer cancel()
			var err error
			if values[n], err = config.Open(ctx, cli, key, opts(fmt.Sprint("i", n))); err != nil {
				t.Errorf("key %q: %v", key, err)
			}
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	opens()
	etcdtest.WaitKeys(t, 3*soon, oracle, "", 2*len(keys)) // each and its report
	for n, key := range keys {
		if got := values[n].Get(); got != "of "+key {
			t.Errorf("%q is followed as %q", key, got)
		}
		etcdtest.WaitKey(t, soon, oracle, beside(key)+"report/"+fmt.Sprint("i", n))
	}

	// Every second one changes, and every third of the others is rolled out.
	wanted := make([]string, len(keys))
	for n, key := range keys {
		wanted[n] = "of " + key
		switch {
		case n%2 == 0:
			wanted[n] = "next of " + key
			put(t, oracle, key, wanted[n])
		case n%3 == 0:
			wanted[n] = "rollout of " + key
			rollout(t, oracle, key, "r", wanted[n])
		}
	}
	for n, key := range keys {
		for s := range values[n].Changes(t.Context()) {
			if s.Value == wanted[n] {
				break
			}
			if s.Value != "of "+key {
				t.Fatalf("%q: %q", key, s.Value)
			}
		}
	}
	each(func(n int, _ string) { values[n].Close() })
	link.Cut()
	opens()
	for n, key := range keys {
		want := "of " + key // the value of a rollout is not copied
		if n%2 == 0 {
			want = wanted[n]
		}
		if s := values[n].Snapshot(); s.Value != want || s.Source != config.Disk {
			t.Errorf("%q starts from disk with %+v", key, s)
		}
	}
	each(func(n int, _ string) { values[n].Close() })
}
