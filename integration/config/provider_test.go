package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/v2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

var _ koanf.Provider = (*config.Provider)(nil)

// jsonParser is a koanf.Parser, as those of koanf's parsers are.
type jsonParser struct{}

func (jsonParser) Unmarshal(text []byte) (tree map[string]any, err error) {
	err = json.Unmarshal(text, &tree)
	return tree, err
}

func (jsonParser) Marshal(tree map[string]any) ([]byte, error) { return json.Marshal(tree) }

// call is one call of a Provider's callback.
type call struct {
	event config.ProviderEvent
	err   error
}

// watching watches a Provider until the test ends.
func watching(t testing.TB, p *config.Provider) <-chan call {
	t.Helper()
	calls := make(chan call, 100)
	if err := p.Watch(func(event any, err error) {
		c := call{err: err}
		if (event != nil) == (err != nil) {
			t.Errorf("called with %v and %v", event, err)
		} else if err == nil {
			c.event = event.(config.ProviderEvent)
		}
		calls <- c
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Unwatch(); err != nil {
			t.Error(err)
		}
	})
	return calls
}

// called waits for a call with an event.
func called(t testing.TB, from <-chan call, revision int64, keys ...string) {
	t.Helper()
	c := etcdtest.Receive(t, soon, "the callback is called", from)
	if c.err != nil || c.event.Revision != revision || !slices.Equal(c.event.Keys, keys) {
		t.Errorf("called with %+v, want %q at %d", c, keys, revision)
	}
}

// toldOf waits for a call with an error.
func toldOf(t testing.TB, from <-chan call, want error) {
	t.Helper()
	c := etcdtest.Receive(t, soon, "the callback is called", from)
	if !errors.Is(c.err, want) {
		t.Errorf("called with %+v, want %v", c, want)
	}
}

// brings makes a change while a watch may be beginning, which is the next thing called for: what was before it is not.
func brings(t testing.TB, cli *clientv3.Client, from <-chan call, key, document string) {
	t.Helper()
	revision := put(t, cli, key, document)
	c := etcdtest.Receive(t, soon, "the callback is called", from)
	if c.err != nil || c.event.Revision < revision || !slices.Contains(c.event.Keys, key) {
		t.Errorf("called with %+v, want %q at %d or later", c, key, revision)
	}
}

// following makes a change, which is the next thing called for.
func following(t testing.TB, cli *clientv3.Client, from <-chan call, key, document string) {
	t.Helper()
	called(t, from, put(t, cli, key, document), key)
}

func TestADocumentIsReadByKoanfAndWatched(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	p := config.NewProvider(cli, key)
	if _, err := p.ReadBytes(); !errors.Is(err, config.ErrAbsent) || !strings.Contains(err.Error(), key) {
		t.Errorf("an absent key: %v", err)
	}
	if _, err := p.Read(); err == nil {
		t.Error("a document is a tree")
	}
	put(t, cli, key, `{"rate": 100, "mail": {"from": "a@b"}}`)
	k := koanf.New(".")
	if err := k.Load(p, jsonParser{}); err != nil || k.Int("rate") != 100 || k.String("mail.from") != "a@b" {
		t.Errorf("%v, %v", err, k.All())
	}
	calls := watching(t, p)
	brings(t, cli, calls, key, `{"rate": 50}`)
	if text, err := p.ReadBytes(); err != nil || string(text) != `{"rate": 50}` {
		t.Errorf("%q, %v", text, err)
	}
	if err := p.Watch(func(any, error) {}); err == nil {
		t.Error("watched twice")
	}
	// Deleted, it is not an empty document.
	remove(t, cli, key)
	toldOf(t, calls, config.ErrAbsent)
	following(t, cli, calls, key, `{"rate": 10}`)
	etcdtest.Nothing(t, 100*time.Millisecond, "a call without a change", calls)

	for range 2 {
		if err := p.Unwatch(); err != nil {
			t.Error(err)
		}
	}
	put(t, cli, key, `{"rate": 5}`)
	etcdtest.Nothing(t, 200*time.Millisecond, "a call after Unwatch", calls)
	following(t, cli, anew(t, watching(t, p)), key, `{"rate": 4}`)
}

