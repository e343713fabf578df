package codec

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestASizeIsReadAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "512": 512, "512B": 512, " 512 B ": 512, "007": 7,
		"64KiB": 64 << 10, "64Ki": 64 << 10, "64kib": 64 << 10, "64KIB": 64 << 10, "64 KiB": 64 << 10, "64kiB": 64 << 10,
		"10MiB": 10 << 20, "2GiB": 2 << 30, "3TiB": 3 << 40, "4PiB": 4 << 50, "7EiB": 7 << 60, "1eib": 1 << 60,
		"1.5GiB": 3 << 29, "0.5KiB": 512, "1.50KiB": 1536, "1.000": 1, "0.0009765625MiB": 1024,
		"5kB": 5000, "5KB": 5000, "5kb": 5000, "10MB": 10_000_000, "10mb": 10_000_000, "1.5GB": 1_500_000_000, "1TB": 1e12, "1PB": 1e15, "9EB": 9e18,
		"9223372036854775807": math.MaxInt64, "9.223372036854775807EB": math.MaxInt64,
		"7.999999999999999999132638262011596452794037759304046630859375EiB":        math.MaxInt64, // less one byte
		"0" + strings.Repeat("0", 1000) + "1.0" + strings.Repeat("0", 1000) + "kB": 1000,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%.40q: got %d, want %d (%v)", text, got, want, err)
		}
	}
}

func TestASizeThatIsNoneIsRefusedWithTheRule(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": ruleSize, " ": ruleSize, "KiB": ruleSize, "B": ruleSize, "NaN": ruleSize, "inf": ruleSize, ".": ruleSize, ".5MiB": ruleSize, "5.MiB": ruleSize,
		"1.2.3": ruleSize, "1..2": ruleSize, "+5": ruleSize, "--5": ruleSize, "1_000": ruleSize, "1,5": ruleSize, "1 000": ruleSize, "5-": ruleSize, "512\n": ruleSizeUnit,
		"1e3": ruleSizeUnit, "0x10": ruleSizeUnit, "5XB": ruleSizeUnit, "5KiBB": ruleSizeUnit, "5 K iB": ruleSizeUnit, "5ZiB": ruleSizeUnit, "5 bytes": ruleSizeUnit,
		"5\u212aB": ruleSizeUnit, "5é": ruleSizeUnit, "5\t": ruleSizeUnit, "1GiBps": ruleSizeUnit,
		"5k": ruleSizeBare, "5K": ruleSizeBare, "5M": ruleSizeBare, "5g": ruleSizeBare, "5T": ruleSizeBare, "5P": ruleSizeBare, "5E": ruleSizeBare,
		"5b": ruleSizeBits, "5Kb": ruleSizeBits, "5Mb": ruleSizeBits, "5Gib": ruleSizeBits,
		"-5": ruleSizeNegative, "-0": ruleSizeNegative, "-1.5KiB": ruleSizeNegative,
		"1.5": ruleSizePart, "0.1KiB": ruleSizePart, "1.0001kB": ruleSizePart, "0." + strings.Repeat("0", 60) + "1EiB": ruleSizePart,
		"9223372036854775808": ruleSizeRange, "8EiB": ruleSizeRange, "9.3EB": ruleSizeRange, "10EB": ruleSizeRange, "18446744073709551616": ruleSizeRange,
		"18446744073709551617KiB": ruleSizeRange, strings.Repeat("9", 100_000) + "GiB": ruleSizeRange,
	} {
		got, err := ParseSize(text)
		if err == nil || got != 0 || err.Error() != "codec: decode codec.Size: text: "+want {
			t.Errorf("%.40q: got %d, %v, want %q", text, got, err, want)
		}
		if _, err := Auto[Size]().Decode([]byte(text)); err == nil && strings.TrimSpace(text) == text {
			t.Errorf("%.40q was read as a scalar", text)
		}
	}
}

func TestASizeSurvivesItsOwnText(t *testing.T) {
	t.Parallel()
	check := func(s Size) {
		text := s.String()
		if got, err := ParseSize(text); err != nil || got != s {
			t.Errorf("%d became %q became %d (%v)", s, text, got, err)
		}
		data, err := s.MarshalText()
		if err != nil || string(data) != text {
			t.Errorf("%d: %q and %q differ (%v)", s, data, text, err)
		}
		var back Size
		if err := back.UnmarshalText(data); err != nil || back != s {
			t.Errorf("%d became %q became %d (%v)", s, data, back, err)
		}
	}
	for shift := range 63 {
		for d := range Size(3) {
			check(1<<shift + d - 1)
		}
	}
	for unit := Size(1); unit <= 1e18; unit *= 1000 {
		check(unit)
		check(unit * 7)
	}
	check(math.MaxInt64)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		s := Size(r.Int64() >> r.IntN(63))
		check(s)
		check(s >> 30 << r.IntN(30))
		check(s / 1e9 * Size(math.Pow10(r.IntN(10))))
	}
	for s, want := range map[Size]string{
		0: "0", 1: "1", 512: "512", 1000: "1kB", 1024: "1KiB", 1536: "1536", 3 << 29: "1536MiB", 10 << 20: "10MiB", 10_000_000: "10MB",
		1_024_000: "1000KiB", 10_000_000_000: "10GB", 1 << 60: "1EiB", 1e18: "1EB", math.MaxInt64: "9223372036854775807", -5: "-5", -1024: "-1024",
	} {
		if s.String() != want || fmt.Sprint(s) != want {
			t.Errorf("%d is %q, want %q", int64(s), s, want)
		}
	}
}

