package codec

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type name string

func auto[T any](data string) (any, error) { return Auto[T]().Decode([]byte(data)) }

func TestAutoReadsABareScalarAsPeoplePutIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decode func(string) (any, error)
		data   string
		want   any
	}{
		{auto[string], "info", "info"},
		{auto[string], "info\n", "info"},
		{auto[string], "info\r\n", "info"},
		{auto[string], "info\n\n", "info\n"},
		{auto[string], "info\r", "info\r"},
		{auto[string], "  in fo ", "  in fo "},
		{auto[string], "", ""},
		{auto[string], "\n", ""},
		{auto[string], "true", "true"},
		{auto[string], "8080", "8080"},
		{auto[string], "a: b", "a: b"},
		{auto[string], `{"a":1}`, `{"a":1}`},
		{auto[string], `"quoted \u0041\n"`, "quoted A\n"},
		{auto[string], " \"quoted\"\n", "quoted"},
		{auto[string], `"not closed`, `"not closed`},
		{auto[string], `"two" "strings"`, `"two" "strings"`},
		{auto[string], "\ufeffinfo", "info"},
		{auto[name], "info\n", name("info")},
		{auto[bool], "true\n", true},
		{auto[bool], `"false"`, false},
		{auto[int], " 8080\n", 8080},
		{auto[int], "-1", -1},
		{auto[int8], "-128", int8(-128)},
		{auto[int64], "9223372036854775807", int64(math.MaxInt64)},
		{auto[uint64], "18446744073709551615", uint64(math.MaxUint64)},
		{auto[uint8], "255", uint8(255)},
		{auto[float64], "0.1", 0.1},
		{auto[float32], "1e3", float32(1000)},
		{auto[time.Duration], "30s\n", 30 * time.Second},
		{auto[time.Duration], `"1h30m"`, 90 * time.Minute},
		{auto[time.Duration], "0", time.Duration(0)},
		{auto[slog.Level], "warn\n", slog.LevelWarn},
		{auto[netip.Addr], "::1\n", netip.IPv6Loopback()},
		{auto[time.Time], "2026-11-21T00:00:00Z", time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)},
	} {
		if got, err := c.decode(c.data); err != nil || got != c.want {
			t.Errorf("%q: got %#v, want %#v (%v)", c.data, got, c.want, err)
		}
	}
}

func TestAutoRefusesAScalarThatIsNotOfItsType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decode func(string) (any, error)
		data   string
		want   string
	}{
		{auto[bool], "yes", "codec: decode bool: text line 1, column 1: neither true nor false"},
		{auto[bool], "True", "neither true nor false"},
		{auto[bool], "1", "neither true nor false"},
		{auto[bool], "", "the document is empty"},
		{auto[int], "\n 80x", "codec: decode int: text line 2, column 2: not a decimal integer"},
		{auto[int], "0x10", "not a decimal integer"},
		{auto[int], "1_000", "not a decimal integer"},
		{auto[int], "1.0", "not a decimal integer"},
		{auto[int], " \n", "the document is empty"},
		{auto[int8], "128", "out of range of int8"},
		{auto[int64], "9223372036854775808", "out of range of int64"},
		{auto[uint8], "256", "out of range of uint8"},
		{auto[uint8], "-1", "out of range of uint8"},
		{auto[uint8], "--1", "not a decimal integer"},
		{auto[float32], "1e39", "out of range of float32"},
		{auto[float64], "NaN", "not a finite number"},
		{auto[float64], "inf", "not a finite number"},
		{auto[float64], "1,5", "not a number"},
		{auto[time.Duration], "30", "a duration needs a unit, as in 30s"},
		{auto[time.Duration], "1.5", "a duration needs a unit, as in 30s"},
		{auto[time.Duration], "soon", "not a duration, as 30s or 1h30m is one"},
		{auto[time.Duration], "", "the document is empty"},
		{auto[netip.Addr], "localhost", "not a valid netip.Addr"},
		{auto[slog.Level], "loud", "not a valid slog.Level"},
		{auto[string], "a\x00b", "line 1, column 2: a NUL byte"},
		{auto[string], "é\n\xff", "line 2, column 1: a byte that is not UTF-8"},
		{auto[string], strings.Repeat("x", MaxSize+1), "larger than 1572864 bytes"},
	} {
		got, err := c.decode(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: got %v, want %q", c.data, err, c.want)
		}
		if got != reflect.Zero(reflect.TypeOf(got)).Interface() {
			t.Errorf("%.20q: an error came with %#v", c.data, got)
		}
	}
}

type limits struct {
	RPS     int           `json:"rps"`
	Timeout time.Duration `json:"timeout"`
	Tags    []string      `json:"tags"`
}