// anew takes the call for what has changed between the last read and a watch, or for all if there was no read.
func anew(t testing.TB, calls <-chan call) <-chan call {
	t.Helper()
	if c := etcdtest.Receive(t, soon, "the callback is called for what was missed", calls); c.err != nil {
		t.Errorf("called with %+v", c)
	}
	return calls
}

func TestATreeOfKeysIsReadByKoanfAndWatched(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)+"mail"
	p := config.NewTreeProvider(cli, prefix)
	if tree, err := p.Read(); err != nil || len(tree) != 0 {
		t.Errorf("without keys: %v, %v", tree, err)
	}
	if _, err := p.ReadBytes(); err == nil {
		t.Error("a tree has bytes")
	}
	put(t, cli, prefix+"/database.url", "postgres://")
	put(t, cli, prefix+"/database/pool/size", "10")
	put(t, cli, prefix+"/timeout", "30s")
	put(t, cli, prefix+"2/timeout", "90s")
	k := koanf.New(".")
	if err := k.Load(p, nil); err != nil {
		t.Fatal(err)
	}
	var c struct {
		Database struct {
			URL  string
			Pool struct{ Size int }
		}
		Timeout time.Duration
	}
	if err := k.Unmarshal("", &c); err != nil || c.Database.URL != "postgres://" || c.Database.Pool.Size != 10 || c.Timeout != 30*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
	if k.Int("database.pool.size") != 10 || k.Duration("timeout") != 30*time.Second {
		t.Errorf("%v", k.All())
	}

	calls := watching(t, p)
	brings(t, cli, calls, prefix+"/timeout", "10s")
	put(t, cli, prefix+"2/timeout", "20s")
	called(t, calls, remove(t, cli, prefix+"/timeout"), prefix+"/timeout")
	resp, err := cli.Txn(t.Context()).Then(clientv3.OpPut(prefix+"/b", "1"), clientv3.OpPut(prefix+"/a", "1")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	called(t, calls, resp.Header.Revision, prefix+"/a", prefix+"/b")
	if tree, err := p.Read(); err != nil || tree["timeout"] != nil || !reflect.DeepEqual(tree["database"], map[string]any{
		"url": "postgres://", "pool": map[string]any{"size": "10"},
	}) {
		t.Errorf("%v, %v", tree, err)
	}
	put(t, cli, prefix+"/database/url", "mysql://")
	if tree, err := p.Read(); err == nil || !strings.Contains(err.Error(), "database/url") || strings.Contains(err.Error(), "mysql") {
		t.Errorf("two keys of one name: %v, %v", tree, err)
	}
}

// What changes after it was read and before it is watched was lost by koanf's providers.
func TestNothingIsMissedBetweenReadAndWatch(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	for name, c := range map[string]struct {
		change func(key string)
		gone   bool
		want   int
	}{
		"nothing": {change: func(string) {}},
		"put":     {change: func(key string) { put(t, cli, key, "2") }, want: 1},
		"deleted": {change: func(key string) { remove(t, cli, key) }, want: 1, gone: true},
	} {
		doc, tree := prefix+name+"/doc", prefix+name+"/tree"
		put(t, cli, doc, "1")
		put(t, cli, tree+"/a", "1")
		put(t, cli, tree+"/b", "1")
		one, all := config.NewProvider(cli, doc), config.NewTreeProvider(cli, tree)
		_, err := one.ReadBytes()
		_, err2 := all.Read()
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		c.change(doc)
		c.change(tree + "/a")
		ofOne, ofAll := watching(t, one), watching(t, all)
		for range c.want {
			anew(t, ofAll)
			if c.gone {
				toldOf(t, ofOne, config.ErrAbsent)
			} else {
				anew(t, ofOne)
			}
		}
		if c.want == 0 {
			etcdtest.Nothing(t, 200*time.Millisecond, "a call for a document that was read", ofOne)
			etcdtest.Nothing(t, 200*time.Millisecond, "a call for keys that were read", ofAll)
		}
		brings(t, cli, ofOne, doc, "3") // and no call before
		brings(t, cli, ofAll, tree+"/c", "3")
	}
}

