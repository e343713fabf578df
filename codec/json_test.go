package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestJSONThatEncodingJSONLetsPassIsRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if _, err := JSON[any]().Decode([]byte(deep)); err != nil {
		t.Errorf("depth %d: %v", MaxDepth, err)
	}
	var keys strings.Builder
	for i := range 100 {
		fmt.Fprintf(&keys, `"k%d": {}, `, i)
	}
	if _, err := JSON[any]().Decode([]byte("{" + keys.String() + `"k": {"k1": 1}}`)); err != nil {
		t.Errorf("keys that differ: %v", err)
	}
	for data, want := range map[string]string{
		"[" + deep + "]":                      "line 1, column 101: nested deeper than 100",
		strings.Repeat(`{"a":`, 101):          "line 1, column 501: nested deeper than 100",
		`{"a": 1, "b": {"a": 1}, "a": 2}`:     "line 1, column 25: a key that occurs twice in one object",
		"{\"a\": [{\n\"b\": 1, \"b\": 1}]}":   "line 2, column 9: a key that occurs twice in one object",
		`{"a": 1, "\u0061": 2}`:               "column 10: a key that occurs twice in one object",
		"{" + keys.String() + `"k5": 1}`:      "a key that occurs twice in one object",
		"{" + keys.String() + `"k99": 1}`:     "a key that occurs twice in one object",
		"{" + keys.String() + `"\u006b5": 1}`: "a key that occurs twice in one object",
		"{\"a\": \"\xff\"}":                   "column 8: a byte that is not UTF-8",
		"{\"a\": \"\x00\"}":                   "column 8: a NUL byte",
	} {
		if v, err := JSON[any]().Decode([]byte(data)); err == nil || !strings.HasSuffix(err.Error(), want) || v != nil {
			t.Errorf("%.40q: got %v, %v, want %q", data, v, err, want)
		}
	}
}

func TestMalformedJSONIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"{\n  \"a\": 1,\n  é: 2}": "line 3, column 3: not valid JSON",
		`{"a": 1,}`:               "column 9: not valid JSON",
		`[1, 2,]`:                 "column 7: not valid JSON",
		`[1 2]`:                   "column 4: not valid JSON",
		`{"a" 1}`:                 "column 6: not valid JSON",
		`{"a": 01}`:               "column 8: not valid JSON",
		`{"a": tru}`:              "column 10: not valid JSON",
		`{"a": "\x"}`:             "column 9: not valid JSON",
		"{\"a\": \"\t\"}":         "column 8: not valid JSON",
		`{"\x": 1}`:               "column 4: not valid JSON",
		`{} {}`:                   "column 4: not valid JSON",
		`{}x`:                     "column 3: not valid JSON",
		`{"a": 1`:                 "column 8: the document ends too early",
		`{"a": "x`:                "column 9: the document ends too early",
		`{"a": "\`:                "column 9: the document ends too early",
		`[`:                       "column 2: the document ends too early",
		`]`:                       "column 1: not valid JSON",
		`"a`:                      "column 3: the document ends too early",
		`[:]`:                     "column 2: not valid JSON",
	} {
		if v, err := JSON[any]().Decode([]byte(data)); err == nil || !strings.HasSuffix(err.Error(), want) || v != nil {
			t.Errorf("%q: got %v, %v, want %q", data, v, err, want)
		}
	}
}

func TestAValueOfTheWrongTypeIsRefusedWithItsPlaceAndField(t *testing.T) {
	t.Parallel()
	type inner struct {
		N int8       `json:"n"`
		A netip.Addr `json:"a"`
		S string     `json:"s,omitempty"`
		Q int        `json:"q,string"`
	}
	type outer struct {
		In  inner            `json:"in"`
		Map map[string]inner `json:"map"`
		Key map[int8]int     `json:"key"`
		All []inner          `json:"all"`
	}
	for data, want := range map[string]string{
		`{"in": {"n": 300}}`:  "column 14: field in.n: a number that int8 cannot hold",
		`{"in": {"n": 1.5}}`:  "column 14: field in.n: a number that int8 cannot hold",
		`{"in": {"n": "x"}}`:  "column 14: field in.n: a string where int8 is wanted",
		`{"in": {"s": 5}}`:    "column 14: field in.s: a number where string is wanted",
		`{"in": {"s": true}}`: "column 14: field in.s: a bool where string is wanted",
		`{"in": []}`:          "column 8: field in: an array where codec.inner is wanted",
		`{"all": {"x": 1}}`:   "column 9: field all: an object where []codec.inner is wanted",
		"{\"map\": {\"x\": {},\n \"y\": {\"n\": 300}}}":   "line 2, column 13: field map.n: a number that int8 cannot hold",
		`{"key": {"x": 1}}`:                               "field key: a number that int8 cannot hold",
		`{"in": {"a": "::1"}, "all": [{"a": "nowhere"}]}`: "column 36: field all.a: not a valid netip.Addr",
		`{"in": {"q": "x"}}`:                              "json: a value that does not fit its Go type",
		`5`:                                               "column 1: a number where codec.outer is wanted",
	} {
		v, err := JSON[outer]().Decode([]byte(data))
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
		if v.In != (inner{}) || v.All != nil || v.Map != nil {
			t.Errorf("%s: an error came with %+v", data, v)
		}
	}
}

// nested reports an error of its own whose offset is not one into the document.
type nested struct{ N int }

func (n *nested) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	return json.Unmarshal([]byte(s), &n.N)
}

func TestAnErrorOfATypeThatDecodesItselfIsPlacedAtItsValue(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"a": {"x": "1", "y": "{"}}`: "column 23: field a: not a valid codec.nested",
		`{"a": {"x": "1", "y": 5}}`:   "column 23: field a: not a valid codec.nested",
	} {
		_, err := JSON[struct {
			A map[string]nested `json:"a"`
		}]().Decode([]byte(data))
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
	}
}

func TestADocumentThatIsNeitherJSONNorYAMLIsTakenForWhatItBeganAs(t *testing.T) {
	for doc, format := range map[string]string{
		`{"n": 1,`:  "json",
		`{"n": 1}x`: "json",
		"n: [":      "yaml",
	} {
		_, err := Auto[struct{ N int }]().Decode([]byte(doc))
		if e, ok := errors.AsType[*Error](err); !ok || e.Format != format {
			t.Errorf("%q: %v, want an error about %s", doc, err, format)
		}
	}
	if v, err := Auto[struct{ N int }]().Decode([]byte("{n: 1}")); err != nil || v.N != 1 {
		t.Errorf("a YAML flow mapping: %v, %v", v, err)
	}
}
