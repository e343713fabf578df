package codec

import (
	"bytes"
	"reflect"
)

// Codec turns stored bytes into a T and back.
//
// Implementations are safe for concurrent use.
type Codec[T any] interface {
	// Decode reads data, which is untrusted. It neither changes nor keeps it. An error comes with the
	// zero T and does not quote data.
	Decode(data []byte) (T, error)

	// Encode writes what Decode reads. The result belongs to the caller.
	Encode(v T) ([]byte, error)
}

// Format is how a [Document] is written.
type Format int

const (
	// FormatAuto reads JSON, YAML and bare scalars, and writes JSON and bare scalars; see [Auto].
	FormatAuto Format = iota
	// FormatJSON reads and writes JSON only.
	FormatJSON
	// FormatYAML reads and writes YAML only. JSON is nearly always YAML too, and is read.
	FormatYAML
	// FormatTOML reads and writes TOML only.
	FormatTOML
)

// Document is the [Codec] of a value that is written as one document. The zero Document is [Auto].
type Document[T any] struct {
	Format Format

	// Strict refuses fields that T does not have. Off by default: a field added by the next version
	// must not make the binaries of this one refuse the document while a deploy is rolling. Set it
	// where a document is checked before it is published.
	Strict bool
}

// Auto returns the codec that config uses by default.
//
// If T is a scalar (*T has UnmarshalText, or T is a string, bool, integer or float without an
// UnmarshalJSON of its own) the document is that scalar, bare:
//   - a JSON string ("..." with the quotes) is what is in the quotes;
//   - for a string, everything else is the text itself, less one newline at the end, which echo and
//     editors add: true, 8080 and a: b are strings, and spaces stay;
//   - for the others, whitespace around it does not count: true or false; a decimal integer that fits;
//     a finite float; for time.Duration a number with a unit, as in 30s; else what UnmarshalText takes.
//
// For every other T, a document that starts with { or [ and is valid JSON is JSON, and the rest is
// YAML.
//
// Encode writes JSON, or the bare scalar if Decode reads it back as it was, else quoted.
func Auto[T any]() Document[T] { return Document[T]{} }

// JSON returns the codec of T in JSON alone, scalars included: a string has its quotes.
func JSON[T any]() Document[T] { return Document[T]{Format: FormatJSON} }

// YAML returns the codec of T in YAML alone. It uses json tags; see the package comment.
func YAML[T any]() Document[T] { return Document[T]{Format: FormatYAML} }

// TOML returns the codec of T in TOML alone. It uses json tags; see the package comment.
func TOML[T any]() Document[T] { return Document[T]{Format: FormatTOML} }

// Decode reads data as one document. The error is an [*Error].
func (d Document[T]) Decode(data []byte) (T, error) {
	var v, zero T
	t := reflect.TypeFor[T]()
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	r := reading{Format: d.Format, Strict: d.Strict, budget: newBudget()}
	format, f := r.decode(data, t, reflect.ValueOf(&v).Elem())
	if f == nil {
		return v, nil
	}
	// Not v: encoding/json goes on after an error and fills in the rest.
	return zero, decodeError(data, t, format, f)
}

// Encode writes v as one document. The error is an [*Error].
func (d Document[T]) Encode(v T) ([]byte, error) {
	t := reflect.TypeFor[T]()
	format, data, f := d.encode(t, &v)
	if f == nil {
		f = checkSize(data)
	}
	if f != nil {
		return nil, &Error{Op: "encode", Type: t.String(), Format: format, Field: f.field, Rule: f.rule}
	}
	return data, nil
}

// reading is how a document is to be read.
type reading struct {
	Format Format
	Strict bool
	budget *budget
}

// decode reads data into v, which is settable, zero and a t.
func (d reading) decode(data []byte, t reflect.Type, v reflect.Value) (format string, f *fault) {
	if f := checkText(data); f != nil {
		return "text", f
	}
	if d.Format == FormatAuto && isScalar(t) {
		return "text", decodeScalar(string(data), v)
	}
	dst := v.Addr().Interface()
	switch {
	case d.Format == FormatJSON, d.Format == FormatAuto && startsJSON(data):
		f := decodeJSON(scan{src: data, strict: d.Strict}, planOf(t), t, dst)
		if f == nil || !f.syntax || d.Format == FormatJSON {
			return "json", f
		}
		// Not JSON, though it began like it. What is not YAML either was meant to be JSON.
		if g := d.decodeYAML(data, planOf(t), t, dst); g == nil || !g.syntax {
			return "yaml", g
		}
		return "json", f
	case d.Format == FormatYAML, d.Format == FormatAuto:
		return "yaml", d.decodeYAML(data, planOf(t), t, dst)
	case d.Format == FormatTOML:
		return "toml", decodeTOML(data, planOf(t), d.Strict, t, dst)
	}
	return "text", &fault{off: -1, rule: ruleFormat}
}

func (d Document[T]) encode(t reflect.Type, v *T) (format string, data []byte, f *fault) {
	switch {
	case d.Format == FormatAuto && isScalar(t):
		data, f = encodeScalar(reflect.ValueOf(v).Elem())
		return "text", data, f
	case d.Format < FormatAuto || d.Format > FormatTOML:
		return "text", nil, &fault{rule: ruleFormat}
	}
	data, f = encodeJSON(v, planOf(t))
	switch {
	case f == nil && d.Format == FormatYAML:
		data, f = encodeYAML(data)
		return "yaml", data, f
	case f == nil && d.Format == FormatTOML:
		data, f = encodeTOML(data, planOf(t))
		return "toml", data, f
	}
	return "json", data, f
}

const ruleFormat = "Document.Format is none of the package's"

// startsJSON reports whether the first character opens a JSON object or array.
func startsJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

// nullable reports whether null is a value of t like others. For the rest it would mean the zero t, as
// silently as an empty document.
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	default:
		return reflect.PointerTo(t).Implements(jsonUnmarshalerType)
	}
}

// String returns the codec of raw text: the bytes as they are, which must be UTF-8 without NUL and at
// most [MaxSize] long. Nothing is trimmed or unquoted; Auto[string] does that.
func String() Codec[string] { return raw{} }

type raw struct{}

func (raw) Decode(data []byte) (string, error) {
	if f := checkText(data); f != nil {
		return "", &Error{Op: "decode", Type: "string", Format: "text", Line: f.line, Column: f.column, Rule: f.rule}
	}
	return string(data), nil
}

func (raw) Encode(v string) ([]byte, error) {
	data := []byte(v)
	if f := checkText(data); f != nil {
		return nil, &Error{Op: "encode", Type: "string", Format: "text", Rule: f.rule}
	}
	return data, nil
}
