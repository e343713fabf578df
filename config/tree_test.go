package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"runtime"
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

func TestWhatATreeRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("a/", codec.MaxDepth)
	for name, c := range map[string]struct {
		lines   []string
		unknown bool
		missing bool
		says    []string
	}{
		"a path with two separators":     {[]string{"database.url = 1", "database/url = 2"}, false, false, []string{`"/config/app/database/url"`, `"/config/app/database.url"`, "same field"}},
		"a field in two spellings":       {[]string{"region = 1", "REGION = 2"}, false, false, []string{`"/config/app/region"`, `"/config/app/REGION"`, "same field"}},
		"an entry in two spellings":      {[]string{"ports/80 = a", "ports/080 = b"}, false, false, []string{`"/config/app/ports/80"`, `"/config/app/ports/080"`, "same entry"}},
		"a value":                        {[]string{"database.pool = many"}, false, false, []string{`key "/config/app/database.pool"`, "not a decimal integer"}},
		"a duration without a unit":      {[]string{"database = {\"timeout\":\n 30}"}, false, false, []string{`key "/config/app/database"`, "json line 2, column 2: field Timeout", "needs a unit"}},
		"a document":                     {[]string{"tags = {"}, false, false, []string{`key "/config/app/tags"`, "ends too early"}},
		"a document of a struct":         {[]string{`database = {"url": "a" "b"}`}, false, false, []string{`key "/config/app/database"`, "json line 1, column 13", "not valid JSON"}},
		"an empty one":                   {[]string{"database = "}, false, false, []string{`key "/config/app/database"`, "the document is empty"}},
		"null of a struct":               {[]string{"database = null"}, false, false, []string{`key "/config/app/database"`, "the document is null"}},
		"a list for a struct":            {[]string{"database = [1]"}, false, false, []string{`key "/config/app/database"`, "an array where config.database is wanted"}},
		"one in a document":              {[]string{` = {"database": [1]}`}, false, false, []string{`key "/config/app/"`, "field database", "an array where config.database is wanted"}},
		"a field twice in a document":    {[]string{`database = {"url": "a", "url": "b"}`}, false, false, []string{`key "/config/app/database"`, "a key that occurs twice"}},
		"an alias bomb":                  {[]string{"database = a: &a [*a]"}, false, false, []string{`key "/config/app/database"`, "yaml line 1", "an alias inside of what it stands for"}},
		"a string tagged as one":         {[]string{`{"quoted": 5}`, ` = {"quoted": 5}`}, false, false, []string{`key "/config/app/"`, "json line 1, column 12: field quoted"}},
		"NUL in a value":                 {[]string{"region = a\x00"}, false, false, []string{`key "/config/app/region"`, "NUL"}},
		"a value that is not UTF-8":      {[]string{"database = \xff"}, false, false, []string{`key "/config/app/database"`, "not UTF-8"}},
		"an empty segment":               {[]string{"database//url = x"}, false, false, []string{`key "/config/app/database//url"`, "empty segment"}},
		"an empty segment of both":       {[]string{"database./url = x"}, false, false, []string{"empty segment"}},
		"a separator at the end":         {[]string{"database/ = x"}, false, false, []string{`key "/config/app/database/"`, "empty segment"}},
		"a separator at the front":       {[]string{".database = x"}, false, false, []string{"empty segment"}},
		"a control character":            {[]string{"backends/a\x00b/host = x"}, false, false, []string{`key "/config/app/backends/a\x00b/host"`, "control character"}},
		"one outside of ASCII":           {[]string{"backends/a\u0085b/host = x"}, false, false, []string{"control character"}},
		"a key that is not UTF-8":        {[]string{"backends/a\xff/host = x"}, false, false, []string{`key "/config/app/backends/a\xff/host"`, "not UTF-8"}},
		"a path that is too deep":        {[]string{"extra/" + deep + "x = 1"}, false, false, []string{`key "/config/app/extra/a/`, "more than 100 segments"}},
		"a long key of an entry":         {[]string{"ports/" + strings.Repeat("é", 1<<19) + " = 1"}, false, false, []string{`key "/config/app/ports/é`, "... (1048594 bytes)", "no key of a map[uint16]string"}},
		"a long name of what is missing": {[]string{"backends/a" + strings.Repeat("é", 1<<18) + "/host = 1", ` = {"region": "", "database": {"url": "", "pool": 0, "timeout": 0}, "log": {"level": "info"}}`, "zone = 1"}, false, true, []string{"backends.a", "... (524", "and others"}},
		"a gap in a list":                {[]string{"tags/0 = a", "tags/2 = b"}, false, false, []string{`key "/config/app/tags/2"`, "element 2 of a list of 1", "no gap"}},
		"a gap below an element":         {[]string{"servers/1/host = b"}, false, false, []string{`key "/config/app/servers/1/host"`, "element 1 of a list of 0"}},
		"an element too many":            {[]string{"pair/2 = 1"}, false, false, []string{`key "/config/app/pair/2"`, "[2]int has no element 2"}},
		"the key of an entry":            {[]string{"ports/http = 1"}, false, false, []string{`key "/config/app/ports/http"`, "no key of a map[uint16]string"}},
		"a key that no field takes":      {[]string{"databse/url = x"}, true, false, []string{`key "/config/app/databse/url"`, "no field takes it"}},
		"several of them":                {[]string{"b = x", "a = y", "region.x = 1"}, true, false, []string{`key "/config/app/a"`, "nor 2 other keys"}},
		"an element without a number":    {[]string{"tags/x = a"}, true, false, []string{`key "/config/app/tags/x"`, "no field takes it"}},
		"a field that is left out":       {[]string{"Own = a"}, true, false, []string{`key "/config/app/Own"`, "no field takes it"}},
		"a field tagged -":               {[]string{"- = a"}, true, false, []string{`key "/config/app/-"`, "no field takes it"}},
		"an unknown field of a doc":      {[]string{"database = {what: 1}"}, true, false, []string{`key "/config/app/database"`, "yaml line 1, column 2", "a field that the type does not have"}},
		"an unknown one within":          {[]string{`backends = {"a": {"what": 1}}`}, true, false, []string{`key "/config/app/backends"`, "a field that the type does not have"}},
		"fields that nothing names":      {[]string{` = {"pair": [], "quoted": "1", "blob": "", "since": "2026-11-21T00:00:00Z", "extra": 1, "backends": {}, "replicas": {}, "tags": []}`, "ports = {}", "region = 1", "database.url = 1", "database.tls.cert = x"}, false, true, []string{"no key sets zone, database.Pool, database.Timeout, database.tls.key, log.level, servers"}},
		"a field of an entry":            {[]string{"backends.a.host = h"}, false, true, []string{"no key sets region, zone, database.URL, database.Pool, database.Timeout, log.level, backends.a.port, backends.a.labels, replicas, ports, and others"}},
		"a null where none has meaning":  {[]string{`database = {"url": null}`}, false, true, []string{"database.URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, err := newTree[app](nil, c.unknown, c.missing)
			if err != nil {
				t.Fatal(err)
			}
			layer := of(c.lines...)
			for range 3 {
				got, err := tree.decode([][]leaf{layer})
				if err == nil || !reflect.DeepEqual(got, app{}) {
					t.Fatalf("got %+v, %v", got, err)
				}
				for _, word := range c.says {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%q does not say %q", err, word)
					}
				}
				if len(err.Error()) > 1200 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				slices.Reverse(layer)
			}
		})
	}
}

