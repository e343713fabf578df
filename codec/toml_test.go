package codec

import (
	"encoding/json"
	"errors"
	"go/build" //nolint:depguard // the list of the standard library that depguard has lacks go/
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTOMLIsReadWithJSONTags(t *testing.T) {
	t.Parallel()
	type server struct {
		Host string `json:"host"`
		Port uint16 `json:"port"`
	}
	type doc struct {
		Name    string            `json:"app_name" toml:"other"`
		Own     level             `json:"own"`
		At      time.Time         `json:"at"`
		Wait    time.Duration     `json:"wait"`
		Raw     json.RawMessage   `json:"raw"`
		Bin     []byte            `json:"bin"`
		Ints    map[int]string    `json:"ints"`
		Servers []server          `json:"servers"`
		Labels  map[string]string `json:"labels"`
	}
	got, err := TOML[doc]().Decode([]byte(`
app_name = "x"   # a comment
other = "y"
own = 'info'
at = 2026-11-21T00:00:00Z
wait = "1m30s"
raw = {b = [1, 0x10,]}
bin = "aGVsbG8="
ints.1 = "a"
ints."16" = "b"

[[servers]]
host = "a"
port = 80

[[servers]]
host = "b"

[labels]
"a.b" = """
two
lines"""
`))
	want := doc{
		Name: "x", Own: 4, At: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Wait: 90 * time.Second, Raw: json.RawMessage(`{"b":[1,16]}`), Bin: []byte("hello"),
		Ints: map[int]string{1: "a", 16: "b"}, Servers: []server{{"a", 80}, {"b", 0}}, Labels: map[string]string{"a.b": "two\nlines"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v)", got, err)
	}
}

func TestScalarsOfTOMLAreReadAsTheyStand(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"9223372036854775807":                "9223372036854775807",
		"-9223372036854775808":               "-9223372036854775808",
		"+5":                                 "5",
		"1_000":                              "1000",
		"0x1F":                               "31",
		"0o17":                               "15",
		"0b11":                               "3",
		"-0":                                 "0",
		"1.0":                                "1.0",
		"-0.0":                               "-0.0",
		"1e3":                                "1000.0",
		"0.10":                               "0.1",
		"5e-324":                             "5e-324",
		"1e300":                              "1e+300",
		"1e19":                               "10000000000000000000",
		"true":                               "true",
		`''`:                                 `""`,
		`'C:\a'`:                             `"C:\\a"`,
		`"\u00e9\x41\n\u0000\e"`:             "\"éA\\n\\u0000\\u001b\"",
		"'''\n'a'''''":                       `"'a''"`,
		"\"\"\"a \\\n   b\"\"\"":             `"a b"`,
		"2026-11-21T09:30:00Z":               `"2026-11-21T09:30:00Z"`,
		"2026-11-21 09:30:00.123456789+01:0": "",
		"2026-11-21 09:30:00.120+01:00":      `"2026-11-21T09:30:00.12+01:00"`,
		"2026-11-21t09:30:00z":               `"2026-11-21T09:30:00Z"`,
		"2026-11-21T09:30:00.120":            `"2026-11-21T09:30:00.120"`,
		"2026-11-21":                         `"2026-11-21"`,
		"09:30:00":                           `"09:30:00"`,
		"[1, 'a', [true], {b.c = 1}]":        `[1,"a",[true],{"b":{"c":1}}]`,
		"{}":                                 `{}`,
		"[]":                                 `[]`,
	} {
		got, err := TOML[map[string]json.RawMessage]().Decode([]byte("v = " + data))
		if want == "" {
			if err == nil {
				t.Errorf("%q was read as %s", data, got["v"])
			}
			continue
		}
		if err != nil || string(got["v"]) != want {
			t.Errorf("%q: got %s, want %s (%v)", data, got["v"], want, err)
		}
	}
}

