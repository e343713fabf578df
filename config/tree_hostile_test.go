package config

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/codec"
)

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
