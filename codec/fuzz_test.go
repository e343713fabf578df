package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

// fuzzed has something of everything that has rules of its own.
type fuzzed struct {
	S string        `json:"s"`
	I int64         `json:"i"`
	U uint8         `json:"u"`
	F float64       `json:"f"`
	B *bool         `json:"b"`
	D time.Duration `json:"d"`
	M map[string]*fuzzed
	L []time.Duration
	A any
	Base
	Own level `json:"own"`
}

var seeds = []string{
	``, `null`, `{}`, `[]`, `"a"`, `info`, "8080\n", `30s`, `true`, `1e3`,
	`{"s":"a","i":-1,"u":255,"f":0.1,"b":true,"d":"1h30m","M":{"x":{"d":"1s"}},"L":["1s",0],"A":[1,{"a":null}],"every":"1s","own":"x"}`,
	`{"S":"\u00e9\ud83d\ude00\ud800","I":9223372036854775807,"d":0,"a":{},"EVERY":"1ns"}`,
	`{"a":1,"a":2}`, `{"d":30}`, `[[[[]]]]`, `{"s":"x"`, `{"s" "x"}`, `[1,2,]`, `{"\u0064":"1s"}`,
	"s: a\ni: 0x10\nd: 1h\nM: {x: {d: 1s}}\nL: [1s, 0]\nA: [1, {a: ~}]\n",
	"a: &a [x]\nb: *a\n", "a: &a {x: 1}\nb: {<<: *a, y: 2}\n", "a: &a [*a]", "<<: [{a: 1}, {a: 2}]",
	"- |\n  a\n   b\n- >-\n  c\n\n  d\n- 'it''s'\n- \"\\x41\\n\"\n", "%YAML 1.2\n---\na\n...\n", "a: 1\n---\nb: 2\n",
	"? [a]\n: b", "!!str 5", "!x y", "#c\na: b #c\n#c", "a: 007", ".inf", "2026-11-21", "\ufeffa: b", "a:\u0085b", "\t", "a:\n\tb",
}

func addSeeds(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
}

// settled decodes data, and if that works checks that encoding and decoding again changes nothing.
func settled[T any](t *testing.T, c Codec[T], data []byte) {
	t.Helper()
	before := bytes.Clone(data)
	v, err := c.Decode(data)
	if !bytes.Equal(data, before) {
		t.Errorf("%T changed its input %q to %q", c, before, data)
	}
	if err != nil {
		if !reflect.ValueOf(&v).Elem().IsZero() {
			t.Errorf("%T: %q: an error came with %#v", c, data, v)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Rule == "" || e.Line < 0 || e.Column < 0 {
			t.Errorf("%T: %q: %#v", c, data, err)
		}
		return
	}
	encoded, err := c.Encode(v)
	if err != nil {
		t.Errorf("%T: %q: %#v is not encoded: %v", c, data, v, err)
		return
	}
	again, err := c.Decode(encoded)
	if err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("%T: %q: %#v became %q became %#v (%v)", c, data, v, encoded, again, err)
	}
}

func FuzzJSON(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		settled(t, JSON[any](), data)
		settled(t, JSON[map[string]time.Duration](), data)
		settled(t, JSON[string](), data)
		settled(t, Document[struct{ A, B any }]{Format: FormatJSON, Strict: true}, data)

		// What we take, encoding/json takes, and reads the same where no duration is.
		if v, err := JSON[any]().Decode(data); err == nil {
			var want any
			if err := json.Unmarshal(bytes.TrimPrefix(data, []byte(byteOrderMark)), &want); err != nil || !reflect.DeepEqual(v, want) {
				t.Errorf("%q: got %#v, encoding/json has %#v (%v)", data, v, want, err)
			}
		}
		type plain struct {
			S string `json:"s"`
			I int64
			M map[string]plain
		}
		_, strictErr := Document[plain]{Format: FormatJSON, Strict: true}.Decode(data)
		dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte(byteOrderMark))))
		dec.DisallowUnknownFields()
		if err := dec.Decode(new(plain)); err != nil && strictErr == nil {
			t.Errorf("%q: encoding/json refuses it: %v", data, err)
		}
	})
}

func FuzzYAML(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		settled(t, YAML[any](), data)
		settled(t, YAML[map[string]time.Duration](), data)
		settled(t, YAML[string](), data)
		settled(t, YAML[[]*json.Number](), data)

		// What is JSON is YAML, and means the same.
		if v, err := JSON[any]().Decode(data); err == nil && len(data) < 1000 {
			if y, err := YAML[any]().Decode(data); err == nil && !reflect.DeepEqual(v, y) {
				t.Errorf("%q: JSON has %#v, YAML %#v", data, v, y)
			}
		}
	})
}

