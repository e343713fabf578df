package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	serverconfig "go.etcd.io/etcd/server/v3/config"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestWhatOthersWriteEntersTheHistory(t *testing.T) {
	t.Parallel()
	// p publishes, u puts by other means, d deletes so, l looks at the history.
	for steps, want := range map[string][]string{
		"u":          {"outside 1"},
		"uuu":        {"outside 3, missed 2"},
		"ud":         nil, // nobody has seen it
		"up":         {"outside 1", "published 2"},
		"uudup":      {"outside 4", "published 5"},
		"pu":         {"published 1", "outside 2"},
		"puu":        {"published 1", "outside 3, missed 1"},
		"puuup":      {"published 1", "outside 4, missed 2", "published 5"},
		"pdp":        {"published 1", "outside, gone", "published 3"},
		"pd":         {"published 1", "outside, gone"},
		"pdu":        {"published 1", "outside 3, missed 1"},
		"pudu":       {"published 1", "outside 4, missed 1"},
		"pduuu":      {"published 1", "outside 5, missed 3"},
		"pduuupdu":   {"published 1", "outside 5, missed 3", "published 6", "outside 8, missed 1"},
		"pdlulup":    {"published 1", "outside, gone", "outside 4", "outside 6", "published 7"},
		"plululll":   {"published 1", "outside 3", "outside 5"},
		"pdludlduu":  {"published 1", "outside, gone", "outside 9, missed 1"}, // of the 4 nothing is left to be seen
		"ppuppuulup": {"published 1", "published 2", "outside 3", "published 4", "published 5", "outside 7, missed 1", "outside 9", "published 10"},
	} {
		t.Run(steps, func(t *testing.T) {
			t.Parallel()
			cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
			s := store(t, cli, nil)
			value := ""
			for n, step := range steps {
				switch step {
				case 'p':
					value = fmt.Sprint(n + 1)
					publish(t, s, key, value)
				case 'u':
					value = fmt.Sprint(n + 1)
					put(t, cli, key, value)
				case 'd':
					if _, err := cli.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
					value = ""
				case 'l':
					told(t, s, key)
				}
			}
			got, err := s.Get(t.Context(), key)
			if string(got.Value) != value || (value == "") != errors.Is(err, config.ErrAbsent) {
				t.Errorf("the key is %+v, %v, want %q", got, err, value)
			}
			tells(t, s, key, want...)
			tells(t, s, key, want...)
			if resp, err := cli.Get(t.Context(), key); err != nil || len(resp.Kvs) > 0 && (string(resp.Kvs[0].Value) != value || resp.Kvs[0].ModRevision != got.Revision) {
				t.Errorf("the key holds %v, %v; Get says %+v", resp, err, got)
			}
		})
	}
}

// The same bytes put again are a change all the same: who put them wanted something.
func TestTheSameValuePutByOthersIsAVersion(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	publish(t, s, key, "info")
	at := put(t, cli, key, "info")
	tells(t, s, key, "published info", "outside info")
	if v := must[config.Version](t)(s.Get(t.Context(), key)); v.Revision != at || v.Author != "" || v.Number != 2 {
		t.Errorf("it is at %+v, put as %d", v, at)
	}
}

func TestAValueThatIsTooLargeToBeKeptIsInTheHistoryWithoutIt(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"document"
	s := store(t, cli, nil)
	publish(t, s, key, "small")
	large := strings.Repeat("x", config.MaxPublished+1)
	put(t, cli, key, large)
	v := must[config.Version](t)(s.Get(t.Context(), key))
	if string(v.Value) != large || v.Number != 2 || v.Kind != config.Outside {
		t.Errorf("the key is version %d, %s, with %d bytes", v.Number, v.Kind, len(v.Value))
	}
	tells(t, s, key, "published small", "outside, omitted")
	if _, err := s.Rollback(t.Context(), key, 2, config.PublishOptions{}); !errors.Is(err, config.ErrNoVersion) || !strings.Contains(err.Error(), "was not kept") {
		t.Errorf("rolled back to it: %v", err)
	}
	if _, err := s.Diff(t.Context(), key, 1, 2); !errors.Is(err, config.ErrNoVersion) {
		t.Errorf("compared with it: %v", err)
	}
	must[config.Version](t)(s.Rollback(t.Context(), key, 1, config.PublishOptions{}))
	put(t, cli, key, large[1:]) // just not too large
	tells(t, s, key, "published small", "outside, omitted", "rolled back small", "outside "+large[1:])
}

