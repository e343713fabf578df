package config

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/codec"
)

type database struct {
	URL     string
	Pool    int
	Timeout time.Duration
	TLS     *certificates `json:"tls"`
}

type certificates struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

type backend struct {
	Host   string            `json:"host"`
	Port   uint16            `json:"port"`
	Labels map[string]string `json:"labels"`
}

type common struct {
	Region string `json:"region"`
}

// Inherited is exported, so that a pointer to it can be set.
type Inherited struct {
	Zone string `json:"zone"`
}

// app has something of everything that has rules of its own.
type app struct {
	common
	*Inherited
	Database database `json:"database"`
	Log      struct {
		Level zapcore.Level `json:"level"`
	} `json:"log"`
	Backends map[string]backend  `json:"backends"`
	Replicas map[string]*backend `json:"replicas"`
	Ports    map[uint16]string   `json:"ports"`
	Tags     []string            `json:"tags"`
	Servers  []backend           `json:"servers"`
	Pair     [2]int              `json:"pair"`
	Quoted   int                 `json:"quoted,string"`
	Blob     []byte              `json:"blob"`
	Since    time.Time           `json:"since"`
	Limit    *int                `json:"limit"`
	Big      *big.Int            `json:"big"`
	Extra    any                 `json:"extra"`
	Own      string              `json:"-"`
	hidden   string              //nolint:unused // what encoding/json does not see, no key sets
}

// of makes a layer of lines "path = value".
func of(lines ...string) []leaf {
	layer := []leaf{}
	for _, line := range lines {
		path, value, _ := strings.Cut(line, " = ")
		layer = append(layer, leaf{path: path, key: "/config/app/" + path, value: []byte(value)})
	}
	return layer
}

