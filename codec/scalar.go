package codec

import (
	"encoding"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

const (
	ruleUnit     = "a duration needs a unit, as in 30s"
	ruleDuration = "not a duration, as 30s or 1h30m is one"
)

// isScalar reports whether Auto reads t as a bare scalar. A type that decodes JSON by itself, and not
// text, is a document even if it is a number underneath: only its JSON is known to be understood.
func isScalar(t reflect.Type) bool {
	switch p := reflect.PointerTo(t); {
	case p.Implements(textUnmarshalerType):
		return true
	case p.Implements(jsonUnmarshalerType):
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	default:
		return false
	}
}

// decodeScalar reads text into v, which isScalar.
func decodeScalar(text string, v reflect.Value) *fault {
	asString, trimmed := bareText(text)
	if rule := parseScalar(asString, trimmed, v); rule != "" {
		return &fault{off: len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace)), rule: rule}
	}
	return nil
}

// bareText is what a bare scalar says: as a string, and as anything else.
func bareText(text string) (asString, trimmed string) {
	trimmed = strings.TrimSpace(text)
	if s, ok := unquote(trimmed); ok {
		return s, s
	}
	if line, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(line, "\r")
	}
	return text, trimmed
}

// parseScalar sets v from what bareText made, and returns "" or the rule that is broken. None of the
// errors of strconv, time or UnmarshalText gets out: they quote what they were given.
func parseScalar(text, trimmed string, v reflect.Value) (rule string) {
	t := v.Type()
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if u.UnmarshalText([]byte(trimmed)) != nil {
			return ruleOf(t, []byte(trimmed), false)
		}
		return ""
	}
	if t.Kind() != reflect.String && trimmed == "" {
		return "the document is empty"
	}
	switch t.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if trimmed != "true" && trimmed != "false" {
			return "neither true nor false"
		}
		v.SetBool(trimmed == "true")
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(trimmed, t.Bits())
		switch {
		case errors.Is(err, strconv.ErrRange):
			return "out of range of " + t.String()
		case err != nil:
			return "not a number"
		case math.IsNaN(f) || math.IsInf(f, 0):
			return "not a finite number"
		}
		v.SetFloat(f)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		n, err := strconv.ParseUint(trimmed, 10, t.Bits())
		if err != nil {
			return integerRule(trimmed, t)
		}
		v.SetUint(n)
	default:
		if t == durationType {
			d, rule := parseDuration(trimmed)
			if rule != "" {
				return rule
			}
			v.SetInt(int64(d))
			return ""
		}
		n, err := strconv.ParseInt(trimmed, 10, t.Bits())
		if err != nil {
			return integerRule(trimmed, t)
		}
		v.SetInt(n)
	}
	return ""
}

// integerRule says why text is not an integer of type t.
func integerRule(text string, t reflect.Type) string {
	digits := strings.TrimLeft(text, "+-")
	if digits != "" && len(text)-len(digits) <= 1 && strings.Trim(digits, "0123456789") == "" {
		return "out of range of " + t.String()
	}
	return "not a decimal integer"
}

// parseDuration reads a duration, or returns the rule that is broken.
func parseDuration(text string) (d time.Duration, rule string) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, ""
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, ruleUnit
	}
	return 0, ruleDuration
}

// unquote returns what is in a JSON string.
func unquote(text string) (s string, ok bool) {
	if len(text) < 2 || text[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal([]byte(text), &s) == nil
}

// encodeScalar writes v, which isScalar, bare, or quoted if Decode would not read it back as it is.
func encodeScalar(v reflect.Value) ([]byte, *fault) {
	text, rule := formatScalar(v)
	if rule == "" && !utf8.ValidString(text) {
		rule = "a string that is not UTF-8"
	}
	if rule != "" {
		return nil, &fault{rule: rule}
	}
	back, trimmed := bareText(strings.TrimPrefix(text, byteOrderMark))
	if v.Kind() != reflect.String || v.Addr().Type().Implements(textUnmarshalerType) {
		back = trimmed
	}
	if back != text || strings.IndexByte(text, 0) >= 0 {
		return appendString(nil, text), nil
	}
	return []byte(text), nil
}

// formatScalar is the text of v, or the rule that is broken.
func formatScalar(v reflect.Value) (text, rule string) {
	t := v.Type()
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v.Addr()); ok {
		b, err := m.MarshalText()
		if err != nil {
			return "", "not written by its own type " + t.String()
		}
		return string(b), ""
	}
	if v.Addr().Type().Implements(textUnmarshalerType) {
		return "", t.String() + " has UnmarshalText but no MarshalText"
	}
	switch t.Kind() {
	case reflect.String:
		return v.String(), ""
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), ""
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return "", "not a finite number"
		}
		return strconv.FormatFloat(v.Float(), 'g', -1, t.Bits()), ""
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(v.Uint(), 10), ""
	default:
		if t == durationType {
			return time.Duration(v.Int()).String(), ""
		}
		return strconv.FormatInt(v.Int(), 10), ""
	}
}

// appendString appends s as a JSON string. s is UTF-8.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