// Whoever cleans up too much deletes heads, and whole histories. What is left of them is gone on with.
func TestAHeadThatIsGoneIsMadeAnewFromTheHistory(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	for n := range 3 {
		publish(t, s, key, fmt.Sprint(n+1))
	}
	remove(t, cli, "etcdkit/config/"+key+"//head")
	tells(t, s, key, "published 1", "published 2", "published 3", "outside 3")
	remove(t, cli, "etcdkit/config/"+key+"//head")
	publish(t, s, key, "5")
	tells(t, s, key, "published 1", "published 2", "published 3", "outside 3", "outside 3", "published 5")
	if _, err := cli.Delete(t.Context(), "etcdkit/config/"+key+"//", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	tells(t, s, key, "outside 5, missed 3")

	put(t, cli, "etcdkit/config/"+key+"//history/00000000000000000001", "scribbled over")
	history := must[[]config.Version](t)(s.History(t.Context(), key, 0))
	if len(history) != 1 || history[0].Kind != config.Malformed || history[0].Number != 1 || history[0].Gone() {
		t.Errorf("an entry that others wrote over: %+v", history)
	}
	if _, err := s.Rollback(t.Context(), key, 1, config.PublishOptions{}); !errors.Is(err, config.ErrNoVersion) {
		t.Errorf("rolled back to it: %v", err)
	}
	publish(t, s, key, "6")
	put(t, cli, "etcdkit/config/"+key+"//head", "scribbled over")
	if _, err := s.Publish(t.Context(), key, []byte("7"), config.PublishOptions{}); err == nil || !strings.Contains(err.Error(), "its head in etcd is malformed; delete it") {
		t.Errorf("a head that others wrote over: %v", err)
	}
}

// nacos#434, nacos#2374, nacos#7676: a rollback deleted the configuration, or lost it.
func TestARollbackIsAForwardVersionAndLosesNothing(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, &config.StoreOptions{Keep: 4})
	publish(t, s, key, "1")
	publish(t, s, key, "2")
	publish(t, s, key, "3")
	v := must[config.Version](t)(s.Rollback(t.Context(), key, 1, config.PublishOptions{Author: "ada", Reason: "3 is bad"}))
	if v.Number != 4 || v.Kind != config.RolledBack || v.Of != 1 || string(v.Value) != "1" || v.Author != "ada" {
		t.Errorf("rolled back: %+v", v)
	}
	v = must[config.Version](t)(s.Rollback(t.Context(), key, 3, config.PublishOptions{}))
	if v.Number != 5 || string(v.Value) != "3" {
		t.Errorf("and forward again: %+v", v)
	}
	tells(t, s, key, "published 2", "published 3", "rolled back 1", "rolled back 3")
	for number, says := range map[int64]string{
		1: "no such version: 1; the oldest that is kept is 2, the newest is 5", 6: "no such version: 6", -1: "no such version: -1", 0: "no such version: 0",
	} {
		_, err := s.Rollback(t.Context(), key, number, config.PublishOptions{})
		if !errors.Is(err, config.ErrNoVersion) || !strings.Contains(err.Error(), says) {
			t.Errorf("rolled back to %d: %v, want %q", number, err, says)
		}
	}
	if v := must[config.Version](t)(s.Get(t.Context(), key)); string(v.Value) != "3" {
		t.Errorf("after rollbacks that failed: %+v", v)
	}
	if _, err := s.Rollback(t.Context(), key+"2", 1, config.PublishOptions{}); !errors.Is(err, config.ErrNoVersion) || !strings.Contains(err.Error(), "no history") {
		t.Errorf("rolled back what never was: %v", err)
	}
	// Deleted by others, it comes back from the history.
	remove(t, cli, key)
	must[config.Version](t)(s.Rollback(t.Context(), key, 5, config.PublishOptions{}))
	tells(t, s, key, "rolled back 1", "rolled back 3", "outside, gone", "rolled back 3")
	strict := store(t, cli, &config.StoreOptions{Validate: func(_ string, value []byte) error { return fmt.Errorf("too low") }})
	if _, err := strict.Rollback(t.Context(), key, 4, config.PublishOptions{}); !errors.Is(err, config.ErrInvalid) {
		t.Errorf("rolled back to what is not valid any more: %v", err)
	}
}

