package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// store opens a Store.
func store(t testing.TB, cli *clientv3.Client, opts *config.StoreOptions) *config.Store {
	t.Helper()
	s, err := config.NewStore(cli, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// must is a result that comes without an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// publish publishes a value.
func publish(t testing.TB, s *config.Store, key, value string) config.Version {
	t.Helper()
	return must[config.Version](t)(s.Publish(t.Context(), key, []byte(value), config.PublishOptions{}))
}

// told is a history in short, oldest first: kind and value of each version, and how many changes were missed before it.
func told(t testing.TB, s *config.Store, key string) []string {
	t.Helper()
	versions := must[[]config.Version](t)(s.History(t.Context(), key, 0))
	slices.Reverse(versions)
	var short []string
	for i, v := range versions {
		if i > 0 && v.Number != versions[i-1].Number+1 {
			t.Errorf("version %d comes after %d", v.Number, versions[i-1].Number)
		}
		if v.Key != key {
			t.Errorf("version %d is of key %q", v.Number, v.Key)
		}
		text := fmt.Sprintf("%s %s", v.Kind, v.Value)
		if v.Gone() {
			text = fmt.Sprintf("%s, gone", v.Kind)
		}
		if v.Omitted {
			text = fmt.Sprintf("%s, omitted", v.Kind)
		}
		if v.Missed > 0 {
			text += fmt.Sprintf(", missed %d", v.Missed)
		}
		short = append(short, text)
	}
	return short
}

// tells checks a history, as told has it.
func tells(t testing.TB, s *config.Store, key string, want ...string) {
	t.Helper()
	if got := told(t, s, key); !slices.Equal(got, want) {
		t.Errorf("the history is %q, want %q", got, want)
	}
}

func TestEachChangeIsAVersionWithItsAuthor(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	began := time.Now().Add(-time.Millisecond)
	first := must[config.Version](t)(s.Publish(t.Context(), key, []byte("rate: 1"), config.PublishOptions{
		Author: "ada", Reason: "a <first> try\nof two", Expect: config.Absent,
	}))
	second := must[config.Version](t)(s.Update(t.Context(), key, func(old []byte) ([]byte, error) {
		return append(old, '0'), nil
	}, config.PublishOptions{Author: "bob", Expect: first.Revision}))
	third := must[config.Version](t)(s.Delete(t.Context(), key, config.PublishOptions{Author: "eve", Reason: "not needed"}))
	fourth := must[config.Version](t)(s.Rollback(t.Context(), key, 1, config.PublishOptions{Author: "ada", Reason: "needed"}))
	fifth := must[config.Version](t)(s.Rollback(t.Context(), key, third.Number, config.PublishOptions{}))
	sixth := must[config.Version](t)(s.Update(t.Context(), key, func(old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("the value of a key that does not exist is %q", old)
		}
		return []byte{}, nil
	}, config.PublishOptions{Expect: config.Absent}))

	want := []config.Version{sixth, fifth, fourth, third, second, first}
	history := must[[]config.Version](t)(s.History(t.Context(), key, 0))
	if fmt.Sprintf("%+v", history) != fmt.Sprintf("%+v", want) {
		t.Errorf("the history is\n%+v, want what was returned:\n%+v", history, want)
	}
	for i, v := range want {
		if v.Number != int64(len(want)-i) || v.Time.Before(began) || v.Time.After(time.Now()) || v.Key != key {
			t.Errorf("version %d is %+v", len(want)-i, v)
		}
		if i > 0 && v.Revision >= want[i-1].Revision {
			t.Errorf("version %d has revision %d, the next %d", v.Number, v.Revision, want[i-1].Revision)
		}
	}
	tells(t, s, key, "published rate: 1", "published rate: 10", "deleted, gone", "rolled back rate: 1", "rolled back, gone", "published ")
	if first.Author != "ada" || first.Reason != "a <first> try\nof two" || fourth.Of != 1 || fifth.Of != 3 || sixth.Gone() {
		t.Errorf("%+v, %+v, %+v, %+v", first, fourth, fifth, sixth)
	}
	resp, err := cli.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 || len(resp.Kvs[0].Value) != 0 || resp.Kvs[0].ModRevision != sixth.Revision {
		t.Errorf("the key holds %v, %v", resp, err)
	}
	for _, limit := range []int{1, 2, 6, 7} {
		some := must[[]config.Version](t)(s.History(t.Context(), key, limit))
		if fmt.Sprint(some) != fmt.Sprint(want[:min(limit, len(want))]) {
			t.Errorf("%d versions are %+v", limit, some)
		}
	}
	if v := must[config.Version](t)(s.Version(t.Context(), key, 2)); fmt.Sprint(v) != fmt.Sprint(second) {
		t.Errorf("version 2 is %+v", v)
	}
	if v := must[config.Version](t)(s.Get(t.Context(), key)); fmt.Sprint(v) != fmt.Sprint(sixth) {
		t.Errorf("the key is at %+v", v)
	}
}

// The layout is a contract: docs/keys.md.
func TestTheHistoryIsKeptAsTheContractSays(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), "/"+etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	document := "binary \x00\xff\nand a second line"
	v := must[config.Version](t)(s.Publish(t.Context(), key, []byte(document), config.PublishOptions{Author: "a&b", Reason: "why"}))
	resp, err := cli.Get(t.Context(), "etcdkit/config/"+key+"//", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 2 {
		t.Fatal(resp, err)
	}
	head, entry := resp.Kvs[0], resp.Kvs[1]
	if string(head.Key) != "etcdkit/config/"+key+"//head" || string(entry.Key) != "etcdkit/config/"+key+"//history/00000000000000000001" {
		t.Errorf("the keys are %q, %q", head.Key, entry.Key)
	}
	if head.ModRevision != v.Revision || entry.ModRevision != v.Revision {
		t.Errorf("written at %d and %d, the value at %d", head.ModRevision, entry.ModRevision, v.Revision)
	}
	if string(head.Value) != `{"version":1,"oldest":1,"current":1,"writes":1}`+"\n" {
		t.Errorf("the head is %s", head.Value)
	}
	line, rest, _ := bytes.Cut(entry.Value, []byte("\n"))
	if string(rest) != document || !strings.HasPrefix(string(line), `{"version":1,"id":"`) ||
		!strings.HasSuffix(string(line), `","kind":"published","author":"a&b","reason":"why","time":"`+v.Time.Format(time.RFC3339Nano)+`"}`) {
		t.Errorf("the entry is %q", entry.Value)
	}
}

func TestWhatIsThereAlreadyIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli, key := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), etcdtest.Prefix(t)+"level"
	s := store(t, cli, nil)
	v := publish(t, s, key, "info")
	for name, again := range map[string]func() (config.Version, error){
		"Publish": func() (config.Version, error) {
			return s.Publish(t.Context(), key, []byte("info"), config.PublishOptions{Author: "another", Expect: v.Revision})
		},
		"Update": func() (config.Version, error) {
			return s.Update(t.Context(), key, func(old []byte) ([]byte, error) { return old, nil }, config.PublishOptions{})
		},
		"Rollback": func() (config.Version, error) { return s.Rollback(t.Context(), key, 1, config.PublishOptions{}) },
	} {
		if got := must[config.Version](t)(again()); fmt.Sprint(got) != fmt.Sprint(v) {
			t.Errorf("%s of what is there returns %+v, want %+v", name, got, v)
		}
	}
	tells(t, s, key, "published info")
	put(t, cli, key, "warn")
	if got := publish(t, s, key, "warn"); got.Kind != config.Outside || got.Number != 2 {
		t.Errorf("what others have put already: %+v", got)
	}
	gone := must[config.Version](t)(s.Delete(t.Context(), key, config.PublishOptions{}))
	if got := must[config.Version](t)(s.Rollback(t.Context(), key, gone.Number, config.PublishOptions{})); fmt.Sprint(got) != fmt.Sprint(gone) {
		t.Errorf("rolled back to the deletion: %+v, want %+v", got, gone)
	}
	if _, err := s.Delete(t.Context(), key, config.PublishOptions{}); !errors.Is(err, config.ErrAbsent) {
		t.Errorf("deleted again: %v", err)
	}
	tells(t, s, key, "published info", "outside warn", "deleted, gone")
}