func TestOnlyWhatIsRequiredIsMissing(t *testing.T) {
	t.Parallel()
	type section struct {
		A     int `json:"a"`
		Empty struct{}
		P     *section       `json:"p"`
		M     map[string]int `json:"m"`
	}
	for name, c := range map[string]struct {
		lines []string
		says  string
	}{
		"all":                                {[]string{"a = 1", "m = {}"}, ""},
		"entries are a map":                  {[]string{"a = 1", "m.x = 1"}, ""},
		"a document names them":              {[]string{` = {"a": 1, "m": null}`}, ""},
		"all of them":                        {nil, "no key sets a, m"},
		"below a pointer that leads nowhere": {[]string{"a = 1", "m = {}", "p = null"}, ""},
		"below one that leads somewhere":     {[]string{"a = 1", "m = {}", "p = {}"}, "no key sets p.a, p.m"},
		"of one that leads on":               {[]string{"a = 1", "m = {}", "p.p.a = 1"}, "no key sets p.a, p.p.m, p.m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// That the default has them does not count.
			tree, err := newTree(&section{A: 1, M: map[string]int{"a": 1}}, false, true)
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			if _, err := tree.decode([][]leaf{of(c.lines...)}); err != nil {
				said = err.Error()
			}
			if said != c.says {
				t.Errorf("got %q, want %q", said, c.says)
			}
		})
	}
	// What a document says of a map or a list is taken as the whole of it.
	type list struct {
		L []section `json:"l"`
	}
	tree, err := newTree[list](nil, false, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.decode([][]leaf{of("l = [{}]", "l/0/a = 5")}); err != nil {
		t.Error(err)
	}
	if _, err := tree.decode([][]leaf{of("l/0/a = 5")}); err == nil || err.Error() != "no key sets l.0.m" {
		t.Error(err)
	}
}