func TestAsMuchIsKeptAsTheStoreSays(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	all := store(t, cli, &config.StoreOptions{Keep: -1})
	for n := range 150 {
		publish(t, all, key, fmt.Sprint(n+1))
	}
	if got := told(t, all, key); len(got) != 150 {
		t.Errorf("%d versions are kept", len(got))
	}
	s := store(t, cli, nil)
	publish(t, s, key, "151")
	history := must[[]config.Version](t)(s.History(t.Context(), key, 0))
	if len(history) != 100 || history[99].Number != 52 {
		t.Errorf("%d versions are kept, the oldest is %d", len(history), history[len(history)-1].Number)
	}
	resp, err := cli.Get(t.Context(), "etcdkit/config/"+key+"//history/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || resp.Count != 100 {
		t.Errorf("%v, %v", resp, err)
	}
	publish(t, store(t, cli, &config.StoreOptions{Keep: 1}), key, "152")
	tells(t, s, key, "published 152")
}

// Histories are keys, and etcd's compaction takes nothing of the newest state.
func TestACompactionTakesNothingOfTheHistory(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	s := store(t, cli, nil)
	first := publish(t, s, "level", "1")
	publish(t, s, "level", "2")
	must[config.Version](t)(s.Delete(t.Context(), "level", config.PublishOptions{}))
	c.Compact(0)
	tells(t, s, "level", "published 1", "published 2", "deleted, gone")
	v := must[config.Version](t)(s.Rollback(t.Context(), "level", 1, config.PublishOptions{}))
	if string(v.Value) != "1" || must[config.Version](t)(s.Version(t.Context(), "level", 1)).Revision != first.Revision {
		t.Errorf("after the compaction: %+v", v)
	}
	must[config.Diff](t)(s.Diff(t.Context(), "level", 1, 2))
}

func TestAVersionIsFoundByTime(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	if _, err := s.VersionAt(t.Context(), key, time.Now()); !errors.Is(err, config.ErrNoVersion) {
		t.Errorf("of a key that never was: %v", err)
	}
	first := publish(t, s, key, "1")
	var second config.Version
	for n := 0; !second.Time.After(first.Time); n++ {
		second = publish(t, s, key, fmt.Sprint(n+2))
	}
	if v := must[config.Version](t)(s.VersionAt(t.Context(), key, second.Time.Add(-time.Millisecond))); v.Number != second.Number-1 {
		t.Errorf("just before version %d it was %d", second.Number, v.Number)
	}
	if v := must[config.Version](t)(s.VersionAt(t.Context(), key, second.Time)); v.Number != second.Number {
		t.Errorf("at version %d it was %d", second.Number, v.Number)
	}
	_, err := s.VersionAt(t.Context(), key, first.Time.Add(-time.Millisecond))
	if !errors.Is(err, config.ErrNoVersion) || !strings.Contains(err.Error(), "the oldest that is kept is 1") {
		t.Errorf("before the first: %v", err)
	}
}