func FuzzTOML(f *testing.F) {
	addSeeds(f)
	for _, s := range []string{
		"s = 'a'\ni = 0x10\nd = \"1h\"\nM.x.d = '1s'\nL = ['1s', 0]\nA = [1, {a = 1.5}]\n", "[[a]]\nb = 1\n[[a]]\n[a.b]\nc.d = [1.5, 2]\n", "a.'b.c'.\"\\u0064\\\"\" = true",
		"a = \"\"\"\nx\\\n  y\"\"\"\"\"\nb = '''x'''''", "a = [ # c\n 1, # d\n]", "a = {b = [{c = 1}, {c = 2}], d.e = 'x'}", "a = 2026-11-21 09:30:00.5+01:00\nb = 09:30:00\nc = 2026-11-21", "a = -0.0\nb = +1e19\nc = nan", "a = [2026-11-21 09:30:00.5, 1.5, {b = 1.5, c = 09:30:00.1}]\nb = [1.5,\n2.5 # x\n]\nc = 1.5\n[d.e] # x.y\nf = 1",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		settled(t, TOML[any](), data)
		settled(t, TOML[map[string]time.Duration](), data)
		settled(t, TOML[map[string]map[string]Size](), data)
		settled(t, TOML[map[string]string](), data)
		if v, err := TOML[fuzzed]().Decode(data); err == nil {
			_, _ = TOML[fuzzed]().Encode(v)
		}
		if len(data) < 1000 {
			placed(t, data)
		}

		// Every value that JSON has is encoded so that it comes back, or not at all.
		if v, err := JSON[map[string]any]().Decode(data); err == nil {
			if encoded, err := TOML[map[string]any]().Encode(v); err == nil {
				if got, err := TOML[map[string]any]().Decode(encoded); err != nil || !reflect.DeepEqual(got, v) {
					t.Errorf("%q: %#v became %q became %#v (%v)", data, v, encoded, got, err)
				}
			}
		}
	})
}

// placed checks that every key and value of a TOML document is found in its text.
func placed(t *testing.T, src []byte) {
	t.Helper()
	root, f := parseTOML(src)
	if f != nil || boundTOML(src) != nil {
		return
	}
	var walk func(v any, path []tomlStep)
	walk = func(v any, path []tomlStep) {
		off := placeTOML(src, path, false)
		wrong := off < 0 && len(path) > 0
		if !wrong && len(path) > 0 {
			switch c := src[off]; v.(type) {
			case string:
				wrong = c != '"' && c != '\''
			case bool:
				wrong = c != 't' && c != 'f'
			case int64:
				wrong = c != '-' && c != '+' && !isDigit(c)
			}
		}
		if len(path) > 0 && path[len(path)-1].key != nil {
			wrong = wrong || placeTOML(src, path, true) < 0
		}
		if wrong {
			t.Errorf("%q: %v at %+v is placed at %d", src, v, path, off)
		}
		switch v := v.(type) {
		case map[string]any:
			for key, item := range v {
				walk(item, append(slices.Clip(path), tomlStep{key: &key}))
			}
		case []any:
			for i, item := range v {
				walk(item, append(slices.Clip(path), tomlStep{index: i}))
			}
		}
	}
	walk(root, nil)
}

func FuzzOpen(f *testing.F) {
	ring := mustRing(f, "k1", "k2")
	addSeeds(f)
	for _, plain := range []string{"", "x", "{}", "timeout: 30s\n"} {
		sealed := mustSeal(f, ring, sealPath, plain)
		f.Add(sealed)
		f.Add(append(sealed, '\n'))
		f.Add(bytes.Replace(sealed, []byte("k1"), []byte("k2"), 1))
		f.Add(sealed[:len(sealed)-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		plain, err := ring.Open(sealPath, data)
		if !bytes.Equal(data, before) {
			t.Errorf("%q was changed to %q", before, data)
		}
		if err != nil {
			refused(t, ring, sealPath, data)
		} else if id, ok := KeyID(data); !ok || !IsSealed(data) || id != "k1" {
			t.Errorf("%q: opened to %q, but its key is %q, %v", data, plain, id, ok)
		}
		settled(t, Sealed(ring, sealPath, Auto[map[string]time.Duration]()), data)

		// What is sealed is opened, under its own path only.
		sealed, err := ring.Seal(string(data)+"/", data)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring.Open(string(data)+"/", sealed); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q became %q became %q (%v)", data, sealed, got, err)
		}
		refused(t, ring, string(data), sealed)
		if _, err := ParseKeyring(data); err != nil && len(data) > 8 && bytes.Contains([]byte(err.Error()), data) {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "512", "64KiB", "10MB", "1.5GiB", "5k", "5Mb", "-1", "9223372036854775807", "8EiB", "0.0009765625MiB", " 1 kB "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSize(text)
		if err != nil {
			return
		}
		if back, err := ParseSize(s.String()); s < 0 || err != nil || back != s {
			t.Errorf("%q became %d became %q became %d (%v)", text, s, s.String(), back, err)
		}
		if v, err := Auto[Size]().Decode([]byte(text)); err != nil || v != s {
			t.Errorf("%q: a scalar is %d, a text %d (%v)", text, v, s, err)
		}
	})
}

func FuzzAuto(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		settled(t, Auto[any](), data)
		settled(t, Auto[string](), data)
		settled(t, Auto[name](), data)
		settled(t, Auto[bool](), data)
		settled(t, Auto[int64](), data)
		settled(t, Auto[uint8](), data)
		settled(t, Auto[float32](), data)
		settled(t, Auto[time.Duration](), data)
		settled(t, Auto[time.Time](), data)
		settled(t, Auto[map[string][]time.Duration](), data)
		settled(t, String(), data)
		if v, err := Auto[fuzzed]().Decode(data); err == nil {
			_, _ = Auto[fuzzed]().Encode(v)
		}

		// Every text that may be stored is encoded so that it comes back.
		s := string(data)
		for _, c := range []Codec[string]{Auto[string](), YAML[string](), JSON[string]()} {
			encoded, err := c.Encode(s)
			if err != nil {
				continue
			}
			if got, err := c.Decode(encoded); err != nil || got != s {
				t.Errorf("%T: %q became %q became %q (%v)", c, s, encoded, got, err)
			}
		}
	})
}
