package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Parts reads documents that make one value together, as the keys of a config tree do: each by the rules of [Auto], and
// all of them within the bounds that one document of YAML has, so that many small ones cost no more than a large one.
// How large they are in all is for the caller to bound.
//
// It serves one value and one goroutine. A program that has one document wants a [Document].
type Parts struct {
	strict bool
	budget *budget
}

// NewParts returns the Parts of one value. If strict is set, fields that a type does not have are refused, as by a
// strict Document.
func NewParts(strict bool) *Parts { return &Parts{strict, newBudget()} }

// Part is a document, or what one holds for a field of a struct.
type Part struct {
	// Name is the field's, as the type has it and not as the document may spell it. Empty for a document.
	Name string

	text []byte // a document, or JSON that is a part of one

	// Of a part of a document only.
	of     *opened
	off    int    // of text in it
	field  string // path to it
	quoted bool   // the field is tagged ",string"
	parts  []Part // of an object for which the type has a struct
}

// Whole returns the part that is a document. It keeps data, and never writes to it.
func Whole(data []byte) Part { return Part{text: data} }

// Skipped reports whether p is a null for which encoding/json leaves a field of type t as it is. Documents are never
// skipped: an empty one, or one that is null, is refused where it means nothing.
func (p Part) Skipped(t reflect.Type) bool { return p.of != nil && p.null() && !nullable(t) }

func (p Part) null() bool { return string(p.text) == "null" }

// Into sets v, which must be settable, to what p holds for its type. Nothing that v held is left, and what that led to
// is not written to. An error is an [*Error]; v may be anything then.
func (ps *Parts) Into(v reflect.Value, p Part) error {
	t := v.Type()
	v.SetZero()
	switch {
	case p.of == nil:
		data := bytes.TrimPrefix(p.text, []byte(byteOrderMark))
		if format, f := (reading{Strict: ps.strict, budget: ps.budget}).decode(data, t, v); f != nil {
			return ps.refuse(data, t, format, f)
		}
	case p.quoted:
		// encoding/json looks at the tag in a struct only.
		box := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "F", Type: t, Tag: `json:",string"`}}))
		if json.Unmarshal(fmt.Appendf(nil, `{"F":%s}`, p.text), box.Interface()) != nil {
			return p.refuse(t, &fault{rule: "not a string that holds a valid " + t.String()})
		}
		v.Set(box.Elem().Field(0))
	default:
		s := scan{src: p.text, strict: ps.strict, unique: p.of.unique}
		if f := decodeJSON(s, planOf(t), t, v.Addr().Interface()); f != nil {
			return p.refuse(t, f)
		}
	}
	return nil
}

// Fields takes p apart: what it holds for each field of t, which is a struct that does not decode itself, or a pointer
// to one. null says that p is null and t a pointer. The parts are in the order of the document, and the last of several for
// one field is the one that counts. Their values have not been looked at: of what is replaced by another document nobody
// wants to know whether it is right. An error is an [*Error].
func (ps *Parts) Fields(t reflect.Type, p Part) (parts []Part, null bool, err error) {
	data := bytes.TrimPrefix(p.text, []byte(byteOrderMark))
	whole := p.of == nil
	var f *fault
	if whole {
		p, f = ps.open(data, t)
	}
	switch {
	case f == nil && p.text[0] == '{':
		return p.parts, false, nil
	case f == nil && p.null() && nullable(t):
		return nil, true, nil
	case !whole:
		return nil, false, ps.Into(reflect.New(t).Elem(), p)
	}
	// What is wrong is said as for a document that is read at once.
	if format, g := (reading{Strict: ps.strict, budget: newBudget()}).decode(data, t, reflect.New(t).Elem()); g != nil {
		return nil, false, decodeError(data, t, format, g)
	}
	return nil, false, ps.refuse(data, t, "yaml", f)
}

// opened is a document that was taken apart.
type opened struct {
	format string
	text   []byte // JSON
	unique bool   // the keys of its objects are known to differ
	place  func(off int) (line, column int)
}

// open checks a document as far as that can be done without its values, and takes it apart.
func (ps *Parts) open(data []byte, t reflect.Type) (Part, *fault) {
	if f := checkText(data); f != nil {
		return Part{}, f
	}
	o := &opened{format: "json", text: data, place: func(off int) (int, int) { return position(data, off) }}
	if !startsJSON(data) || !json.Valid(data) {
		c, f := ps.budget.convertYAML(data)
		if f != nil {
			return Part{}, f
		}
		o = &opened{format: "yaml", text: c.out, unique: true, place: c.place}
	}
	// Depth, keys that occur twice, and with strict unknown fields. Nothing begins at the target.
	check := scan{src: o.text, strict: ps.strict, unique: o.unique, mode: scanFind, target: -1}
	p := planOf(t)
	if _, f := check.run(p); f != nil {
		f.line, f.column = o.place(f.off)
		return Part{}, f
	}
	s := scan{src: o.text, unique: true}
	return s.part(o, p, ""), nil
}

// part takes the next value apart, the type of which has plan p. The text is valid.
func (s *scan) part(o *opened, p *plan, field string) Part {
	s.space()
	part := Part{of: o, off: s.pos, field: field}
	if p == nil || p.kind != planStruct || s.peek() != '{' {
		s.value(nil)
		part.text = s.src[part.off:s.pos]
		return part
	}
	s.pos++
	for s.space(); s.peek() != '}'; s.space() {
		start := s.pos
		s.str()
		key, _ := s.key(start)
		s.space()
		s.pos++ // :
		if f, ok := p.field(key); ok {
			below := s.part(o, f.plan, join(field, f.name))
			below.Name, below.quoted = f.name, f.quoted
			part.parts = append(part.parts, below)
		} else {
			s.value(nil)
		}
		if s.space(); s.peek() == ',' {
			s.pos++
		}
	}
	s.pos++
	part.text = s.src[part.off:s.pos]
	return part
}

// refuse is the error for a fault in a document by itself.
func (ps *Parts) refuse(data []byte, t reflect.Type, format string, f *fault) error {
	if f.rule == ruleEntries || f.rule == ruleExpanded {
		f.rule += ", with all that was read before"
	}
	return decodeError(data, t, format, f)
}

// refuse is the error for a fault in a part, at an offset in its text.
func (p Part) refuse(t reflect.Type, f *fault) error {
	if f.off >= 0 {
		f.line, f.column = p.of.place(p.off + f.off)
	}
	return decodeError(nil, t, p.of.format, f.in(p.field))
}

// join is the path of a field below another.
func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