type selfish struct{ A int }

func (*selfish) UnmarshalJSON([]byte) error { return nil }

func TestWhatCannotBeATree(t *testing.T) {
	t.Parallel()
	try := func(what string, err error, says string) {
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := newTree[int](nil, false, false)
	try("int", err, "neither a struct nor a map")
	_, err = newTree[*app](nil, false, false)
	try("a pointer", err, "neither a struct nor a map")
	_, err = newTree[[]string](nil, false, false)
	try("a list", err, "neither a struct nor a map")
	_, err = newTree[any](nil, false, false)
	try("anything", err, "neither a struct nor a map")
	_, err = newTree[time.Time](nil, false, false)
	try("a type with UnmarshalText", err, "decodes itself")
	_, err = newTree[selfish](nil, false, false)
	try("a type with UnmarshalJSON", err, "decodes itself")
	_, err = newTree[map[bool]int](nil, false, false)
	try("a map that JSON does not have", err, "neither a struct nor a map")
	_, err = newTree[struct{ Below struct{ *common } }](nil, false, false)
	try("an embedded pointer that is not exported", err, "region of struct { *config.common } is below common")
	type loop struct {
		Again *loop
		More  []loop
		Names map[string]loop
	}
	_, err = newTree[loop](nil, false, false)
	try("a type in itself", err, "")
	_, err = newTree[map[netip.Addr]string](nil, false, false)
	try("a map by keys that decode themselves", err, "")
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

func TestWhatSeveralDocumentsSayNamesTheDocumentThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := decodeTree[app](t, nil, of("database = url: x\npool: a\n"), of(`database = {"timeout": "1s"}`))
	if want := `key "/config/app/database": codec: decode int: yaml line 2, column 7: field Pool: a string where int is wanted`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if e, ok := errors.AsType[*codec.Error](err); !ok || e.Field != "Pool" {
		t.Errorf("got %#v", err)
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

// canary stands for whatever must not get into a log.
const canary = "zQ7zq"

// chatty quotes what it is given, as many types do.
type chatty struct{}

func (c *chatty) UnmarshalText(b []byte) error { return fmt.Errorf("chatty: cannot parse %s", b) }

func TestNoErrorOfATreeHoldsAValue(t *testing.T) {
	t.Parallel()
	type talk struct {
		app
		Chatty chatty                `json:"chatty"`
		Keys   map[netip.Addr]chatty `json:"keys"`
	}
	paths := []string{
		"", "region", "database", "database.pool", "database.timeout", "database.tls", "log", "log.level", "backends", "backends.a", "backends.a.port", "backends.a.labels",
		"replicas.a", "ports", "ports.80", "tags", "tags/0", "tags/5", "servers", "servers.0", "servers/0/port", "pair", "pair/0", "pair/7", "quoted", "blob", "since", "limit", "big", "extra",
		"extra.a", "chatty", "keys", "keys/::1", "unknown", "region/below",
	}
	values := strings.Split(`CANARY|"CANARY"|1CANARY|{"CANARY": 1}|{"CANARY": "CANARY"}|{CANARY: CANARY}|[CANARY]|["CANARY"]|[CANARY|{"CANARY|{"a": {"CANARY": CANARY}}|*CANARY|!CANARY x|`+
		`{"pool": "CANARY"}|pool: CANARY|{"tls": "CANARY"}|tls: {cert: [CANARY]}|{"port": "CANARY"}|a: {port: CANARY}|{"database": {"timeout": "CANARY"}}|quoted: CANARY|{"quoted": "CANARY"}|{"chatty": "CANARY"}|`+
		`{"CANARY": 1, "CANARY": 2}|"CANARY|&CANARY [*CANARY]|level: CANARY|{"level": {"CANARY": 1}}|{"extra": CANARY}|{"keys": {"CANARY": "CANARY"}}|::CANARY: CANARY`, "|")
	refused := 0
	for _, strict := range []bool{false, true} {
		tree, err := newTree[talk](nil, strict, strict)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			for _, value := range values {
				for _, form := range []string{canary, "1234567" /* a number is a secret, too */, canary + "\x00", canary + "\xff"} {
					layer := []leaf{{path: path, key: "k/" + path, value: []byte(strings.ReplaceAll(value, "CANARY", form))}}
					for _, layers := range [][][]leaf{{layer}, {layer, of("region = x", "database.url = x")}, {of("database = {}"), layer}} {
						_, err := tree.decode(layers)
						if err == nil {
							continue
						}
						refused++
						for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
							if strings.Contains(text, form) {
								t.Errorf("%s = %s: the error quotes it: %s", path, value, text)
							}
						}
						for inner := err; inner != nil; inner = errors.Unwrap(inner) {
							if strings.Contains(fmt.Sprintf("%+v", inner), form) {
								t.Errorf("%s = %s: the error holds it: %v", path, value, inner)
							}
						}
					}
				}
			}
		}
	}
	if refused < 10_000 {
		t.Errorf("only %d trees were refused", refused)
	}
}

// nest is a type in which keys may go as deep as they like.
type nest struct {
	Below map[string]*nest `json:"below"`
	List  []nest           `json:"list"`
	Any   any              `json:"any"`
	Name  string           `json:"name"`
}

func hostileTrees() map[string][][]leaf {
	count := func(n int, path, value string) []leaf {
		layer := make([]leaf, 0, n)
		for i := range n {
			path := strings.ReplaceAll(path, "$", fmt.Sprintf("%06d", i))
			layer = append(layer, leaf{path, path, []byte(strings.ReplaceAll(value, "$", fmt.Sprint(i)))})
		}
		return layer
	}
	one := func(path, value string) [][]leaf { return [][]leaf{{{path, path, []byte(value)}}} }
	indexes := func(n int) []leaf {
		layer := count(n, "list/$/name", "x")
		for i := range layer {
			layer[i].path = fmt.Sprintf("list/%d/name", i)
		}
		return layer
	}
	rep := strings.Repeat
	bomb := "a0: &a0 [x]\n"
	for i := 1; i < 10; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i, i, rep(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	var entries []string
	for i := range 80_000 {
		entries = append(entries, fmt.Sprintf(`"%d":{}`, i))
	}
	return map[string][][]leaf{
		"50,000 entries":         {count(maxTreeKeys, "below/$/name", "x")},
		"50,000 entries of any":  {count(maxTreeKeys, "any/$", "x")},
		"50,000 JSON documents":  {count(maxTreeKeys, "any/$", "[]")},
		"50,000 documents":       {count(maxTreeKeys, "below/$", `{"name":"x"}`)},
		"50,000 unknown keys":    {count(maxTreeKeys, "$nothing", "x")},
		"50,000 in three layers": {count(16_000, "below/$/name", "x"), count(16_000, "below/$/name", "y"), count(16_000, "below.$.name", "z")},
		"50,000 of one field":    {count(maxTreeKeys, "list/0/$", "x")},
		"50,001 keys":            {count(maxTreeKeys, "a$", "x"), count(1, "b", "x")},
		"50,000 elements":        {indexes(maxTreeKeys)},
		"a far element":          one("list/9999999/name", "x"),
		"a number without end":   one("list/"+rep("9", 1<<20)+"/name", "x"),
		"deep keys":              {count(2000, rep("below/$/", 49)+"name", "x")},
		"deep keys in one place": {count(maxTreeKeys, rep("any/", 20)+"$", "x")},
		"keys that are too deep": one(rep("any/", 1<<18), "x"),
		"long keys":              {count(7, "below/"+rep("k", 1<<20)+"$/name", "x")},
		"too long keys":          {count(9, "below/"+rep("k", 1<<20)+"$/name", "x")},
		"a key of separators":    one(rep("/", 1<<20), "x"),
		"a key of NULs":          one("below/"+rep("\x00", 1<<20), "x"),
		"a leaf of 1 MiB":        one("name", rep("x", maxTreeValues)),
		"a leaf of 1.5 MiB":      one("name", rep("x", codec.MaxSize)),
		"many leaves too large":  {count(2000, "below/$/name", rep("x", 1000))},
		"alias bomb":             one("any", bomb),
		"alias bomb in a struct": one("", bomb+"\nany: *a9\n"),
		"small alias bombs":      {count(1000, "any/$", "[&a [x,x,x,x,x,x,x,x],&b [*a,*a,*a,*a,*a,*a,*a,*a],&c [*b,*b,*b,*b,*b,*b,*b,*b],[*c,*c,*c,*c,*c,*c,*c,*c]]")},
		"small YAML":             {count(5000, "below/$/any", "x")},
		"YAML at the limit":      {count(100, "below/$", "any: ["+rep("a,", 380)+"]")},
		"YAML over the limit":    {count(500, "below/$", "any: ["+rep("a,", 380)+"]")},
		"deep JSON":              one("", rep(`{"below":{"a":`, 50)+"1"+rep("}}", 50)),
		"deep JSON in any":       one("any", rep("[", maxTreeValues)),
		"wide JSON":              one("any", "["+rep("1,", maxTreeValues/2-2)+"1]"),
		"entries in JSON":        one("", `{"below": {`+strings.Join(entries, ",")+`}}`),
		"fields in JSON":         one("", "{"+rep(`"Any":0,"ANY":1,"any":[],`, 1)+strings.Join(entries, ",")+"}"),
	}
}

// What is counted is all that is allocated, which is more than is in use at once. The bound on time is loose, for slow
// machines; what it guards against takes minutes.
func TestAHostileTreeCostsBoundedTimeAndMemory(t *testing.T) {
	maxMiB, maxTime := 50.0, 2*time.Second
	tree, err := newTree[nest](nil, false, false)
	if err != nil {
		t.Fatal(err)
	}
	trees := hostileTrees()
	says := map[string]string{ // what the limits refuse, and what they just take
		"50,001 keys":           `key "b": the tree has more than 50000 keys`,
		"too long keys":         "the keys of the tree have more than 8388608 bytes",
		"a leaf of 1.5 MiB":     `key "name": the values of the tree have more than 1048576 bytes`,
		"many leaves too large": "the values of the tree have more than 1048576 bytes",
		"deep keys":             "the tree names more than 120000 fields, entries and elements",
		"YAML over the limit":   "more than 40000 entries, with all that was read before",
		"small alias bombs":     "aliases expand to too much, with all that was read before",
		"50,000 entries":        "<nil>", "50,000 documents": "<nil>", "50,000 elements": "<nil>", "50,000 JSON documents": "<nil>", "50,000 unknown keys": "<nil>",
		"long keys": "<nil>", "a leaf of 1 MiB": "<nil>", "small YAML": "<nil>", "YAML at the limit": "<nil>", "wide JSON": "<nil>",
	}
	for name := range says {
		if trees[name] == nil {
			t.Errorf("no tree is called %q", name)
		}
	}
	for name, layers := range trees {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := tree.decode(layers)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		mib := float64(after.TotalAlloc-before.TotalAlloc) / (1 << 20)
		said := fmt.Sprint(err)
		if !strings.Contains(said, says[name]) {
			t.Errorf("%s: %.300s", name, said)
		}
		t.Logf("%5.1f MiB %4d ms  %s: %.300s", mib, took.Milliseconds(), name, said)
		if raceEnabled {
			continue
		}
		if mib > maxMiB || took > maxTime {
			t.Errorf("%s: %.1f MiB, %v", name, mib, took)
		}
		if len(said) > 2000 {
			t.Errorf("%s: an error of %d bytes", name, len(said))
		}
	}
}