func TestAutoReadsADocumentAsJSONOrElseAsYAML(t *testing.T) {
	t.Parallel()
	want := limits{RPS: 100, Timeout: 30 * time.Second, Tags: []string{"a", "b"}}
	for _, data := range []string{
		`{"rps": 100, "timeout": "30s", "tags": ["a", "b"]}`,
		"\ufeff\n {\"rps\": 100, \"timeout\": \"30s\", \"tags\": [\"a\", \"b\"]}\n",
		"rps: 100\ntimeout: 30s\ntags: [a, b]\n",
		"---\nrps: 100\ntimeout: 30s\ntags:\n- a\n- b\n...\n",
		"{rps: 100, timeout: 30s, tags: [a, b]}",
		`{"rps": 100, "timeout": "30s", "tags": ["a", "b",],}`, // not JSON, but YAML
		"# comment\n{\"rps\": 100, \"timeout\": \"30s\", \"tags\": [\"a\", \"b\"]}",
	} {
		if got, err := Auto[limits]().Decode([]byte(data)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v (%v)", data, got, err)
		}
	}
	if got, err := Auto[[]int]().Decode([]byte("- 1\n- 2")); err != nil || !reflect.DeepEqual(got, []int{1, 2}) {
		t.Errorf("got %v (%v)", got, err)
	}
	if got, err := Auto[any]().Decode([]byte("8080\n")); err != nil || got != 8080.0 {
		t.Errorf("got %v (%v)", got, err)
	}
	if got, err := Auto[*int]().Decode([]byte("8080\n")); err != nil || *got != 8080 {
		t.Errorf("got %v (%v)", got, err)
	}
}

// level is a number that decodes JSON by itself, so Auto reads it as a document.
type level int

func (l *level) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	*l = level(len(s))
	return err
}

func TestATypeThatDecodesOnlyJSONIsADocument(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"info", `"info"`, "info\n"} {
		if got, err := Auto[level]().Decode([]byte(data)); err != nil || got != 4 {
			t.Errorf("%q: got %v (%v)", data, got, err)
		}
	}
}

func TestEachFormatReadsOnlyItself(t *testing.T) {
	t.Parallel()
	if _, err := JSON[limits]().Decode([]byte("rps: 1")); err == nil {
		t.Error("JSON read YAML")
	}
	if _, err := JSON[string]().Decode([]byte("info")); err == nil {
		t.Error("JSON read a bare string")
	}
	if v, err := JSON[time.Duration]().Decode([]byte(`"30s"`)); err != nil || v != 30*time.Second {
		t.Errorf("got %v (%v)", v, err)
	}
	if v, err := YAML[time.Duration]().Decode([]byte("30s")); err != nil || v != 30*time.Second {
		t.Errorf("got %v (%v)", v, err)
	}
	if v, err := YAML[limits]().Decode([]byte(`{"rps": 1}`)); err != nil || v.RPS != 1 {
		t.Errorf("got %v (%v)", v, err)
	}
	if _, err := (Document[limits]{Format: 7}).Decode([]byte("{}")); err == nil || !strings.Contains(err.Error(), "Document.Format is none of the package's") {
		t.Error(err)
	}
	if _, err := (Document[limits]{Format: -1}).Encode(limits{}); err == nil || !strings.Contains(err.Error(), "Document.Format is none of the package's") {
		t.Error(err)
	}
}

func TestAnEmptyOrNullDocumentIsRefusedUnlessItMeansSomething(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decode func(string) (any, error)
		data   string
		want   string
	}{
		{auto[limits], "", "the document is empty"},
		{auto[limits], " \n", "the document is empty"},
		{auto[limits], "# nothing\n", "the document is empty"},
		{auto[limits], "---\n", "the document is empty"},
		{auto[limits], "null", "the document is null"},
		{auto[limits], "~", "the document is null"},
		{auto[[2]int], "null", "the document is null"},
		{auto[*limits], "", "the document is empty"},
		{auto[any], "# nothing", "the document is empty"},
		{func(s string) (any, error) { return JSON[limits]().Decode([]byte(s)) }, " ", "the document is empty"},
		{func(s string) (any, error) { return JSON[limits]().Decode([]byte(s)) }, " null\n", "line 1, column 2: the document is null"},
		{func(s string) (any, error) { return JSON[int]().Decode([]byte(s)) }, "null", "the document is null"},
	} {
		if _, err := c.decode(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.data, err, c.want)
		}
	}
	for _, decode := range []func(string) (any, error){auto[*limits], auto[map[string]int], auto[[]int], auto[any], auto[json.RawMessage]} {
		if _, err := decode("null"); err != nil {
			t.Errorf("null: %v", err)
		}
	}
}

