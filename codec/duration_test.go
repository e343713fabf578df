package codec

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/internal/jsonfields"
)

type Base struct {
	Every time.Duration `json:"every"`
}

type hidden struct{ Seen time.Duration }

// tree is a type that contains itself.
type tree struct {
	Wait  time.Duration    `json:"wait"`
	Left  *tree            `json:"left"`
	Named map[string]*tree `json:"named"`
}

type everywhere struct {
	Plain   time.Duration
	Ptr     **time.Duration
	Slice   []time.Duration
	Array   [2]time.Duration
	Map     map[string]time.Duration
	Deep    map[string][]struct{ D *time.Duration }
	Renamed time.Duration `json:"läuft-ab,omitempty"`
	Skipped time.Duration `json:"-"`
	Dash    time.Duration `json:"-,"` //nolint:staticcheck // this is how encoding/json has it
	Base
	Named Base `json:"named"`
	hidden
	Tree    tree
	Text    string
	Number  int64
	Quoted  time.Duration `json:",string"`
	private time.Duration //nolint:unused // nobody may look at it
}

func TestADurationIsAStringWithAUnitWhereverItOccurs(t *testing.T) {
	t.Parallel()
	second, minute := time.Second, time.Minute
	ptr := &second
	want := everywhere{
		Plain: second, Ptr: &ptr, Slice: []time.Duration{second, 0, minute}, Array: [2]time.Duration{second, minute},
		Map: map[string]time.Duration{"30s": second}, Deep: map[string][]struct{ D *time.Duration }{"x": {{nil}, {&minute}}},
		Renamed: second, Dash: minute, Base: Base{second}, Named: Base{minute}, hidden: hidden{second},
		Tree: tree{Wait: second, Left: &tree{Wait: minute}, Named: map[string]*tree{"y": {Wait: second}, "z": nil}},
		Text: "30s", Number: 30, Quoted: 30,
	}
	for _, data := range []string{
		`{"Plain": "1s", "Ptr": "1s", "Slice": ["1s", 0, "60s"], "Array": ["1s", "1m"],
		"Map": {"30s": "1s"}, "Deep": {"x": [{"D": null}, {"d": "1m"}]}, "läuft-ab": "1s", "-": "1m", "every": "1s",
		"named": {"EVERY": "60s"}, "Seen": "1s", "Tree": {"wait": "1s", "left": {"WAIT": "\u0031m"}, "named": {"y": {"wait": "1s"}, "z": null}},
		"Text": "30s", "Number": 30, "Quoted": "30", "unknown": {"Plain": 1}, "Skipped": 5, "private": 6}`,
		`
PLAIN: 1s
Ptr: "1s"
Slice: [1s, 0, 60s]
Array: [1s, 1m]
Map: {30s: 1s}
Deep: {x: [{D: }, {d: 1m}]}
läuft-ab: 1s
"-": 1m
every: 1s
named: {every: 60s}
Seen: 1s
Tree: {wait: 1s, left: {wait: 1m}, named: {y: {wait: 1s}, z: ~}}
Text: 30s
Number: 30
Quoted: "30"
`,
	} {
		got, err := Auto[everywhere]().Decode([]byte(data))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v (%v)", got, err)
		}
	}
	for _, format := range []Format{FormatJSON, FormatYAML} {
		c := Document[everywhere]{Format: format, Strict: true}
		data, err := c.Encode(want)
		if err != nil || !strings.Contains(string(data), "1m0s") {
			t.Fatalf("%s (%v)", data, err)
		}
		if got, err := c.Decode(data); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %+v (%v)", data, got, err)
		}
	}
}

