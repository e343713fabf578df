package codec

import (
	"encoding/json"
	"go/build" //nolint:depguard // the list of the standard library that depguard has lacks go/
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestYAMLIsReadWithJSONTags(t *testing.T) {
	t.Parallel()
	type doc struct {
		Name string          `json:"app_name" yaml:"other"`
		Own  level           `json:"own"`
		At   time.Time       `json:"at"`
		Raw  json.RawMessage `json:"raw"`
		Bin  []byte          `json:"bin"`
		Ints map[int]string  `json:"ints"`
	}
	got, err := YAML[doc]().Decode([]byte(`
app_name: x   # a comment
other: y
own: info
at: 2026-11-21T00:00:00Z
raw: {b: [1, ~]}
bin: !!binary |
  aGVs
  bG8=
ints: {1: a, 0x10: b}
`))
	want := doc{Name: "x", Own: 4, At: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Raw: json.RawMessage(`{"b":[1,null]}`), Bin: []byte("hello"), Ints: map[int]string{1: "a", 16: "b"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v)", got, err)
	}
}

func TestScalarsOfYAMLAreReadAsTheyStand(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"18446744073709551615":       "18446744073709551615",
		"-9223372036854775808":       "-9223372036854775808",
		"123456789012345678901234":   "123456789012345678901234",
		"+5":                         "5",
		"1_000":                      "1000",
		"1_0.5_0":                    "10.50",
		"0x1F":                       "31",
		"-0x1F":                      "-31",
		"0o17":                       "15",
		"0b11":                       "3",
		"0xffffffffffffffff":         "18446744073709551615",
		"0":                          "0",
		"-0":                         "-0",
		"0.10":                       "0.10",
		".5":                         "0.5",
		"1.":                         "1",
		"1e3":                        "1e3",
		"+1.5":                       "1.5",
		"0.1000000000000000055511":   "0.1000000000000000055511",
		"!!float 1":                  "1",
		"true":                       "true",
		"False":                      "false",
		"yes":                        `"yes"`,
		"on":                         `"on"`,
		"~":                          "null",
		"Null":                       "null",
		"''":                         `""`,
		"'007'":                      `"007"`,
		"!!str 5":                    `"5"`,
		"!!str":                      `""`,
		"1:30":                       `"1:30"`,
		"2026-11-21":                 `"2026-11-21"`,
		"v1.10":                      `"v1.10"`,
		"\"\\u00e9\\x41\\n\\0\\e\"":  `"éA\n\u0000\u001b"`,
		"|\n  a\n   b\n":             `"a\n b\n"`,
		">-\n  a\n  b\n":             `"a b"`,
		"[<<, =]":                    `["<<","="]`,
		"{1: a, 1.5: b, true: c}":    `{"1":"a","1.5":"b","true":"c"}`,
		"{0x10: a, 2026-11-21: b}":   `{"16":"a","2026-11-21":"b"}`,
		"{\"<<\": {a: 1}, a: 2}":     `{"<<":{"a":1},"a":2}`,
		"a: &x [1]\nb: *x\nc: [*x]":  `{"a":[1],"b":[1],"c":[[1]]}`,
		"{&k a: 1, b: {*k : 2}}":     `{"a":1,"b":{"a":2}}`,
		"!!map {a: !!seq [!!int 1]}": `{"a":[1]}`,
		"? a\n? b\n: 1":              `{"a":null,"b":1}`,
	} {
		got, err := YAML[json.RawMessage]().Decode([]byte(data))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s (%v)", data, got, want, err)
		}
	}
}

func TestLargeIntegersKeepTheirDigitsThroughYAML(t *testing.T) {
	t.Parallel()
	type doc struct {
		I int64
		U uint64
		N json.Number
		F float64
	}
	want := doc{math.MinInt64, math.MaxUint64, "123456789012345678901234567890", math.MaxFloat64}
	data, err := YAML[doc]().Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := YAML[doc]().Decode(data); err != nil || got != want {
		t.Errorf("%s became %+v (%v)", data, got, err)
	}
}

