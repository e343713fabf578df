package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// mail is a tree as services have it.
type mail struct {
	Database struct {
		URL     string        `json:"url"`
		Pool    int           `json:"pool"`
		Timeout time.Duration `json:"timeout"`
	} `json:"database"`
	Log struct {
		Level zapcore.Level `json:"level"`
	} `json:"log"`
	Cache codec.Size        `json:"cache"`
	Hosts map[string]string `json:"hosts"`
	Tags  []string          `json:"tags"`
}

// openTree opens a tree that is closed when the test ends.
func openTree[T any](t testing.TB, cli *clientv3.Client, opts *config.Options[T], prefixes ...string) *config.Value[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := config.OpenTree(ctx, cli, prefixes, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func TestATreeIsOneValueOfManyKeys(t *testing.T) {
	t.Parallel()
	cli, app := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	base, prod, own := app+"/base", app+"/prod", app+"/prod/instances/a"
	put(t, cli, base+"/database.url", "postgres://base")
	put(t, cli, base+"/database/pool", "5")
	put(t, cli, base+"/log/level", "info")
	put(t, cli, prod+"/database.url", "postgres://prod")
	put(t, cli, prod+"/hosts", `{"a": "10.0.0.1"}`)
	put(t, cli, prod+"/hosts/b", "10.0.0.2")
	put(t, cli, app+"/prod2/database.pool", "99") // is not below prod
	revision := put(t, cli, own+"/log.level", "debug")
	initial := mail{Cache: 1 << 20, Tags: []string{"x"}}
	initial.Database.Timeout = 3 * time.Second
	v := openTree(t, cli, &config.Options[mail]{Default: &initial}, base, prod, own)
	got := v.Get()
	if got.Database.URL != "postgres://prod" || got.Database.Pool != 5 || got.Database.Timeout != 3*time.Second ||
		got.Log.Level != zapcore.DebugLevel || got.Hosts["a"] != "10.0.0.1" || got.Hosts["b"] != "10.0.0.2" || got.Cache != 1<<20 || got.Tags[0] != "x" {
		t.Errorf("got %+v", got)
	}
	if s := v.Snapshot(); s.Revision != revision || s.Source != config.Live || v.Err() != nil {
		t.Errorf("%+v, %v", s, v.Err())
	}

	changed := changes(t, v)
	next(t, changed)
	put(t, cli, own+"/cache", "10MiB")
	if s := next(t, changed); s.Value.Cache != 10<<20 {
		t.Errorf("a change of one key: %+v", s.Value)
	}
	remove(t, cli, own+"/log.level")
	if s := next(t, changed); s.Value.Log.Level != zapcore.InfoLevel {
		t.Errorf("a key less: what the layer below says is %+v", s.Value)
	}
	// A bad key takes nothing in: not even the good one beside it.
	bad, err := cli.Txn(t.Context()).Then(
		clientv3.OpPut(own+"/database.pool", "many"),
		clientv3.OpPut(own+"/cache", "1MiB"),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	until(t, v, "the key is refused", refusedAt(bad.Header.Revision))
	if err := v.Err(); !strings.Contains(err.Error(), own+"/database.pool") || strings.Contains(err.Error(), "many") || v.Get().Cache != 10<<20 {
		t.Errorf("%+v, %v", v.Get(), err)
	}
	put(t, cli, own+"/database.pool", "7")
	if s := next(t, changed); s.Value.Database.Pool != 7 || s.Value.Cache != 1<<20 {
		t.Errorf("healed: %+v", s.Value)
	}
	// A tree that loses every key is deleted, and not empty.
	if _, err := cli.Delete(t.Context(), app+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	becomes(t, v, config.ErrAbsent)
	if v.Get().Database.Pool != 7 {
		t.Errorf("deleted: %+v", v.Get())
	}
}

func TestATreeSaysWhatItLacksAndWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	cli, app := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	type small struct {
		Port  int    `json:"port"`
		Level string `json:"level"`
	}
	put(t, cli, app+"/port", "80")
	if v := openTree[small](t, cli, nil, app); v.Get().Port != 80 {
		t.Errorf("got %+v", v.Get())
	}
	_, err := config.OpenTree(t.Context(), cli, []string{app}, &config.Options[small]{RefuseMissing: true})
	if !errors.Is(err, config.ErrRefused) || !strings.Contains(err.Error(), "level") {
		t.Errorf("a key is missing: %v", err)
	}
	put(t, cli, app+"/level", "info")
	v := openTree(t, cli, &config.Options[small]{RefuseMissing: true, RefuseUnknown: true}, app)
	revision := put(t, cli, app+"/prot", "hunter2")
	until(t, v, "the key is refused", refusedAt(revision))
	if err := v.Err(); !strings.Contains(err.Error(), app+"/prot") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a key is unknown: %v", err)
	}
}

// DESIGN 2.2: one transaction over two prefixes comes as two responses. No reader ever sees half of it.
func TestATreeNeverShowsHalfATransaction(t *testing.T) {
	t.Parallel()
	cli, app := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	type pair struct {
		A int `json:"a"`
		B int `json:"b"`
		C int `json:"c"`
	}
	set := func(n int) int64 {
		resp, err := cli.Txn(t.Context()).Then(
			clientv3.OpPut(app+"/base/a", fmt.Sprint(n)),
			clientv3.OpPut(app+"/prod/b", fmt.Sprint(n)),
			clientv3.OpPut(app+"/own/c", fmt.Sprint(n)),
		).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	set(0)
	var mu sync.Mutex
	var seen []pair // guarded by mu
	v := openTree(t, etcdtest.Client(t), &config.Options[pair]{Validate: func(p pair) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, p)
		return nil
	}}, app+"/base", app+"/prod", app+"/own")
	var last int64
	for n := range 500 {
		last = set(n + 1)
	}
	etcdtest.Eventually(t, soon, "the last change arrives", func(context.Context) error {
		if got := v.Snapshot().Revision; got != last {
			return fmt.Errorf("at revision %d, want %d", got, last)
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	for n, p := range seen {
		if p.A != p.B || p.B != p.C {
			t.Fatalf("value %d of %d was %+v", n, len(seen), p)
		}
	}
	t.Logf("%d values of 500 transactions", len(seen))
}

// The cost of a change is one decoding, and no RPC.
func TestAChangeOfATreeReadsNothingAgain(t *testing.T) {
	c := etcdtest.New(t, nil)
	calls := &etcdtest.Calls{}
	cli, writer := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), c.Client()
	const keys = 1000
	for n := range keys {
		put(t, writer, fmt.Sprintf("app/base/k%03d", n), "0")
	}
	put(t, writer, "app/prod/k000", "1")
	for _, prefixes := range [][]string{{"app/base"}, {"app/base", "app/prod"}} {
		v := openTree[map[string]int](t, cli, nil, prefixes...)
		if len(v.Get()) != keys {
			t.Fatalf("%d keys", len(v.Get()))
		}
		changed := changes(t, v)
		next(t, changed)
		calls.Reset()
		for n := range 20 {
			put(t, writer, fmt.Sprintf("app/base/k%03d", 1+n), fmt.Sprint(n+5))
			if s := next(t, changed); s.Value[fmt.Sprintf("k%03d", 1+n)] != n+5 {
				t.Fatalf("change %d: %+v", n, s)
			}
		}
		for _, call := range []string{"Range", "Txn", "RangeStream", etcdtest.WatchCreate} {
			if n := calls.Count(call); n != 0 {
				t.Errorf("%v: twenty changes cost %d of %s", prefixes, n, call)
			}
		}
		v.Close()
	}
}

func TestATreeOutlivesCutsCompactionsAndRestarts(t *testing.T) {
	c := etcdtest.New(t, nil)
	link, etcd := c.Link(0), c.Oracle(0)
	put(t, etcd, "app/base/database.pool", "1")
	put(t, etcd, "app/base/log.level", "warn")
	put(t, etcd, "app/prod/database.url", "u")
	dir := t.TempDir()
	opts := &config.Options[mail]{CacheDir: dir}
	v := openTree(t, link.Client(), opts, "app/base", "app/prod")
	changed := changes(t, v)
	next(t, changed)
	link.Cut()
	becomes(t, v, config.ErrNotCurrent)
	put(t, etcd, "app/base/database.pool", "2")
	remove(t, etcd, "app/base/log.level")
	put(t, etcd, "app/prod/database.url", "v")
	c.Compact(0)
	link.Heal()
	if s := next(t, changed); s.Value.Database.Pool != 2 || s.Value.Database.URL != "v" || s.Value.Log.Level != zapcore.InfoLevel {
		t.Errorf("after the compaction: %+v", s.Value)
	}
	becomes(t, v, nil)
	c.Stop(0)
	becomes(t, v, config.ErrNotCurrent)
	v.Close()
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	} else if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	cold := openTree(t, link.Client(), opts, "app/base", "app/prod")
	if s := cold.Snapshot(); s.Value.Database.Pool != 2 || s.Value.Database.URL != "v" || s.Source != config.Disk {
		t.Errorf("without etcd: %+v", s)
	}
	c.Restart(0)
	becomes(t, cold, nil)
	put(t, c.Oracle(0), "app/prod/database.pool", "3")
	etcdtest.Eventually(t, soon, "the change is seen", func(context.Context) error {
		if cold.Get().Database.Pool != 3 {
			return errors.New("it is not")
		}
		return nil
	})
}

func TestASealedKeyOfATreeIsOpened(t *testing.T) {
	t.Parallel()
	cli, app := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	ring, err := codec.NewKeyring("k1", map[string][]byte{"k1": []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	key := app + "/database.url"
	sealed, err := ring.Seal(key, []byte("postgres://hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, cli, key, string(sealed))
	put(t, cli, app+"/database.pool", "5")
	v := openTree(t, cli, &config.Options[mail]{Keyring: ring, CacheDir: t.TempDir()}, app)
	if got := v.Get().Database; got.URL != "postgres://hunter2" || got.Pool != 5 {
		t.Errorf("got %+v", got)
	}
	// Transplanted to another key it does not open.
	revision := put(t, cli, app+"/hosts/a", string(sealed))
	until(t, v, "the key is refused", refusedAt(revision))
	if err := v.Err(); strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), app+"/hosts/a") {
		t.Errorf("%v", err)
	}
	document := open(t, cli, key, &config.Options[string]{Keyring: ring})
	if document.Get() != "postgres://hunter2" {
		t.Errorf("got %q", document.Get())
	}
	plain := put(t, cli, key, "postgres://plain")
	until(t, document, "a document that is not sealed is refused", refusedAt(plain))
}

func TestWhatIsNoTreeIsRefused(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	refuses := func(rule string, prefixes []string, opts *config.Options[mail]) {
		t.Helper()
		v, err := config.OpenTree(t.Context(), cli, prefixes, opts)
		if err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%q: %v, want %q", prefixes, err, rule)
		}
		if err == nil {
			v.Close()
		}
	}
	refuses("there are none", nil, nil)
	refuses("twice", []string{"a", "b", "a"}, nil)
	refuses("ends in a slash", []string{"a/"}, nil)
	refuses("empty", []string{""}, nil)
	refuses("more than 16", slices.Repeat([]string{"a"}, 17), nil)
	refuses("Codec", []string{"a"}, &config.Options[mail]{Codec: codec.JSON[mail]()})
	refuses("Identity", []string{"a"}, &config.Options[mail]{Identity: config.Identity{ID: "a"}})
	if _, err := config.OpenTree[int](t.Context(), cli, []string{"a"}, nil); err == nil {
		t.Error("an int is a tree")
	}
}