func TestTablesOfTOMLAreOneTree(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"a.b.c = 1\na.b.d = 2\na.e = 3":           `{"a":{"b":{"c":1,"d":2},"e":3}}`,
		"[a.b]\nc = 1\n[a]\ne = 2\n[a.b.f]\n":     `{"a":{"b":{"c":1,"f":{}},"e":2}}`,
		"[[a]]\nx = 1\n[[a.b]]\n[[a.b]]\n[[a]]\n": `{"a":[{"b":[{},{}],"x":1},{}]}`,
		"'' = 1\n\"a b\" = 2":                     `{"":1,"a b":2}`,
		"a = {b = 1,\n # comment\n c = 2,\n}":     `{"a":{"b":1,"c":2}}`,
		"[a] # x\r\nb = 1\r\n":                    `{"a":{"b":1}}`,
		"\ufeffa = 1":                             `{"a":1}`,
	} {
		if got, err := TOML[json.RawMessage]().Decode([]byte(data)); err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s (%v)", data, got, want, err)
		}
	}
}

func TestTOMLThatIsAmbiguousOrHostileIsRefused(t *testing.T) {
	t.Parallel()
	arrays := strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1)
	parts := strings.Repeat("a.", MaxDepth-1) + "a"
	for _, data := range []string{"a = " + arrays, parts + " = 1", "[" + parts[2:] + "]"} {
		if _, err := TOML[any]().Decode([]byte(data)); err != nil {
			t.Errorf("%.20q: depth %d: %v", data, MaxDepth, err)
		}
	}
	for data, want := range map[string]string{
		"":                                   "toml: the document is empty",
		"# nothing\n":                        "toml: the document is empty",
		"a = 1\nb = 2\na = 3":                "line 3, column 1: " + ruleTwice,
		"a = 1\n\"\\u0061\" = 3":             "line 2, column 1: " + ruleTwice,
		"é = 1":                              "line 1, column 1: not valid TOML: keys of other characters than A-Z a-z 0-9 _ - must be quoted",
		"'é' = 1\n'é'.b = 1":                 "line 2, column 1: " + ruleTwice,
		"[a]\n[b]\n[a]":                      "line 3, column 2: " + ruleTwice,
		"[a]\n[[a]]":                         "line 2, column 3: " + ruleTwice,
		"a = {b = 1, b = 2}":                 "line 1, column 1: " + ruleTwice,
		"a = {b = 1}\na.c = 2":               "line 2, column 1: " + ruleTwice,
		"a = []\n[[a]]":                      "line 2, column 3: " + ruleTwice,
		strings.Repeat("[a\n", 200):          "line 1, column 3: not valid TOML: expected ']' to close table name",
		"a = " + strings.Repeat("[", 10_000): "column 105: nested deeper than 100",
		"a = 01":                             "column 5: not valid TOML: integers cannot have leading zeroes",
		"'é' = 1 'x'":                        "line 1, column 9: not valid TOML: more on the line than belongs there; strings must be quoted",
		"level = info":                       "column 12: not valid TOML: more on the line than belongs there; strings must be quoted",
		"level = warn":                       "column 9: not valid TOML: strings must be quoted",
		"level = true1":                      "column 13: not valid TOML: more on the line than belongs there; strings must be quoted",
		"level = debug":                      "column 9: not valid TOML: strings must be quoted",
		"level = fine":                       "column 9: not valid TOML: strings must be quoted",
		"wait = 30s":                         "column 10: not valid TOML: strings must be quoted",
		`a = "\q"`:                           "column 6: not valid TOML: an unknown escape",
		"a = [1, 2":                          "column 9: not valid TOML: array is incomplete",
		"a":                                  "column 1: not valid TOML: expected '=' after key",
		"a = \"x":                            "column 6: not valid TOML: unterminated basic string",
		"a: 1":                               "column 2: not valid TOML: expected '=' after key",
		`{"a": 1}`:                           "column 1: not valid TOML: keys of other characters than A-Z a-z 0-9 _ - must be quoted",
		"a = 9223372036854775808":            "column 5: not valid TOML: decimal number is too large to fit in a 64-bit signed integer",
		"a = 0xffffffffffffffff":             "column 5: not valid TOML: hexadecimal number is too large to fit in a 64-bit signed integer",
		"a = 2026-02-30":                     "column 13: not valid TOML: impossible date",
		"a = 1e999":                          "column 5: not valid TOML",
		"a = [1.5, inf]":                     "column 11: not a finite number",
		"a.b = -nan":                         "column 7: not a finite number",
		"a = " + "[" + arrays + "]":          "column 104: nested deeper than 100",
		"[b]\na = [" + arrays + "]":          "line 2, column 103: nested deeper than 100",
		"a." + parts + " = 1":                "column 200: nested deeper than 100",
		"[" + parts[2:] + "]\nb.c = 1":       "line 2, column 1: nested deeper than 100",
		"a = \"\xff\"":                       "column 6: a byte that is not UTF-8",
		"a = \x00":                           "column 5: a NUL byte",
		"a = \"\x01\"":                       "column 6: not valid TOML: basic strings cannot have control characters",
		"a = [" + strings.Repeat("1,", maxEntries):         "more than 40000 entries",
		strings.Repeat("a = 1\n", maxEntries/tomlWeight+1): "line 8001, column 3: more than 40000 entries",
		strings.Repeat("[a]\n", maxEntries/tomlWeight+1):   "line 8001, column 1: more than 40000 entries",
		strings.Repeat("a.a.a.a=1\n", maxEntries/20):       "line 2, column 1: " + ruleTwice,
		"a = '" + strings.Repeat("x", MaxSize):             "text: larger than 1572864 bytes",
	} {
		v, err := TOML[any]().Decode([]byte(data))
		if err == nil || !strings.HasSuffix(err.Error(), want) || v != nil {
			t.Errorf("%.40q: got %v, %v, want %q", data, v, err, want)
		}
	}
}

