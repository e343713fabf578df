package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// canary stands for whatever must not get into a log. It is short, so that errors which shorten what they
// quote show it, too.
const canary = "zQ7zq"

// chatty quotes what it is given, as many types do.
type chatty struct{ text string }

func (c *chatty) UnmarshalJSON(b []byte) error {
	return fmt.Errorf("chatty: cannot parse %s", b)
}
func (c chatty) MarshalJSON() ([]byte, error) { return nil, errors.New("chatty: " + c.text) }

type chattyText struct{ text string }

func (c *chattyText) UnmarshalText(b []byte) error { return fmt.Errorf("chatty: %q", b) }
func (c chattyText) MarshalText() ([]byte, error)  { return nil, errors.New("chatty: " + c.text) }

func TestNoErrorQuotesTheDocument(t *testing.T) {
	t.Parallel()
	type inner struct {
		N int8          `json:"n"`
		U uint          `json:"u"`
		F float32       `json:"f"`
		B bool          `json:"b"`
		D time.Duration `json:"d"`
		Q int           `json:"q,string"`
		S []string      `json:"s"`
		C chatty        `json:"c"`
		X chattyText    `json:"x"`
		T time.Time     `json:"t"`
		I big.Int       `json:"i"`
		A netip.Addr    `json:"a"`
		R url.URL       `json:"r"`
		K map[int]int   `json:"k"`
		Y []byte        `json:"y"`
		Z Size          `json:"z"`
	}
	var docs, tomlDocs []string
	// A value in each field, in each form.
	for f := range reflect.TypeFor[inner]().Fields() {
		field, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		for _, value := range []string{
			`"CANARY"`, `["CANARY"]`, `{"CANARY": "CANARY"}`, `"1CANARY"`, `"CANARY\u0041"`, `{"n": "CANARY"}`, `CANARY`, `"CANARY`, `'CANARY`, `{"a": CANARY}`, `[CANARY`,
		} {
			docs = append(docs, fmt.Sprintf(`{%q: %s}`, field, value), field+": "+value, field+":\n- "+value)
			tomlDocs = append(tomlDocs, field+" = "+value, "["+field+"]\nx = "+value, "[["+field+"]]\nn = "+value, "x."+field+" = "+value)
		}
	}
	docs = append(docs, strings.Split(`CANARY
"CANARY"
{"CANARY"
{"CANARY" 1}
{"CANARY": 1, "CANARY": 2}
[CANARY]
CANARY: CANARY: CANARY
CANARY: 1~CANARY: 2
CANARY: {CANARY: [*CANARY]}
*CANARY
&CANARY [*CANARY]
CANARY: !CANARY CANARY
CANARY: !!CANARY CANARY
CANARY: !CANARY! CANARY
!!int CANARY
!!float CANARY
!!bool CANARY
!!null CANARY
!!binary CANARY
!!timestamp CANARY
- &CANARY {<<: CANARY}
%CANARY
%TAG !CANARY! CANARY~--- !CANARY!CANARY CANARY
%TAG ! CANARY~%TAG ! CANARY~---
%YAML CANARY
CANARY~---~CANARY
CANARY: |CANARY
CANARY: "\CANARY"
CANARY: "\xCANARY"
CANARY: CANARY~	CANARY
? [CANARY]
CANARY: [CANARY~
CANARY: 'CANARY
CANARY: @CANARY
CANARY: `+"`"+`CANARY
CANARY: .CANARY
0CANARY
0x1CANARY
1eCANARY
true CANARY
{"unknown": CANARY}
{"unknown": "CANARY"}
{"n": 1, "CANARY": 2}`, "\n")...)
	tomlDocs = append(tomlDocs, strings.Split(`CANARY
"CANARY"
{"CANARY": 1}
CANARY: 1
CANARY = 1
CANARY = CANARY
CANARY = "CANARY" CANARY
CANARY = 1~CANARY = 2
CANARY = {CANARY = 1, CANARY = 2}
CANARY = 1~[CANARY]
CANARY = []~[[CANARY]]
[CANARY]~[CANARY]
[CANARY
[CANARY] CANARY
[[CANARY]
CANARY.CANARY = 1~CANARY = 2
CANARY = "\CANARY"
CANARY = "\uCANARY"
CANARY = 'CANARY
CANARY = '''CANARY
CANARY = [CANARY
CANARY = ["CANARY" "CANARY"]
CANARY = {CANARY
CANARY = 0xCANARY
CANARY = 0CANARY
CANARY = 1_CANARY
CANARY = 1.CANARY
CANARY = 1eCANARY
CANARY = 1e9999CANARY
CANARY = tCANARY
CANARY = inCANARY
CANARY = 2026-CANARY
CANARY = 2026-11-21TCANARY
CANARY = 09:CANARY
CANARY = infCANARY
n = 1~CANARY = 2
n = 1234567
z = "CANARY"
z = "1.5CANARY"
z = 1234567.5
CANARY = +CANARY`, "\n")...)

	failed := 0
	refuse := func(docs []string, decoders ...func([]byte) error) {
		for _, doc := range docs {
			for _, form := range []string{canary, "7" + canary, "1234567" /* a number is a secret, too */} {
				data := []byte(strings.ReplaceAll(strings.ReplaceAll(doc, "CANARY", form), "~", "\n"))
				for _, decode := range decoders {
					if err := decode(data); err != nil {
						failed++
						grep(t, string(data), form, err)
					}
				}
			}
		}
	}
	refuse(
		docs, decoder(Document[inner]{Strict: true}), decoder(JSON[inner]()), decoder(YAML[inner]()),
		decoder(Auto[map[string]inner]()), decoder(Auto[[]int8]()), decoder(YAML[any]()), decoder(JSON[any]()),
		decoder(Auto[int8]()), decoder(Auto[uint16]()), decoder(Auto[bool]()), decoder(Auto[float32]()), decoder(Auto[time.Duration]()),
		decoder(Auto[chattyText]()), decoder(Auto[chatty]()), decoder(Auto[time.Time]()), decoder(Auto[netip.Addr]()), decoder(Auto[big.Int]()),
		decoder(YAML[int8]()), decoder(JSON[time.Duration]()), decoder(Auto[Size]()), decoder(JSON[Size]()),
	)
	if failed < 10_000 {
		t.Errorf("only %d documents were refused", failed)
	}
	failed = 0
	refuse(
		tomlDocs, decoder(Document[inner]{Format: FormatTOML, Strict: true}), decoder(TOML[inner]()), decoder(TOML[any]()),
		decoder(TOML[map[string]inner]()), decoder(TOML[map[string]int8]()), decoder(TOML[[]int8]()),
	)
	if failed < 10_000 {
		t.Errorf("only %d documents of TOML were refused", failed)
	}

	for _, encode := range []func() ([]byte, error){
		func() ([]byte, error) { return Auto[[]chatty]().Encode([]chatty{{canary}}) },
		func() ([]byte, error) { return Auto[chattyText]().Encode(chattyText{canary}) },
		func() ([]byte, error) {
			return YAML[map[string]chattyText]().Encode(map[string]chattyText{canary: {canary}})
		},
		func() ([]byte, error) { return Auto[string]().Encode(canary + "\xff") },
		func() ([]byte, error) { return Auto[[]string]().Encode([]string{canary + "\xff"}) },
		func() ([]byte, error) { return Auto[json.Number]().Encode(canary + "\xff") },
		func() ([]byte, error) { return JSON[json.Number]().Encode(canary) },
		func() ([]byte, error) { return Auto[[]json.RawMessage]().Encode([]json.RawMessage{[]byte(canary)}) },
		func() ([]byte, error) { return String().Encode(canary + "\x00") },
		func() ([]byte, error) {
			return TOML[map[string]chattyText]().Encode(map[string]chattyText{canary: {canary}})
		},
		func() ([]byte, error) { return TOML[map[string]any]().Encode(map[string]any{canary: nil}) },
		func() ([]byte, error) { return TOML[string]().Encode(canary) },
		func() ([]byte, error) {
			return TOML[map[string]json.Number]().Encode(map[string]json.Number{canary: "1e999"})
		},
	} {
		if _, err := encode(); err == nil {
			t.Error("encoded")
		} else {
			grep(t, "encode", canary, err)
		}
	}
}

func decoder[T any](d Document[T]) func([]byte) error {
	return func(data []byte) error { _, err := d.Decode(data); return err }
}

// grep looks for the canary in whatever a logger might make of an error.
func grep(t *testing.T, doc, canary string, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, canary) {
			t.Errorf("%q: the error quotes it: %s", doc, text)
		}
	}
	if _, ok := errors.AsType[*Error](err); !ok || errors.Unwrap(err) != nil {
		t.Errorf("%q: %#v", doc, err)
	}
}