func TestAnUnknownFieldIsIgnoredUnlessTheCodecIsStrict(t *testing.T) {
	t.Parallel()
	type inner struct {
		A int `json:"a"`
	}
	type outer struct {
		In   inner            `json:"in"`
		Map  map[string]inner `json:"map"`
		Free any              `json:"free"`
		Raw  json.RawMessage  `json:"raw"`
	}
	known := `{"in": {"A": 1}, "MAP": {"x": {"a": 2}}, "free": {"q": 1}, "raw": {"q": 1}}`
	for _, format := range []Format{FormatAuto, FormatJSON, FormatYAML} {
		strict := Document[outer]{Format: format, Strict: true}
		if v, err := strict.Decode([]byte(known)); err != nil || v.In.A != 1 || v.Map["x"].A != 2 {
			t.Errorf("format %v: %+v, %v", format, v, err)
		}
		for data, want := range map[string]string{
			`{"in": {"a": 1}, "b": 2}`:          "line 1, column 18: a field that the type does not have",
			"{\n \"in\": {\"a\": 1, \"b\": 2}}": "line 2, column 17: field in: a field that the type does not have",
			`{"map": {"x": {"a": 1, "b": 2}}}`:  "line 1, column 24: field map: a field that the type does not have",
			`{"in": {"b": [{"c": {"d": 1}}]}}`:  "line 1, column 9: field in: a field that the type does not have",
		} {
			if _, err := strict.Decode([]byte(data)); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("format %v: got %v, want %q", format, err, want)
			}
			if _, err := (Document[outer]{Format: format}).Decode([]byte(data)); err != nil {
				t.Errorf("format %v, not strict: %v", format, err)
			}
		}
	}
}

func TestStringIsTheTextAsItIs(t *testing.T) {
	t.Parallel()
	c := String()
	for _, s := range []string{"", "info\n", ` "quoted" `, "\ufeffx", "a: b\r\n"} {
		data, err := c.Encode(s)
		if err != nil || string(data) != s {
			t.Errorf("%q became %q (%v)", s, data, err)
		}
		if got, err := c.Decode(data); err != nil || got != s {
			t.Errorf("%q became %q (%v)", s, got, err)
		}
	}
	for _, s := range []string{"a\x00", "\xff", strings.Repeat("x", MaxSize+1)} {
		if _, err := c.Encode(s); err == nil {
			t.Errorf("%.10q was encoded", s)
		}
		if got, err := c.Decode([]byte(s)); err == nil || got != "" {
			t.Errorf("%.10q was decoded to %.10q", s, got)
		}
	}
}

func roundTrip[T any](t *testing.T, v T, want string) {
	t.Helper()
	data, err := Auto[T]().Encode(v)
	if err != nil || string(data) != want {
		t.Errorf("%#v became %q, want %q (%v)", v, data, want, err)
	}
	for _, format := range []Format{FormatAuto, FormatJSON, FormatYAML} {
		c := Document[T]{Format: format}
		data, err := c.Encode(v)
		if err != nil {
			t.Errorf("format %v: %#v: %v", format, v, err)
			continue
		}
		if got, err := c.Decode(data); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("format %v: %#v became %q became %#v (%v)", format, v, data, got, err)
		}
	}
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	t.Parallel()
	roundTrip(t, "info", "info")
	roundTrip(t, "", "")
	roundTrip(t, "a\n", `"a\n"`)
	roundTrip(t, "a\nb", "a\nb")
	roundTrip(t, `"a"`, `"\"a\""`)
	roundTrip(t, ` "a" `, `" \"a\" "`)
	roundTrip(t, ` a `, ` a `)
	roundTrip(t, "a\x00b\x1f\\", `"a\u0000b\u001f\\"`)
	roundTrip(t, "\ufeffa", "\"\ufeffa\"")
	roundTrip(t, "yes", "yes")
	roundTrip(t, name("~"), "~")
	roundTrip(t, true, "true")
	roundTrip(t, 8080, "8080")
	roundTrip(t, int64(math.MinInt64), "-9223372036854775808")
	roundTrip(t, uint64(math.MaxUint64), "18446744073709551615")
	roundTrip(t, 0.1, "0.1")
	roundTrip(t, float32(0.1), "0.1")
	roundTrip(t, math.MaxFloat64, "1.7976931348623157e+308")
	roundTrip(t, 30*time.Second, "30s")
	roundTrip(t, time.Duration(math.MinInt64), "-2562047h47m16.854775808s")
	roundTrip(t, slog.LevelWarn, "WARN")
	roundTrip(t, netip.IPv6Loopback(), "::1")
	roundTrip(t, netip.Addr{}, "")
	roundTrip(t, limits{100, 30 * time.Second, []string{"<a>"}}, `{"rps":100,"timeout":"30s","tags":["<a>"]}`)
	roundTrip(t, (*limits)(nil), "null")
	roundTrip(t, map[string]time.Duration{"x": time.Minute}, `{"x":"1m0s"}`)
	roundTrip(t, []any{nil, true, 1.5, "x", map[string]any{}, []any{}}, `[null,true,1.5,"x",{},[]]`)
	roundTrip(t, map[string]uint64{"x": math.MaxUint64}, `{"x":18446744073709551615}`)
	roundTrip(t, []string{"yes", "1:30", "0x10", "007", "null", "~", "", " ", "- a", "a: b", "#", "<<", "'", "\"", "a\n b\n", "\t", "é", "\u0085", "\u2028", "\ufeff", "\U0001f600", "---", "...", "%", "!x", "&x", "*x", "2001-01-01", "1_0", ".inf", "=", "a #b"},
		`["yes","1:30","0x10","007","null","~",""," ","- a","a: b","#","<<","'","\"","a\n b\n","\t","é","`+"\u0085"+`","\u2028","`+"\ufeff"+`","😀","---","...","%","!x","&x","*x","2001-01-01","1_0",".inf","=","a #b"]`)
}