func TestMergeKeysGiveWayToOwnKeysAndEarlierSourcesToNone(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"{<<: {}, a: 1}":                                 `{"a":1}`,
		"{a: 1, <<: {a: 2, b: 3}}":                       `{"a":1,"b":3}`,
		"{<<: {a: 2, b: 3}, a: 1}":                       `{"a":1,"b":3}`,
		"{<<: [{a: 1}, {a: 2, b: 3}, {b: 4, c: 5}]}":     `{"a":1,"b":3,"c":5}`,
		"{<<: {<<: {a: 1, b: 1}, b: 2, c: 2}, c: 3}":     `{"c":3,"b":2,"a":1}`,
		"[&x {a: 1}, {<<: *x, b: 2}, {<<: [*x, *x]}]":    `[{"a":1},{"b":2,"a":1},{"a":1}]`,
		"[&x [{a: 1}, {b: 2}], {<<: *x}]":                `[[{"a":1},{"b":2}],{"a":1,"b":2}]`,
		"{<<: {a: {b: 1}}, a: {c: 2}}":                   `{"a":{"c":2}}`,
		"x: &x {a: 1}\ny: &y {<<: *x}\nz: {<<: *y}":      `{"x":{"a":1},"y":{"a":1},"z":{"a":1}}`,
		"!!merge <<: {a: 1}":                             `{"a":1}`,
		"{<<: {a: 1, d: {<<: {e: 1}}}, d: {<<: {f: 2}}}": `{"d":{"f":2},"a":1}`,
	} {
		got, err := YAML[json.RawMessage]().Decode([]byte(data))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s (%v)", data, got, want, err)
		}
	}
}

func TestYAMLThatIsAmbiguousOrHostileIsRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if _, err := YAML[any]().Decode([]byte(deep)); err != nil {
		t.Errorf("depth %d: %v", MaxDepth, err)
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for _, c := range "bcdefghi" {
		bomb += strings.ReplaceAll("C: &C [*P, *P, *P, *P, *P, *P, *P, *P, *P, *P]\n", "C", string(c))
		bomb = strings.ReplaceAll(bomb, "P", string(c-1))
	}
	for data, want := range map[string]string{
		"a: 1\nb:\n  c: 1\n  d: 2\n  c: 3":    "line 5, column 3: a key that occurs twice in one object",
		"{1: a, '1': b}":                      "column 8: a key that occurs twice in one object",
		"{0x10: a, 16: b}":                    "column 11: a key that occurs twice in one object",
		"{<<: {a: 1}, <<: {b: 1}}":            "column 14: a key that occurs twice in one object",
		"{<<: {a: 1, a: 2}}":                  "column 13: a key that occurs twice in one object",
		"{<<: 5}":                             "column 6: << wants a mapping or a list of mappings",
		"{<<: [[{a: 1}]]}":                    "column 7: << wants a mapping or a list of mappings",
		"a: 1\n---\nb: 2":                     "line 2, column 1: more than one document",
		"a: 1\n---\n":                         "more than one document",
		"a: 1\n...\nb: 2":                     "not valid YAML: did not find expected <document start>",
		"a: 1\nb":                             "near line 2: not valid YAML: could not find expected ':'",
		"a: [1,":                              "not valid YAML: did not find expected node content",
		"a: 1\n\tb: 2":                        "near line 2: not valid YAML: found a tab character that violates indentation",
		"a: b: c":                             "not valid YAML: mapping values are not allowed in this context",
		"a: *x":                               "not valid YAML: an alias without an anchor",
		"a: &x [*x]":                          "column 8: an alias inside of what it stands for",
		"a: &x {b: {<<: *x}}":                 "column 16: an alias inside of what it stands for",
		"[" + deep + "]":                      "column 101: nested deeper than 100",
		strings.Repeat("- ", 101) + "x":       "column 201: nested deeper than 100",
		strings.Repeat("[", 10001):            "nested deeper than 100",
		"a: &a " + deep + "\nb: [*a]":         "line 1, column 106: nested deeper than 100",
		bomb:                                  "line 5, column 40: aliases expand to too much",
		"a: 007":                              "column 4: a number with a leading zero: quote it, or write 0o for octal",
		"a: -01.5":                            "column 4: a number with a leading zero: quote it, or write 0o for octal",
		"{08: a}":                             "column 2: a number with a leading zero: quote it, or write 0o for octal",
		"a: .inf":                             "column 4: not a finite number",
		"a: .NaN":                             "column 4: not a finite number",
		"a: !secret b":                        "column 4: a tag that is not one of YAML's own, or does not fit its value",
		"a: !!python/object b":                "column 4: a tag that is not one of YAML's own, or does not fit its value",
		"a: !x [1]":                           "column 4: a tag that is not one of YAML's own, or does not fit its value",
		"a: !!int b":                          "a tag that is not one of YAML's own, or does not fit its value",
		"a: !!bool b":                         "a tag that is not one of YAML's own, or does not fit its value",
		"!x a: b":                             "a tag that is not one of YAML's own, or does not fit its value",
		"? [a]\n: 1":                          "column 3: a key that is not a scalar",
		"~: 1":                                "column 1: a key that is null",
		"a: \"\xff\"":                         "column 5: a byte that is not UTF-8",
		"a: \x00":                             "column 4: a NUL byte",
		"a: \x01":                             "not valid YAML: control characters are not allowed",
		strings.Repeat("- a\n", maxEntries+1): "line 40001, column 1: more than 40000 entries",
		strings.Repeat("#\n", maxEntries/4+1): "line 10001, column 1: more than 40000 entries",
		strings.Repeat("x", MaxSize+1):        "text: larger than 1572864 bytes",
	} {
		v, err := YAML[any]().Decode([]byte(data))
		if err == nil || !strings.HasSuffix(err.Error(), want) || v != nil {
			t.Errorf("%.40q: got %v, %v, want %q", data, v, err, want)
		}
	}
}