func TestTextInATOMLDocumentDoesNotCountAsEntries(t *testing.T) {
	t.Parallel()
	marks := strings.Repeat("[{,=.", maxEntries)
	for _, data := range []string{
		`a = "` + marks + `"`,
		`a = "\"` + marks + `"`,
		"a = '" + marks + `\'`,
		`a = """` + marks + `"" ` + marks + "\n" + marks + `"""""`,
		"a = '''" + marks + "'' " + marks + "\n" + marks + "'''''",
		"a = \"\" # " + marks,
		"'" + marks + "' = 1",
		"a = [ # " + marks + "\n1]",
		"a = [" + strings.Repeat("1.5,", maxEntries-100) + "]",
		strings.Repeat("\n# a\n", maxEntries) + "a = 1",
	} {
		if _, err := TOML[any]().Decode([]byte(data)); err != nil {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

// What the count takes for text the parser must take for text, too: behind a string whose end the two see
// in different places, anything could follow.
func TestTheCountOfEntriesSeesStringsEndWhereTheParserDoes(t *testing.T) {
	t.Parallel()
	marks := "[" + strings.Repeat("1,", maxEntries) + "]"
	for _, text := range []string{
		`""`, `''`, `""""""`, `''''''`, `"""a"""`, `"""a""""`, `"""a"""""`, `'''a''''`, `'''a'''''`, `""""a"""`, `"""""a"""`, `'''''a'''`, `"""\""""`, `"""a\"""""`,
		`"\\"`, `"\""`, `'\'`, `'''\'''`, `"""\\"""`, `"'"`, `'"'`, `"'''"`, `'"""'`, `"""'"""`, "'''\n'''", "\"\"\"\\\n\"\"\"", "\"\"\"a\n\"\"\"", `"#"`, `"a" #"`, `"a" #'''`,
	} {
		var v map[string]any
		if f := boundTOML([]byte("a = " + text + "\nb = 1\n")); f != nil {
			t.Errorf("%s: %+v", text, f)
		}
		if v, err := TOML[any]().Decode([]byte("a = " + text + "\nb = 1\n")); err != nil || !reflect.DeepEqual(v.(map[string]any)["b"], 1.0) {
			t.Errorf("%s: %v (%v)", text, v, err)
		}
		if f := boundTOML([]byte("a = " + text + "\nb = " + marks + "\n")); f == nil || f.rule != ruleEntries {
			t.Errorf("%s hides what follows: %+v, %v", text, f, v)
		}
	}
}

func TestAValueOfTheWrongTypeIsPlacedInTheTOML(t *testing.T) {
	t.Parallel()
	type inner struct {
		N    int8          `json:"n"`
		Wait time.Duration `json:"wait"`
		L    level         `json:"l"`
		In   *inner        `json:"in"`
		All  []inner       `json:"all"`
	}
	type doc struct {
		Base  inner            `json:"base"`
		All   []inner          `json:"all"`
		Named map[string]inner `json:"named"`
	}
	for data, want := range map[string]string{
		"base.n = 300":                                         "line 1, column 10: field base.n: a number that int8 cannot hold",
		"[base]\n'é' = 'é'\n\n\t n = 300":                      "line 4, column 7: field base.n: a number that int8 cannot hold",
		"base = {'é' = 'é', wait = 5}":                         "line 1, column 27: field base.wait: a duration needs a unit, as in 30s",
		"base = {wait = 1.5}":                                  "line 1, column 16: field base.wait: a duration needs a unit, as in 30s",
		"[base]\nl = [1]":                                      "line 2, column 5: field base.l: not a valid codec.level",
		"[base.l]\nx = 1":                                      "line 1, column 7: field base.l: not a valid codec.level",
		"base.l.x = 1":                                         "line 1, column 6: field base.l: not a valid codec.level",
		"all = [{n = 1}, {n = 1.5},\n {n = 'x'}]":              "line 1, column 22: field all.n: a number that int8 cannot hold",
		"all = [{},\n # c\n {n = 'x'}]":                        "line 3, column 7: field all.n: a string where int8 is wanted",
		"[[all]]\nn = 1\n[[all]]\nn = 300\n[[all]]":            "line 4, column 5: field all.n: a number that int8 cannot hold",
		"[[all]]\n[[all]]\n[all.in]\nn=1\n[all.in.in]\nn=true": "line 6, column 3: field all.in.in.n: a bool where int8 is wanted",
		"[[all]]\n[[all.all]]\n[[all]]\n[[all.all]]\nn=1\n[[all.all]]\nn=''": "line 7, column 3: field all.all.n: a string where int8 is wanted",
		"[named.'a.b']\n[named.\"\\u0063\\\"\"]\nn = 300":                    "line 3, column 5: field named.n: a number that int8 cannot hold",
		"named = [1]":      "line 1, column 9: field named: an array where map[string]codec.inner is wanted",
		"[[base]]\n":       "line 1, column 3: field base: an array where codec.inner is wanted",
		"[all]\nx = 1":     "line 1, column 2: field all: an object where []codec.inner is wanted",
		"all = [[], [1]]":  "line 1, column 8: field all: an array where codec.inner is wanted",
		"all = [1.5, 2.5]": "line 1, column 8: field all: a number where codec.inner is wanted",
		"base = 1.5 # n\n": "line 1, column 8: field base: a number where codec.inner is wanted",
	} {
		v, err := TOML[doc]().Decode([]byte(data))
		if err == nil || !strings.HasSuffix(err.Error(), "toml "+want) || !reflect.DeepEqual(v, doc{}) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
	}
	strict := Document[doc]{Format: FormatTOML, Strict: true}
	for data, want := range map[string]string{
		"base.n = 1\nbase.x = 2":                 "line 2, column 6: field base: a field that the type does not have",
		"[base]\n[base.x.y]\nz = 1":              "line 2, column 7: field base: a field that the type does not have",
		"x = {}":                                 "line 1, column 1: a field that the type does not have",
		"all = [{n = 1}, {in = {n = 1, x = 1}}]": "line 1, column 31: field all.in: a field that the type does not have",
	} {
		if _, err := strict.Decode([]byte(data)); err == nil || !strings.HasSuffix(err.Error(), "toml "+want) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
		if _, err := TOML[doc]().Decode([]byte(data)); err != nil {
			t.Errorf("%q, not strict: %v", data, err)
		}
	}
}

func TestATOMLDocumentIsATable(t *testing.T) {
	t.Parallel()
	if _, err := TOML[[]int]().Decode([]byte("a = 1")); err == nil || !strings.Contains(err.Error(), "an object where []int is wanted") {
		t.Error(err)
	}
	if _, err := TOML[int]().Decode([]byte("8080")); err == nil {
		t.Error("a bare number was read")
	}
	if v, err := TOML[*limits]().Decode([]byte("rps = 1")); err != nil || v.RPS != 1 {
		t.Errorf("%v (%v)", v, err)
	}
	// Auto takes TOML for what it is as YAML, if it is anything.
	if v, err := Auto[any]().Decode([]byte("a = 1")); err != nil || v != "a = 1" {
		t.Errorf("%v (%v)", v, err)
	}
}

func TestWhatIsEncodedAsTOMLIsDecoded(t *testing.T) {
	t.Parallel()
	second := time.Second
	type inner struct {
		A, B int
		Any  any
	}
	type doc struct {
		Text, Odd string
		Texts     []string
		I         int64
		U         uint64
		F         float64
		Neg       float64
		D         time.Duration
		DP        *time.Duration
		Nil       *time.Duration `json:"nil"`
		NoList    []int
		Lists     [][]any
		In        inner
		Ins       []inner
		Map       map[string]inner
		At        time.Time
		Size      Size
		Raw       json.RawMessage
		Empty     map[string]any
	}
	want := doc{
		Text: "info", Odd: "\x00\x1f\x7f\u0085\u2028\ufeff\U0001f600'\"\\\t\r\n", I: math.MinInt64, U: math.MaxInt64, F: 5e-324, Neg: math.Copysign(0, -1), D: time.Minute, DP: &second,
		Texts: []string{"", " ", "'", `"`, "'''", `"""`, "\n", "a\nb\n", "\r\n", "2026-11-21", "1", "true", "#", "[x]", "\\"},
		Lists: [][]any{{}, {1.0, "x", true, map[string]any{"a": []any{}}}, {map[string]any{"x": map[string]any{}}, map[string]any{}}},
		In:    inner{A: 1, Any: map[string]any{"a.b": 1.5, "": "", "é": []any{}}}, Ins: []inner{{A: 1}, {B: 2, Any: []any{map[string]any{"x": 1.0}}}},
		Map: map[string]inner{"x y": {A: 1}, "": {}}, At: time.Date(2026, 11, 21, 9, 30, 0, 1, time.FixedZone("", 3600)), Size: 3 * GiB / 2, Raw: json.RawMessage(`{"a":[1,"b"]}`),
		Empty: map[string]any{},
	}
	data, err := Document[doc]{Format: FormatTOML, Strict: true}.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Document[doc]{Format: FormatTOML, Strict: true}.Decode(data)
	if !got.At.Equal(want.At) {
		t.Errorf("%v became %v", want.At, got.At)
	}
	if !math.Signbit(got.Neg) {
		t.Errorf("%v became %v", want.Neg, got.Neg)
	}
	got.At = want.At // the same time in a zone that only looks the same
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nbecame %+v\nwant %+v (%v)", data, got, want, err)
	}

	if data, err := TOML[any]().Encode(map[string]any{"list": []any{1, 2}, "wait": "30s", "in": map[string]any{"b": true, "a": 1.0}, "all": []any{map[string]any{"x": 1}}}); err != nil ||
		string(data) != "list = [1, 2]\nwait = '30s'\n\n[[all]]\nx = 1\n\n[in]\na = 1\nb = true\n" {
		t.Errorf("got\n%s (%v)", data, err)
	}
	for _, f := range []float64{1e19, 1e20, 1 << 63, -1 << 63, 1e21, math.MaxFloat64, 0.1, -1.5, 123456789.125, math.MaxInt64} {
		v := map[string]float64{"f": f}
		data, err := TOML[map[string]float64]().Encode(v)
		if err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if got, err := TOML[map[string]float64]().Decode(data); err != nil || got["f"] != f {
			t.Errorf("%v became %s became %v (%v)", f, data, got, err)
		}
	}
}

func TestWhatTOMLCannotHoldIsNotEncoded(t *testing.T) {
	t.Parallel()
	type doc struct {
		In struct {
			U uint64           `json:"u"`
			N json.Number      `json:"n,omitempty"`
			A []any            `json:"a"`
			P []*int           `json:"p"`
			M map[string]*int  `json:"m"`
			D map[string][]any `json:"d"`
		} `json:"in"`
	}
	encode := func(set func(*doc)) func() ([]byte, error) {
		return func() ([]byte, error) {
			var d doc
			set(&d)
			return TOML[doc]().Encode(d)
		}
	}
	deep := any(1)
	for range MaxDepth - 1 {
		deep = []any{deep}
	}
	for rule, encode := range map[string]func() ([]byte, error){
		"encode codec.doc: toml: field in.u: a number that TOML cannot hold": encode(func(d *doc) { d.In.U = math.MaxUint64 }),
		"toml: field in.n: a number that TOML cannot hold":                   encode(func(d *doc) { d.In.N = "1e400" }),
		"toml: field in.n: a number that TOML cannot hold ":                  encode(func(d *doc) { d.In.N = "123456789012345678901234567890" }),
		"toml: field in.a: null, which TOML does not have":                   encode(func(d *doc) { d.In.A = []any{1, nil} }),
		"toml: field in.a: null, which TOML does not have ":                  encode(func(d *doc) { d.In.A = []any{map[string]any{"x": nil}} }),
		"toml: field in.p: null, which TOML does not have":                   encode(func(d *doc) { d.In.P = []*int{nil} }),
		"toml: field in.m: null, which TOML does not have":                   encode(func(d *doc) { d.In.M = map[string]*int{"x": nil} }),
		"toml: TOML is written for structs and maps only":                    func() ([]byte, error) { return TOML[[]int]().Encode([]int{1}) },
		"toml: TOML is written for structs and maps only ":                   func() ([]byte, error) { return TOML[*doc]().Encode(nil) },
		"toml: TOML is written for structs and maps only  ":                  func() ([]byte, error) { return TOML[string]().Encode("x") },
		"toml: nothing to write: in TOML it would be an empty document":      func() ([]byte, error) { return TOML[map[string]int]().Encode(nil2map()) },
		"toml: nothing to write: in TOML it would be an empty document ":     func() ([]byte, error) { return TOML[struct{ P *int }]().Encode(struct{ P *int }{}) },
		"toml: more than 40000 entries":                                      func() ([]byte, error) { return TOML[any]().Encode(map[string]any{"a": make([]int, maxEntries+1)}) },
		"json: nested deeper than 100":                                       func() ([]byte, error) { return TOML[any]().Encode(map[string]any{"a": []any{[]any{deep}}}) },
	} {
		data, err := encode()
		if err == nil || data != nil || !strings.HasSuffix(err.Error(), strings.TrimSpace(rule)) {
			t.Errorf("got %.20q, %v; want %q", data, err, rule)
		}
	}
}

func nil2map() map[string]int { return map[string]int{} }

// The texts that may pass through must be in the parser as they are, so that nothing else can; and those that
// are replaced must be there, so that they are found.
func TestTheTOMLProblemsPassedOnAreConstantsOfTheParser(t *testing.T) {
	t.Parallel()
	pkg, err := build.Import("github.com/pelletier/go-toml/v2", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range []string{"decode.go", "decode_fused.go", "unmarshaler.go", "unstable/parser.go"} {
		b, err := os.ReadFile(filepath.Join(pkg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for _, problem := range tomlProblems {
		// Behind the text no argument, so that it is all there is.
		if !regexp.MustCompile(`NewParserError\([^"\x60]*["\x60]` + regexp.QuoteMeta(problem) + `["\x60]\)`).MatchString(source.String()) {
			t.Errorf("%q is not a text of the parser", problem)
		}
	}
	for _, quoting := range tomlQuoting {
		if !strings.Contains(source.String(), `"`+quoting.text+`%`) {
			t.Errorf("%q is not how a text of the parser begins", quoting.text)
		}
	}
}

// Decode promises not to change what it reads, and the parser gets it without a copy.
func TestTheFormatOfATOMLErrorIsTOML(t *testing.T) {
	t.Parallel()
	_, err := TOML[limits]().Decode([]byte("rps = x"))
	if e, ok := errors.AsType[*Error](err); !ok || e.Format != "toml" || e.Op != "decode" || e.Line != 1 || e.Column != 7 {
		t.Errorf("%#v", err)
	}
}
