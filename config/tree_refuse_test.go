package config

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/codec"
)

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
