package codec

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

const (
	// MaxSize is how many bytes a document may have: 1.5 MiB, the most etcd takes in one request.
	MaxSize = 1536 << 10

	// MaxDepth is how deep objects and arrays may be nested. encoding/json allows 10,000, which is too
	// deep for whatever walks the value recursively afterwards.
	MaxDepth = 100
)

// byteOrderMark is what some editors put in front of a text. It means nothing in UTF-8, and Decode
// drops it.
const byteOrderMark = "\ufeff"

// Error is what this package returns for a document: where, and which rule was broken, but never what the
// document holds there. It wraps [ErrNotSealed], [ErrUnknownKey] or [ErrNotOpened], or nothing; see the
// package comment.
type Error struct {
	Op     string // "decode", "encode", "open" or "seal"
	Type   string // the Go type asked for; empty for "open" and "seal"
	Format string // what the document was taken for: "json", "yaml", "toml", "text" or "sealed"

	// Line and Column count from 1, in characters; zero is unknown. With a Line but no Column the place
	// is approximate.
	Line, Column int

	// Field is the path of struct fields by their names in the document, joined by dots; empty if
	// there is none or it is not known.
	Field string

	// Rule says what is wrong, in words.
	Rule string

	is error // a sentinel, or nil
}

// Unwrap returns the sentinel that the error is matched by, or nil.
func (e *Error) Unwrap() error { return e.is }

// Error returns all of it in one line, as in "codec: decode app.Limits: yaml line 3, column 9: field
// rate.every: a duration needs a unit, as in 30s".
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "codec: %s", e.Op)
	if e.Type != "" {
		fmt.Fprintf(&b, " %s", e.Type)
	}
	fmt.Fprintf(&b, ": %s", e.Format)
	switch {
	case e.Column > 0:
		fmt.Fprintf(&b, " line %d, column %d", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, " near line %d", e.Line)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, ": field %s", e.Field)
	}
	fmt.Fprintf(&b, ": %s", e.Rule)
	return b.String()
}

// fault is an Error while it is still under way: it knows an offset, and who returns it knows of what.
type fault struct {
	off          int // into the text that was read; negative if unknown
	line, column int // set where an offset would be into something else
	field        string
	rule         string
	syntax       bool // the text is not of its format at all
}

// decodeError is the error for a fault in data.
func decodeError(data []byte, t reflect.Type, format string, f *fault) *Error {
	if f.line == 0 && f.off >= 0 {
		f.line, f.column = position(data, f.off)
	}
	return &Error{Op: "decode", Type: t.String(), Format: format, Line: f.line, Column: f.column, Field: f.field, Rule: f.rule}
}

// in puts the name of a field in front of the path.
func (f *fault) in(field string) *fault {
	if f.field != "" {
		field += "." + f.field
	}
	f.field = field
	return f
}

// checkText refuses what no text format may hold.
func checkText(data []byte) *fault {
	if f := checkSize(data); f != nil {
		return f
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		line, column := position(data, i)
		return &fault{line: line, column: column, rule: "a NUL byte"}
	}
	if !utf8.Valid(data) {
		i := 0
		for {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n <= 1 {
				break
			}
			i += n
		}
		line, column := position(data, i)
		return &fault{line: line, column: column, rule: "a byte that is not UTF-8"}
	}
	return nil
}

const ruleLarge = "larger than 1572864 bytes"

func checkSize(data []byte) *fault {
	if len(data) > MaxSize {
		return &fault{off: -1, rule: ruleLarge}
	}
	return nil
}

// position is the line and column of an offset.
func position(data []byte, off int) (line, column int) {
	before := data[:min(off, len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}