// koanf's etcd provider drops what a watch fails with, and ends with it.
func TestAWatchSaysThatItIsCutOffAndGoesOnAfterwards(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	put(t, etcd, "mail/a", "1")
	p := config.NewTreeProvider(link.Client(), "mail")
	calls := anew(t, watching(t, p))
	following(t, etcd, calls, "mail/a", "2")
	link.Cut()
	toldOf(t, calls, config.ErrNotCurrent)
	if _, err := p.Read(); err == nil {
		t.Error("read while cut off")
	}
	etcdtest.Nothing(t, time.Second, "a call a failed attempt", calls)
	link.Heal()
	called(t, calls, c.Revision()) // all is well again, and nothing has changed

	link.Cut()
	toldOf(t, calls, config.ErrNotCurrent)
	put(t, etcd, "mail/b", "1")
	remove(t, etcd, "mail/a")
	c.Compact(0)
	link.Heal()
	called(t, calls, c.Revision(), "mail/a", "mail/b")
	following(t, etcd, calls, "mail/a", "3")

	c.Stop(0)
	toldOf(t, calls, config.ErrNotCurrent)
	late := watching(t, config.NewTreeProvider(link.Client(), "mail")) // etcd is not waited for
	toldOf(t, late, config.ErrNotCurrent)
	c.Restart(0)
	called(t, calls, c.Revision())
	anew(t, late)
}

func TestAWatchIsToldOfARightThatIsMissing(t *testing.T) {
	c := etcdtest.New(t, nil)
	root := secure(t, c, "port")
	put(t, root, "port", "1")
	reader := c.Dial(clientv3.Config{Username: "reader", Password: "reader"})
	following(t, root, anew(t, watching(t, config.NewProvider(reader, "port"))), "port", "2")
	secret := config.NewProvider(reader, "secret")
	toldOf(t, watching(t, secret), rpctypes.ErrPermissionDenied)
	if _, err := secret.ReadBytes(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("got %v", err)
	}
}

// A callback that takes its time is called once more for all that came meanwhile; and it may end the watching itself.
func TestASlowCallbackMissesNothingAndMayEndTheWatching(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)+"mail"
	put(t, cli, prefix+"/a", "0")
	p := config.NewTreeProvider(cli, prefix)
	begun, release := make(chan any), make(chan struct{})
	if err := p.Watch(func(event any, err error) {
		if err != nil {
			t.Error(err)
		}
		begun <- event
		<-release
		if len(event.(config.ProviderEvent).Keys) == 3 {
			if err := p.Unwatch(); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	etcdtest.Receive(t, soon, "the callback is called", begun)
	var last int64
	for n := range 10 {
		for _, name := range []string{"/c", "/a", "/b"} {
			last = put(t, cli, prefix+name, fmt.Sprint(n))
		}
	}
	m := openMap[int](t, cli, prefix, nil) // of the same view
	caughtUp(t, m, last)
	release <- struct{}{}
	want := config.ProviderEvent{Keys: []string{prefix + "/a", prefix + "/b", prefix + "/c"}, Revision: last}
	if got := etcdtest.Receive(t, soon, "the callback is called again", begun); !reflect.DeepEqual(got, want) {
		t.Errorf("called with %+v, want %+v", got, want)
	}
	release <- struct{}{}
	etcdtest.Eventually(t, soon, "the watching has ended, and may begin again", func(context.Context) error {
		if err := p.Watch(func(any, error) {}); err != nil {
			return err
		}
		return p.Unwatch()
	})
	put(t, cli, prefix+"/a", "11")
	etcdtest.Nothing(t, 200*time.Millisecond, "a call after Unwatch", begun)
}