func TestASizeIsAStringOrANumberOfBytesInEveryFormat(t *testing.T) {
	t.Parallel()
	type doc struct {
		Body  Size            `json:"body"`
		Ptr   *Size           `json:"ptr"`
		List  []Size          `json:"list"`
		Named map[string]Size `json:"named"`
		Keys  map[Size]int    `json:"keys"`
	}
	want := fmt.Sprintf("%+v", []any{10 * MiB, 10 * MiB, []Size{512, KiB, 0}, map[string]Size{"x": 5000}, map[Size]int{GiB: 1}})
	for data, c := range map[string]Codec[doc]{
		`{"body": "10MiB", "ptr": 10485760, "list": [512, "1KiB", 0], "named": {"x": "5kB"}, "keys": {"1GiB": 1}}`:     JSON[doc](),
		`{"body": 10485760, "ptr": "10MiB", "list": ["512", 1024, "0"], "named": {"x": 5000}, "keys": {"1024MiB": 1}}`: JSON[doc](),
		"body: 10MiB\nptr: 10_485_760\nlist: [512, 0x400, 0]\nnamed: {x: 5kB}\nkeys: {1GiB: 1}\n":                      YAML[doc](),
		"body = '10MiB'\nptr = 10_485_760\nlist = [512, 0x400, 0]\nnamed.x = '5kB'\nkeys.1GiB = 1\n":                   TOML[doc](),
	} {
		v, err := c.Decode([]byte(data))
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if got := fmt.Sprintf("%+v", []any{v.Body, *v.Ptr, v.List, v.Named, v.Keys}); got != want {
			t.Errorf("%s: got %s, want %s", data, got, want)
		}
		encoded, err := c.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(encoded), "10MiB") || strings.Contains(string(encoded), "10485760") {
			t.Errorf("%s became %s", data, encoded)
		}
		if again, err := c.Decode(encoded); err != nil || again.Body != v.Body || *again.Ptr != *v.Ptr || again.Keys[GiB] != 1 {
			t.Errorf("%s became %s became %+v (%v)", data, encoded, again, err)
		}
	}
	for data, want := range map[string]Size{"64KiB\n": 64 * KiB, "512": 512, `"1.5GiB"`: 3 * GiB / 2} {
		if got, err := Auto[Size]().Decode([]byte(data)); err != nil || got != want {
			t.Errorf("%q: got %d, want %d (%v)", data, got, want, err)
		}
	}
	roundTrip(t, 64*KiB, "64KiB")
	roundTrip(t, Size(math.MaxInt64), "9223372036854775807")

	v := Size(7)
	if err := json.Unmarshal([]byte("null"), &v); err != nil || v != 7 {
		t.Errorf("null made it %d (%v)", v, err)
	}
}

func TestASizeInADocumentIsRefusedWithItsPlaceAndRule(t *testing.T) {
	t.Parallel()
	type doc struct {
		In struct {
			Body Size `json:"body"`
		} `json:"in"`
	}
	for _, c := range []struct {
		codec Codec[doc]
		data  string
		want  string
	}{
		{JSON[doc](), `{"in": {"body": "5k"}}`, "json line 1, column 17: field in.body: " + ruleSizeBare},
		{JSON[doc](), `{"in": {"body": 1.5}}`, "field in.body: " + ruleSizeNumber},
		{JSON[doc](), `{"in": {"body": 1e3}}`, "field in.body: " + ruleSizeNumber},
		{JSON[doc](), `{"in": {"body": 512.0}}`, "field in.body: " + ruleSizeNumber},
		{JSON[doc](), `{"in": {"body": -1}}`, "field in.body: " + ruleSizeNegative},
		{JSON[doc](), `{"in": {"body": 9223372036854775808}}`, "field in.body: " + ruleSizeRange},
		{JSON[doc](), `{"in": {"body": true}}`, "field in.body: " + ruleSize},
		{JSON[doc](), `{"in": {"body": []}}`, "field in.body: " + ruleSize},
		{YAML[doc](), "in:\n  body: 5Mb", "yaml line 2, column 9: field in.body: " + ruleSizeBits},
		{YAML[doc](), "in:\n  body: .inf", "yaml line 2, column 9: not a finite number"},
		{TOML[doc](), "[in]\nbody = '5XB'", "toml line 2, column 8: field in.body: " + ruleSizeUnit},
		{TOML[doc](), "[in]\nbody = 512.0", "toml line 2, column 8: field in.body: " + ruleSizeNumber},
		{TOML[doc](), "[in]\nbody = nan", "toml line 2, column 8: not a finite number"},
	} {
		if _, err := c.codec.Decode([]byte(c.data)); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.data, err, c.want)
		}
	}
	if _, err := JSON[Size]().Encode(-1); err == nil || !strings.Contains(err.Error(), "not written by its own type codec.Size") {
		t.Error(err)
	}
	if _, err := Auto[Size]().Encode(-1); err == nil || !strings.Contains(err.Error(), "not written by its own type codec.Size") {
		t.Error(err)
	}
}