func TestTextInAYAMLDocumentDoesNotCountAsEntries(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"commas":        "a: |\n" + strings.Repeat("  x,y,z\n", maxEntries),
		"colons, times": "a: |\n" + strings.Repeat("  10:20:30-x-y\n", maxEntries),
		"entries":       strings.Repeat("k: |\n  x\n", 1) + "l:\n" + strings.Repeat("- a\n", maxEntries-10),
	} {
		if _, err := YAML[any]().Decode([]byte(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAValueOfTheWrongTypeIsPlacedInTheYAML(t *testing.T) {
	t.Parallel()
	type doc struct {
		Base  struct{ N int8 } `json:"base"`
		Other struct {
			N    int8          `json:"n"`
			Wait time.Duration `json:"wait"`
			L    level         `json:"l"`
		} `json:"other"`
	}
	for data, want := range map[string]string{
		"base: &b {n: 5}\nother:\n  wait: 1h\n  n: 300": "yaml line 4, column 6: field other.n: a number that int8 cannot hold",
		"base: &b\n  n: x\nother:\n  <<: *b\n":          "yaml line 2, column 6: field base.N: a string where int8 is wanted",
		"other:\n  # comment\n  l: [1]\n":               "yaml line 3, column 6: field other.l: not a valid codec.level",
		"other:\n  wait: 1h\n  'l':\n\n    {}":          "yaml line 5, column 5: field other.l: not a valid codec.level",
		"? other\n: - 1":                                "yaml line 2, column 3: field other: an array where struct",
		"'other': {\"wait\": \"1h\", \"n\": true}":      "yaml line 1, column 30: field other.n: a bool where int8 is wanted",
		"other: {é: \"é\", wait: 5}":                    "yaml line 1, column 23: field other.wait: a duration needs a unit",
	} {
		if _, err := YAML[doc]().Decode([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
	}
}

// The texts that may pass through must be in the parser as they are, so that nothing else can.
func TestTheProblemsPassedOnAreConstantsOfTheParser(t *testing.T) {
	t.Parallel()
	pkg, err := build.Import("go.yaml.in/yaml/v3", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range []string{"scannerc.go", "parserc.go", "readerc.go"} {
		b, err := os.ReadFile(filepath.Join(pkg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for _, problem := range yamlProblems {
		if !strings.Contains(source.String(), `"`+problem+`"`) {
			t.Errorf("%q is not a text of the parser", problem)
		}
	}
}