func TestADiffIsBetweenVersionsOfAKey(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	publish(t, s, key, "rate: 1\nburst: 5\n")
	must[config.Version](t)(s.Publish(t.Context(), key, []byte("rate: 2\nburst: 5\n"), config.PublishOptions{Author: "ada"}))
	put(t, cli, key, "rate: 3\nburst: 5\n")
	d := must[config.Diff](t)(s.Diff(t.Context(), key, 1, 2))
	want := fmt.Sprintf("--- %s version 1, published\n+++ %s version 2, published by ada\n@@ -1,2 +1,2 @@\n-rate: 1\n+rate: 2\n burst: 5\n", key, key)
	if d.String() != want || len(d.Paths) != 1 || d.Paths[0] != (config.PathChange{Path: "rate", Old: "1", New: "2"}) {
		t.Errorf("%v\n%s", d.Paths, d)
	}
	if d := must[config.Diff](t)(s.Diff(t.Context(), key, 1, 0)); d.B.Number != 3 || d.B.Kind != config.Outside || d.Paths[0].New != "3" {
		t.Errorf("to what is there now: %+v", d)
	}
	remove(t, cli, key)
	if d := must[config.Diff](t)(s.Diff(t.Context(), key, 3, 0)); !strings.HasSuffix(d.String(), "-rate: 3\n-burst: 5\n") || d.B.Number != 4 {
		t.Errorf("to what is gone: %s", d)
	}
	if _, err := s.Diff(t.Context(), key, 1, 9); !errors.Is(err, config.ErrNoVersion) || !strings.Contains(err.Error(), ": 9;") {
		t.Errorf("to what is not there: %v", err)
	}
}

// What is published fits into a request together with its history, whatever else there is to say.
func TestTheLargestValueFitsTogetherWithItsHistory(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	s := store(t, cli, &config.StoreOptions{Keep: 1})
	key := "/" + etcdtest.Prefix(t)
	key += strings.Repeat("k", config.MaxKey-len(key))
	o := config.PublishOptions{Author: strings.Repeat("\u2028", config.MaxAuthor/3), Reason: strings.Repeat("\x01", config.MaxReason)}
	for _, fill := range []string{"\x00", "\xff", "\n"} {
		v := must[config.Version](t)(s.Publish(t.Context(), key, []byte(strings.Repeat(fill, config.MaxPublished)), o))
		kept := must[config.Version](t)(s.Version(t.Context(), key, v.Number))
		if string(kept.Value) != string(v.Value) || kept.Reason != o.Reason || kept.Author != o.Author {
			t.Errorf("of %q, %d bytes are kept by %q", fill, len(kept.Value), kept.Author)
		}
	}
	must[config.Version](t)(s.Update(t.Context(), key, func(old []byte) ([]byte, error) { old[0] = 'x'; return old, nil }, o))

	calls.Reset()
	for _, err := range []error{
		second(s.Publish(t.Context(), key, make([]byte, config.MaxPublished+1), o)),
		second(s.Publish(t.Context(), key, nil, o)),
		second(s.Publish(t.Context(), key+"k", []byte("x"), o)),
		second(s.Publish(t.Context(), "a//b", []byte("x"), o)),
	} {
		if err == nil {
			t.Error("it was not refused")
		}
	}
	if calls.Sent() != 0 {
		t.Errorf("what is refused sent %v", calls.Counts())
	}
}

func second[T any](_ T, err error) error { return err }

// A server with a lower limit refuses, and says so.
func TestAServerWithALowerLimitRefuses(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *serverconfig.ServerConfig) { cfg.MaxRequestBytes = 256 << 10 }})
	s := store(t, c.Client(), nil)
	_, err := s.Publish(t.Context(), "level", make([]byte, 200<<10), config.PublishOptions{})
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
	if _, err := s.Get(t.Context(), "level"); !errors.Is(err, config.ErrAbsent) {
		t.Errorf("%v", err)
	}
}
