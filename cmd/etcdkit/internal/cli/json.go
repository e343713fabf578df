package cli

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Line is an object in a line.
func Line(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// Value is one in JSON: as text if it is UTF-8, and else in base64.
type Value struct {
	Text   *string `json:"value,omitempty"`
	Base64 []byte  `json:"valueBase64,omitempty"`
}

// ValueOf returns one; nil bytes are none.
func ValueOf(value []byte) Value {
	switch {
	case value == nil:
		return Value{}
	case !utf8.Valid(value):
		return Value{Base64: value}
	}
	text := string(value)
	return Value{Text: &text}
}