func TestADurationWithoutAUnitIsRefusedInBothFormats(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"every": 30}`:                   "json line 1, column 11: field every: a duration needs a unit, as in 30s",
		`{"every": 1e3}`:                  "field every: a duration needs a unit",
		`{"every": -1}`:                   "field every: a duration needs a unit",
		`{"every": "30"}`:                 "field every: a duration needs a unit",
		`{"every": "soon"}`:               "field every: not a duration",
		`{"every": "9999999h"}`:           "field every: not a duration",
		`{"every": true}`:                 "field every: a bool where time.Duration is wanted",
		`{"every": []}`:                   "field every: an array where time.Duration is wanted",
		"x: 1\nevery: 30":                 "yaml line 2, column 8: field every: a duration needs a unit",
		"every: 1_000":                    "field every: a duration needs a unit",
		"tree: {left: {left: {wait: 5}}}": "yaml line 1, column 28: field tree.left.left.wait: a duration needs a unit",
	} {
		_, err := Auto[struct {
			Base
			Tree tree `json:"tree"`
		}]().Decode([]byte(data))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
	}
}

func TestPlacesBehindADurationAreNamedRight(t *testing.T) {
	t.Parallel()
	type doc struct {
		A, B time.Duration
		N    int8 `json:"n"`
	}
	for data, want := range map[string]string{
		`{"a": "1h", "b": "1000h", "n": 300}`:    "json line 1, column 32: field n: a number that int8 cannot hold",
		"{\"a\": \"1h\",\n \"b\": \"1000h\", x}": "json line 2, column 16: not valid JSON",
		`{"a": "1h", "n": tru}`:                  "json line 1, column 21: not valid JSON",
		`{"a": "1h", "n": "x"}`:                  "json line 1, column 18: field n: a string where int8 is wanted",
	} {
		if _, err := JSON[doc]().Decode([]byte(data)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
	}
}

func TestTypesThatDecodeThemselvesAreLeftAlone(t *testing.T) {
	t.Parallel()
	type doc struct {
		Own  ownDuration
		Raw  json.RawMessage
		Free any
	}
	got, err := Auto[doc]().Decode([]byte(`{"Own": "1s", "Raw": {"every": 5}, "Free": {"every": 5}}`))
	if err != nil || got.Own.D != 2*time.Second || string(got.Raw) != `{"every": 5}` {
		t.Errorf("%+v, %v", got, err)
	}
}

// ownDuration doubles, to show that nobody else looked.
type ownDuration struct{ D time.Duration }

func (o *ownDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	o.D = 2 * d
	return err
}

func TestATypeWithoutDurationsIsNotLookedInto(t *testing.T) {
	t.Parallel()
	if p := planOf(reflect.TypeFor[everywhere]()); !p.durations {
		t.Error("durations not found")
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[map[string][]limitsOnly](), reflect.TypeFor[ownDuration](), reflect.TypeFor[map[time.Duration]int](), reflect.TypeFor[*selfOnly]()} {
		if p := planOf(typ); p != nil && p.durations {
			t.Errorf("%v has durations", typ)
		}
	}
	type pointer *pointer
	if p := planOf(reflect.TypeFor[pointer]()); p != nil {
		t.Error("a pointer to itself has a plan")
	}
}

type (
	limitsOnly struct {
		RPS  int
		Time time.Time
	}
	selfOnly struct{ Next *selfOnly }
)

// The rules of encoding/json for names are many. What it writes for a value tells which fields it knows.
func TestFieldsHaveTheNamesThatEncodingJSONGivesThem(t *testing.T) {
	t.Parallel()
	type (
		Deep struct{ Clash, OnlyDeep int }
		A    struct{ Clash, Both, Tagged int }
		B    struct{ Both int }
		C    struct {
			Tagged int `json:"Tagged"`
			X      int `json:"Both"`
		}
		Twice struct{ InTwice int }
		L     struct{ Twice }
		R     struct{ Twice }
		Int   int
		lower struct{ FromLower int }
		mixed struct {
			A
			B
			C
			L
			R
			*Deep
			lower
			Int
			Own     int `json:"own,omitempty"`
			BadName int `json:"bad\"name"` //nolint:staticcheck // encoding/json goes by the name of the field then
			Odd     int `json:"$odd/na me"`
			Empty   int `json:",omitempty"`
			Minus   int `json:"-"`
			private int
			Func    int `json:"ünïcode"`
		}
	)
	for _, v := range []any{
		mixed{Deep: &Deep{}, Own: 1, Empty: 1, private: 1},
		struct{ A }{},
		struct {
			A
			B
		}{},
		everywhere{Renamed: 1},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var known map[string]any
		if err := json.Unmarshal(data, &known); err != nil {
			t.Fatal(err)
		}
		planned := map[string]any{}
		for _, f := range jsonfields.Of(reflect.TypeOf(v)) {
			planned[f.Name] = known[f.Name]
		}
		if !reflect.DeepEqual(planned, known) {
			t.Errorf("%T: planned %v, encoding/json has %v", v, planned, known)
		}
	}
}

func TestOfFieldsThatDifferInCaseTheOneEncodingJSONTakesIsTaken(t *testing.T) {
	t.Parallel()
	type doc struct {
		N int           `json:"wait"`
		D time.Duration `json:"Wait"`
		E time.Duration `json:"WAit"`
	}
	for _, data := range []string{`{"wait": 5}`, `{"Wait": "5s"}`, `{"WAit": "5s"}`, `{"WAIT": 5}`, `{"waıt": 5}`, `{"Kelvin": "5s", "ſ": "5s"}`} {
		if _, err := JSON[doc]().Decode([]byte(data)); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
	type folded struct {
		K time.Duration `json:"k"`
		S time.Duration `json:"s"`
	}
	want := folded{K: time.Second, S: time.Second}
	if got, err := JSON[folded]().Decode([]byte("{\"\u212a\": \"1s\", \"\u017f\": \"1s\"}")); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}
