package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// decodeJSON reads the JSON text of s into dst, a pointer to a t with plan p.
func decodeJSON(s scan, p *plan, t reflect.Type, dst any) *fault {
	src := s.src
	switch body := bytes.TrimSpace(src); {
	case len(body) == 0:
		return &fault{off: -1, rule: "the document is empty"}
	case string(body) == "null" && !nullable(t):
		return &fault{off: bytes.IndexByte(src, 'n'), rule: "the document is null"}
	}
	text, f := s.run(p)
	if f != nil && !f.syntax {
		return f
	}
	if f != nil {
		// encoding/json places syntax errors best. It must refuse what the scan could not follow; if it
		// does not, the text was not checked and is refused all the same.
		text, s.cuts = src, nil
		if json.Valid(src) {
			return f
		}
	}
	err := json.Unmarshal(text, dst)
	if err == nil {
		return nil
	}

	// The text of err is not for others, nor is that of what it wraps.
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !json.Valid(text) {
		if syntax.Error() == "unexpected end of JSON input" || f != nil && f.rule == ruleEnd && int(syntax.Offset) >= len(text) {
			return &fault{off: len(src), rule: ruleEnd, syntax: true}
		}
		// Offset counts the byte that was wrong.
		return &fault{off: s.origin(int(syntax.Offset) - 1), rule: ruleSyntax, syntax: true}
	}
	probe := scan{src: src, unique: true, mode: scanProbe}
	if _, f := probe.run(p); f != nil && !f.syntax {
		return f
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// Its Field has the names of Go types in it, where structs are embedded. The scan knows the path
		// as the document has it.
		find := scan{src: src, unique: true, mode: scanFind, target: s.origin(valueBefore(text, int(wrong.Offset)))}
		if _, f := find.run(p); f != nil && !f.syntax {
			f.rule = typeRule(wrong)
			return f
		}
	}
	return &fault{off: -1, rule: "a value that does not fit its Go type"}
}

// typeRule says what encoding/json found where, without the value: Value is "number 300" for a 300 that
// an int8 cannot hold.
func typeRule(e *json.UnmarshalTypeError) string {
	kind, _, literal := strings.Cut(e.Value, " ")
	switch kind {
	case "string", "number", "bool":
		kind = "a " + kind
	case "object", "array":
		kind = "an " + kind
	default:
		kind = "a value"
	}
	if literal {
		return kind + " that " + e.Type.String() + " cannot hold"
	}
	return kind + " where " + e.Type.String() + " is wanted"
}

// valueBefore is the offset at which the last value or key begins before off: encoding/json reports the
// place behind a value, or behind its first byte. The text is valid JSON.
func valueBefore(text []byte, off int) int {
	s := scan{src: text}
	last := 0
	for {
		s.space()
		if s.pos >= min(off, len(text)) {
			return last
		}
		switch text[s.pos] {
		case '{', '[':
			last = s.pos
			s.pos++
		case '}', ']', ',', ':':
			s.pos++
		case '"':
			last = s.pos
			s.str()
		default:
			last = s.pos
			s.literal()
		}
	}
}

// encodeJSON writes v, a pointer to a value of plan p, as JSON that decodeJSON reads.
func encodeJSON(v any, p *plan) ([]byte, *fault) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // people read it with etcdctl get
	if err := enc.Encode(v); err != nil {
		return nil, &fault{rule: encodeRule(err)}
	}
	s := scan{src: bytes.TrimSuffix(b.Bytes(), []byte("\n")), mode: scanEncode}
	return s.run(p)
}

// encodeRule says why encoding/json did not write a value, without the value.
func encodeRule(err error) string {
	if custom, ok := errors.AsType[*json.MarshalerError](err); ok {
		t := custom.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		return "not written by its own type " + t.String()
	}
	if e, ok := errors.AsType[*json.UnsupportedTypeError](err); ok {
		return e.Type.String() + " cannot be written as JSON"
	}
	return "a value that JSON cannot hold (NaN, an infinity or a cycle)"
}