// decodeTree decodes layers into a T.
func decodeTree[T any](t *testing.T, base *T, layers ...[]leaf) (T, error) {
	t.Helper()
	tree, err := newTree(base, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return tree.decode(layers)
}

func with(set func(*app)) app {
	var a app
	set(&a)
	return a
}

func TestKeysNameFields(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines []string
		want  app
	}{
		"both separators": {
			[]string{"database.url = postgres://db", "log/level = warn"},
			with(func(a *app) { a.Database.URL, a.Log.Level = "postgres://db", zapcore.WarnLevel }),
		},
		"bare scalars": {
			[]string{"database/Pool = 8080\n", "database/timeout = 30s", "quoted = 7", "limit = 5", "big = 123456789012345678901234567890", "since = 2026-11-21T00:00:00Z"},
			with(func(a *app) {
				a.Database.Pool, a.Database.Timeout, a.Quoted, a.Limit = 8080, 30*time.Second, 7, new(5)
				a.Big, _ = new(big.Int).SetString("123456789012345678901234567890", 10)
				a.Since = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
			}),
		},
		"text as it is": {
			[]string{"database.url =  a: {b ", "region = \"quo\\u0074ed\""},
			with(func(a *app) { a.Database.URL, a.Region = " a: {b ", "quoted" }),
		},
		"the case of a field does not count, that of an entry does": {
			[]string{"DATABASE/url = x", "Backends/Mail.HOST = h", "backends/mail.host = g"},
			with(func(a *app) {
				a.Database.URL, a.Backends = "x", map[string]backend{"Mail": {Host: "h"}, "mail": {Host: "g"}}
			}),
		},
		"embedded structs": {
			[]string{"region = eu", "zone = b"},
			with(func(a *app) { a.Region, a.Inherited = "eu", &Inherited{"b"} }),
		},
		"entries": {
			[]string{"backends.a.port = 1", "backends/a/labels.x = y", "replicas.r.host = h", "ports/80 = http"},
			with(func(a *app) {
				a.Backends = map[string]backend{"a": {Port: 1, Labels: map[string]string{"x": "y"}}}
				a.Replicas, a.Ports = map[string]*backend{"r": {Host: "h"}}, map[uint16]string{80: "http"}
			}),
		},
		"documents": {
			[]string{`database = {"url": "x", "Pool": 5}`, "backends = a: {host: h}", "tags = [a, b]", "pair = [1, 2]", "blob = aGk=", `extra = {"a": [1]}`},
			with(func(a *app) {
				a.Database.URL, a.Database.Pool = "x", 5
				a.Backends, a.Tags, a.Pair, a.Blob = map[string]backend{"a": {Host: "h"}}, []string{"a", "b"}, [2]int{1, 2}, []byte("hi")
				a.Extra = map[string]any{"a": []any{1.0}}
			}),
		},
		"the document of all": {
			[]string{` = {"region": "eu", "database": {"tls": {"cert": "c"}, "timeout": "1s"}, "quoted": "5"}`},
			with(func(a *app) {
				a.Region, a.Quoted = "eu", 5
				a.Database.TLS, a.Database.Timeout = &certificates{Cert: "c"}, time.Second
			}),
		},
		"elements by index": {
			[]string{"tags/0 = a", "tags/1 = b", "servers.0.host = h", "servers.1.port = 2", "pair.1 = 5"},
			with(func(a *app) {
				a.Tags, a.Servers, a.Pair = []string{"a", "b"}, []backend{{Host: "h"}, {Port: 2}}, [2]int{0, 5}
			}),
		},
		"more than ten elements": {
			[]string{"tags/10 = k", "tags/2 = c", "tags = [a, b]", "tags/3 = d", "tags/4 = e", "tags/5 = f", "tags/6 = g", "tags/7 = h", "tags/8 = i", "tags/9 = j"},
			with(func(a *app) { a.Tags = strings.Split("abcdefghijk", "") }),
		},
		"whatever the keys make of it": {
			[]string{"extra.a = 1", "extra.b.c = x", "extra.b/d = [1]", "extra.0 = true"},
			with(func(a *app) {
				a.Extra = map[string]any{"a": 1.0, "b": map[string]any{"c": "x", "d": []any{1.0}}, "0": true}
			}),
		},
		"what no field takes is ignored": {
			[]string{"nothing = 1", "region.below = 2", "-  = 3", "Own = 4", "hidden = 5", "tags/x = 6", "tags/01 = 7", "blob/0 = 104", `database = {"what": 1}`, "a/b = 1", "a.b = 2"},
			app{},
		},
		"null": {
			[]string{`database = {"tls": null, "pool": null}`, "limit = null", "tags = null", "extra = ~", "replicas.r = null", `servers.0 = {"labels": null}`},
			with(func(a *app) { a.Replicas, a.Servers = map[string]*backend{"r": nil}, []backend{{}} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeTree[app](t, nil, of(c.lines...))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

// Each case is layers, the most general first, separated by "--".
func TestOfWhatIsSaidOfAFieldTheLastCounts(t *testing.T) {
	t.Parallel()
	base := app{
		Database: database{URL: "default", Pool: 1, TLS: &certificates{Cert: "dc", Key: "dk"}},
		Backends: map[string]backend{"d": {Host: "dh", Port: 1}},
		Tags:     []string{"d0", "d1"},
		Servers:  []backend{{Host: "dh", Port: 1}},
		Extra:    map[string]any{"d": 1.0},
	}
	over := func(set func(*app)) app {
		a := base
		set(&a)
		return a
	}
	for name, c := range map[string]struct {
		lines []string
		want  app
	}{
		"nothing": {nil, base},
		"a key over the default": {
			[]string{"database.pool = 2"},
			over(func(a *app) { a.Database.Pool = 2 }),
		},
		"a key over the key of a layer below": {
			[]string{"database.pool = 2", "--", "database/pool = 3", "--", "region = eu"},
			over(func(a *app) { a.Database.Pool, a.Region = 3, "eu" }),
		},
		"what is replaced may be bad": {
			[]string{"database.pool = bad", "tags/0 = x", "tags/7 = gap", `servers = [`, "--", "database/POOL = 3", "tags = [a]", "servers = []"},
			over(func(a *app) { a.Database.Pool, a.Tags, a.Servers = 3, []string{"a"}, []backend{} }),
		},
		"what is replaced in a document may be bad": {
			[]string{`database = {"timeout": 30, "pool": "x", "tls": {"cert": 5}}`, "database.pool = 3", "--", "database.timeout = 5s", "database.tls.cert = c"},
			over(func(a *app) {
				a.Database.Timeout, a.Database.Pool, a.Database.TLS = 5*time.Second, 3, &certificates{"c", "dk"}
			}),
		},
		"a longer key over a document of its layer": {
			[]string{"database.pool = 3", `database = {"pool": 2, "timeout": "1s"}`},
			over(func(a *app) { a.Database.Pool, a.Database.Timeout = 3, time.Second }),
		},
		"a document over a longer key of the layer below, field by field": {
			[]string{"database.pool = 2", "database.timeout = 5s", "--", `database = {"Pool": 3}`},
			over(func(a *app) { a.Database.Pool, a.Database.Timeout = 3, 5*time.Second }),
		},
		"a document over one of the layer below, field by field": {
			[]string{`database = {"url": "x", "tls": {"cert": "c"}}`, "--", "database = tls: {key: k}"},
			over(func(a *app) { a.Database.URL, a.Database.TLS = "x", &certificates{"c", "k"} }),
		},
		"documents at three depths in one layer": {
			[]string{"database.tls.key = 3", `database.tls = {"key": "2", "cert": "2"}`, `database = {"tls": {"key": "1", "cert": "1"}, "url": "1"}`},
			over(func(a *app) { a.Database.URL, a.Database.TLS = "1", &certificates{"2", "3"} }),
		},
		"the last of a field that a document names twice": {
			[]string{`database = {"pool": 2, "POOL": 3}`},
			over(func(a *app) { a.Database.Pool = 3 }),
		},
		"null over what is below, and keys over it": {
			[]string{"database.tls.cert = 1", "--", "database.tls = null", "--", "database.tls.key = 2"},
			over(func(a *app) { a.Database.TLS = &certificates{Key: "2"} }),
		},
		"null over all": {
			[]string{"database.tls.cert = 1", "--", `database = {"tls": null}`},
			over(func(a *app) { a.Database.TLS = nil }),
		},
		"an empty document of a pointer": {
			[]string{"database.tls = null", "--", "database.tls = {}"},
			over(func(a *app) { a.Database.TLS = &certificates{} }),
		},
		"an entry beside those of the default": {
			[]string{"backends.a.host = h"},
			over(func(a *app) { a.Backends = map[string]backend{"a": {Host: "h"}, "d": {Host: "dh", Port: 1}} }),
		},
		"a field of an entry of the default": {
			[]string{"backends.d.port = 2"},
			over(func(a *app) { a.Backends = map[string]backend{"d": {Host: "dh", Port: 2}} }),
		},
		"a document of an entry, field by field": {
			[]string{`backends.d = {"port": 2}`},
			over(func(a *app) { a.Backends = map[string]backend{"d": {Host: "dh", Port: 2}} }),
		},
		"a document of a map instead of all that is below it": {
			[]string{"backends.a.host = h", "--", `backends = {"b": {"host": "h"}}`, "backends.b.port = 3", "--", "backends.c.port = 4"},
			over(func(a *app) { a.Backends = map[string]backend{"b": {Host: "h", Port: 3}, "c": {Port: 4}} }),
		},
		"what a document replaced does not come back with a key over it": {
			[]string{`backends.a.labels = {"x": "y"}`, "backends.a.host = h", "--", "backends = {}", "backends.a.labels.z = z"},
			over(func(a *app) { a.Backends = map[string]backend{"a": {Labels: map[string]string{"z": "z"}}} }),
		},
		"nor is the document of an entry read that another replaced": {
			[]string{"replicas.a = {", "replicas.b = null", "replicas.b.host = h", "--", "replicas = {}", "replicas.a.port = 5", "replicas.b.port = 6"},
			over(func(a *app) { a.Replicas = map[string]*backend{"a": {Port: 5}, "b": {Port: 6}} }),
		},
		"a map within the document of a struct": {
			[]string{"backends.a.host = h", "--", ` = {"backends": {"b": {}}}`},
			over(func(a *app) { a.Backends = map[string]backend{"b": {}} }),
		},
		"an element of the default's list, and one more": {
			[]string{"servers/0/port = 2", "servers/1/port = 3", "tags/2 = x"},
			over(func(a *app) {
				a.Servers, a.Tags = []backend{{Host: "dh", Port: 2}, {Port: 3}}, []string{"d0", "d1", "x"}
			}),
		},
		"a list instead of all that is below it": {
			[]string{"servers/0/port = 2", "servers/1/port = 3", "--", "servers = [{host: h}]", "servers/0/port = 4"},
			over(func(a *app) { a.Servers = []backend{{Host: "h", Port: 4}} }),
		},
		"an element over that of a layer below": {
			[]string{"tags = [a, b, c]", "--", "tags/1 = x"},
			over(func(a *app) { a.Tags = []string{"a", "x", "c"} }),
		},
		"anything": {
			[]string{"extra.a.b = 1", "--", "extra.a = {c: 2}", "extra.a.d = 3", "--", "extra.a.e.f = 4"},
			over(func(a *app) {
				a.Extra = map[string]any{"d": 1.0, "a": map[string]any{"c": 2.0, "d": 3.0, "e": map[string]any{"f": 4.0}}}
			}),
		},
		"keys below what was no object": {
			[]string{"extra = 5", "--", "extra.a = 1"},
			over(func(a *app) { a.Extra = map[string]any{"a": 1.0} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var layers [][]leaf
			from := 0
			for i, line := range append(c.lines, "--") {
				if line == "--" {
					layers, from = append(layers, of(c.lines[from:i]...)), i+1
				}
			}
			for range 3 {
				got, err := decodeTree(t, &base, layers...)
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
				}
				for _, layer := range layers { // their order in a layer is of no importance
					slices.Reverse(layer)
				}
			}
		})
	}
}

func TestAMapIsATree(t *testing.T) {
	t.Parallel()
	type key string
	base := map[key]map[netip.Addr]int{"d": {}}
	got, err := decodeTree(t, &base, of("a/127 = 1", `b = {"::1": 2}`, "b/::2 = 3"))
	want := map[key]map[netip.Addr]int{"d": {}, "b": {netip.MustParseAddr("::1"): 2, netip.MustParseAddr("::2"): 3}}
	if err == nil || !strings.Contains(err.Error(), `"127" is no key of a map[netip.Addr]int`) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = decodeTree(t, &base, of(`b = {"::1": 2}`, "b/::2 = 3")); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = decodeTree(t, &base, of(` = {"e": {}}`, "f/::1 = 1")); err != nil || len(got) != 2 || len(base) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A leaf is what a document of its type is to Open.
func TestALeafIsReadAsOpenWould(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", " ", "null", "~", "true", "8080", " 8080\n", "30s", "0", "30", "info", `"quoted"`, `"8080"`, "1e3", "-1", ".5", "a: b", "[a, b]", `["1s", 0]`,
		`{"a": "1s"}`, "{a: 1s}", "a: 1\na: 2", "- 1\n- 2", "aGk=", "2026-11-21T00:00:00Z", "::1", "a\x00", "\xff", "\ufeff5", "007", "[", "{", "[*a]", "x\n\n",
	}
	for _, text := range texts {
		asOpen[string](t, text)
		asOpen[int](t, text)
		asOpen[uint8](t, text)
		asOpen[bool](t, text)
		asOpen[float64](t, text)
		asOpen[time.Duration](t, text)
		asOpen[zapcore.Level](t, text)
		asOpen[time.Time](t, text)
		asOpen[netip.Addr](t, text)
		asOpen[*int](t, text)
		asOpen[*string](t, text)
		asOpen[*time.Duration](t, text)
		asOpen[[]string](t, text)
		asOpen[[]time.Duration](t, text)
		asOpen[[1]int](t, text)
		asOpen[[]byte](t, text)
		asOpen[map[string]time.Duration](t, text)
		asOpen[map[string]string](t, text)
		asOpen[any](t, text)
		asOpen[database](t, text)
		asOpen[*certificates](t, text)
		asOpen[struct{ A time.Duration }](t, text)
		asOpen[json.RawMessage](t, text)
		asOpen[error](t, text)
		asOpen[chan int](t, text)
	}
}

func asOpen[T any](t *testing.T, text string) {
	t.Helper()
	want, wantErr := codec.Auto[T]().Decode([]byte(text))
	got, err := decodeTree[map[string]T](t, nil, []leaf{{path: "a", key: "a", value: []byte(text)}})
	if !reflect.DeepEqual(got["a"], want) || (err == nil) != (wantErr == nil) {
		t.Errorf("%T %q: got %#v, %v, Open has %#v, %v", *new(T), text, got["a"], err, want, wantErr)
	}
	if err == nil || wantErr == nil {
		return
	}
	// Of a field the tree knows the type.
	one, ok := errors.AsType[*codec.Error](err)
	other, _ := errors.AsType[*codec.Error](wantErr)
	if one.Type = other.Type; !ok || *one != *other || !strings.HasPrefix(err.Error(), `key "a": codec: `) {
		t.Errorf("%T %q: got %v, Open says %v", *new(T), text, err, wantErr)
	}
}

// full is a default with all that could be written to.
func full() *app {
	a := &app{
		common:    common{"eu"},
		Inherited: &Inherited{"b"},
		Database:  database{"url", 5, time.Second, &certificates{"c", "k"}},
		Backends:  map[string]backend{"a": {"h", 1, map[string]string{"x": "y"}}, "b": {}},
		Replicas:  map[string]*backend{"a": {"h", 1, map[string]string{"x": "y"}}, "b": nil},
		Ports:     map[uint16]string{80: "http"},
		Tags:      []string{"a", "b"},
		Servers:   []backend{{"h", 1, map[string]string{"x": "y"}}},
		Blob:      []byte("blob"),
		Limit:     new(5),
		Big:       new(big.Int).Lsh(big.NewInt(1), 100),
		Extra:     map[string]any{"a": map[string]any{"b": []any{1.0}}, "b": []any{1.0}},
		Own:       "own",
	}
	a.Tags = slices.Grow(a.Tags, 10) // append would write behind it
	a.Servers = slices.Grow(a.Servers, 10)
	return a
}

func TestTheDefaultIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	base := full()
	behind := &base.Servers[:2][1]
	tree, err := newTree(base, false, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range [][]leaf{
		of("region = x", "zone = x", "database.url = x", "database.tls.cert = x", "backends.a.port = 2", "backends.a.labels.x = z", "backends.c.port = 3"),
		of("replicas.a.port = 2", "replicas.a.labels.z = z", "replicas.b.host = x", "ports.80 = x", "ports.81 = y"),
		of("tags/0 = x", "tags/2 = x", "servers/0/labels/x = z", "servers/0/host = x", "servers/1/host = x", "blob = eHh4eA==", "limit = 6", "big = 7"),
		of("extra/a/b = 1", "extra/c = 2"), of("extra/b/0 = 1"), of("extra = {a: {b: [2]}}"),
		of(`database = {"tls": {"cert": "x"}}`, "backends = {a: {labels: {x: z}}}", "replicas = {a: {labels: {x: z}}}", "tags = [x, y, z]", "servers = [{labels: {x: z}}, {}]", "ports = {80: x}"),
		of(` = {"zone": "x", "database": {"tls": {"cert": "x"}}, "backends": {"a": {"labels": {"x": "z"}}}, "blob": "eHh4eA==", "limit": 6, "big": 7, "servers": [{"host": "x"}]}`),
	} {
		for _, layers := range [][][]leaf{{layer}, {layer, layer}} {
			got, err := tree.decode(layers)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(base, full()) || !reflect.DeepEqual(*behind, backend{}) {
				t.Fatalf("after %s: the default is %+v", layer, base)
			}
			if reflect.DeepEqual(&got, base) {
				t.Errorf("%s changed nothing", layer)
			}
			if got.Own != "own" {
				t.Error("a field that no key can set was lost")
			}
		}
	}
	// Nor does one value see what came of the next.
	first, err := tree.decode([][]leaf{of("tags/0 = x", "backends.a.port = 2")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.decode([][]leaf{of("tags/0 = y", "backends.a.port = 3")}); err != nil || first.Tags[0] != "x" || first.Backends["a"].Port != 2 {
		t.Errorf("%+v, %v", first, err)
	}
}