func TestYAMLIsWrittenToBeReadByPeople(t *testing.T) {
	t.Parallel()
	data, err := YAML[any]().Encode(map[string]any{"on": []any{"yes", "no way", 1, map[string]any{"a": "1:30"}}, "text": "a\nb"})
	want := "\"on\":\n  - \"yes\"\n  - no way\n  - 1\n  - a: \"1:30\"\ntext: \"a\\nb\"\n"
	if err != nil || string(data) != want {
		t.Errorf("got\n%s\nwant\n%s (%v)", data, want, err)
	}
}

type writeOnly struct{ text string }

func (w *writeOnly) UnmarshalText(b []byte) error { w.text = string(b); return nil }

func TestEncodeRefusesWhatDecodeWouldNotRead(t *testing.T) {
	t.Parallel()
	deep := any(nil)
	for range MaxDepth + 1 {
		deep = []any{deep}
	}
	many := make([]int, maxEntries+10)
	for rule, encode := range map[string]func() ([]byte, error){
		"larger than 1572864 bytes":               func() ([]byte, error) { return Auto[string]().Encode(strings.Repeat("x", MaxSize+1)) },
		"larger than 1572864 bytes ":              func() ([]byte, error) { return JSON[string]().Encode(strings.Repeat("x", MaxSize)) },
		"nested deeper than 100":                  func() ([]byte, error) { return Auto[any]().Encode(deep) },
		"more than 40000 entries":                 func() ([]byte, error) { return YAML[[]int]().Encode(many) },
		"a string that is not UTF-8":              func() ([]byte, error) { return Auto[string]().Encode("\xff") },
		"a string that is not UTF-8 ":             func() ([]byte, error) { return Auto[[]string]().Encode([]string{"\\ufffd\xff"}) },
		"not a finite number":                     func() ([]byte, error) { return Auto[float64]().Encode(math.NaN()) },
		"a value that JSON cannot hold":           func() ([]byte, error) { return Auto[[]float64]().Encode([]float64{math.Inf(1)}) },
		"func() cannot be written as JSON":        func() ([]byte, error) { return Auto[struct{ F func() }]().Encode(struct{ F func() }{}) },
		"has UnmarshalText but no MarshalText":    func() ([]byte, error) { return Auto[writeOnly]().Encode(writeOnly{}) },
		"not written by its own type time.Time":   func() ([]byte, error) { return Auto[time.Time]().Encode(time.Time{}.AddDate(20000, 0, 0)) },
		"not written by its own type time.Time ":  func() ([]byte, error) { return JSON[time.Time]().Encode(time.Time{}.AddDate(20000, 0, 0)) },
		"not written by its own type json.RawMes": func() ([]byte, error) { return Auto[[]json.RawMessage]().Encode([]json.RawMessage{[]byte("{")}) },
	} {
		data, err := encode()
		if err == nil || data != nil || !strings.Contains(err.Error(), strings.TrimSpace(rule)) || !strings.HasPrefix(err.Error(), "codec: encode ") {
			t.Errorf("got %.20q, %v; want %q", data, err, rule)
		}
	}
	// A U+FFFD of one's own is a character like others.
	roundTrip(t, []string{"\ufffd", `\ufffd`, `\\ufffd`}, "[\"\ufffd\",\"\\\\ufffd\",\"\\\\\\\\ufffd\"]")
}
