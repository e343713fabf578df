package codec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"time"
)

const (
	ruleSyntax    = "not valid JSON"
	ruleEnd       = "the document ends too early"
	ruleDepth     = "nested deeper than 100"
	ruleDuplicate = "a key that occurs twice in one object"
	ruleUnknown   = "a field that the type does not have"
)

// scan goes once through a JSON text before encoding/json does. It refuses what encoding/json lets
// pass (depth, keys that occur twice, with strict unknown fields) and replaces durations.
//
// It does not judge syntax beyond what it needs to find its way: encoding/json reads the text after it.
type scan struct {
	src    []byte
	pos    int
	depth  int
	strict bool // refuse unknown fields
	unique bool // the keys of objects are known to differ
	mode   scanMode
	target int // of scanFind

	keys [][]byte // of the objects that are open, innermost last: see keySet

	// What is different from src, once something is: out holds the new text of src[:copied].
	out    []byte
	copied int
	cuts   []cut
}

type scanMode uint8

const (
	scanDecode scanMode = iota // durations become numbers, as encoding/json wants them
	scanEncode                 // numbers become durations
	scanProbe                  // types that decode themselves are tried one by one, to find which one failed
	scanFind                   // the scan ends with a fault at the value or key that begins at target
)

// cut says that offset out of the new text is offset src of the old one.
type cut struct{ out, src int }

// run scans the value of plan p that a text begins with, and returns the text to go on with. What may
// follow the value is for encoding/json to refuse.
func (s *scan) run(p *plan) ([]byte, *fault) {
	if f := s.value(p); f != nil {
		return nil, f
	}
	if s.out == nil {
		return s.src, nil
	}
	return append(s.out, s.src[s.copied:]...), nil
}

// origin is the offset in src of an offset in the new text.
func (s *scan) origin(off int) int {
	for _, c := range slices.Backward(s.cuts) {
		if c.out <= off {
			return c.src + off - c.out
		}
	}
	return off
}

func (s *scan) value(p *plan) *fault {
	if p != nil && !s.follows(p) {
		p = nil
	}
	if s.space(); s.pos == len(s.src) {
		return s.malformed()
	}
	start := s.pos
	if s.mode == scanFind && start == s.target {
		return &fault{off: start}
	}
	if p != nil && p.kind == planCustom {
		if f := s.value(nil); f != nil || s.mode != scanProbe {
			return f
		}
		if json.Unmarshal(s.src[start:s.pos], reflect.New(p.typ).Interface()) != nil {
			return &fault{off: start, rule: ruleOf(p.typ, s.src[start:s.pos], true)}
		}
		return nil
	}
	switch s.src[s.pos] {
	case '{', '[':
		if s.depth++; s.depth > MaxDepth {
			return &fault{off: start, rule: ruleDepth}
		}
		defer func() { s.depth-- }()
		if s.src[s.pos] == '{' {
			return s.object(p)
		}
		return s.array(p)
	case '"':
		if !s.str() {
			return s.malformed()
		}
		if s.mode == scanEncode && replaced(s.src[start:s.pos]) {
			return &fault{off: start, rule: "a string that is not UTF-8"}
		}
		if p != nil && p.kind == planDuration && s.mode == scanDecode {
			return s.duration(start)
		}
	default:
		s.literal()
		if s.pos == start {
			return s.malformed()
		}
		if c := s.src[start]; p != nil && p.kind == planDuration && (c == '-' || isDigit(c)) {
			return s.number(start)
		}
	}
	return nil
}

// follows reports whether the scan needs to know the types below p.
func (s *scan) follows(p *plan) bool {
	switch s.mode {
	case scanProbe:
		return p.customs
	case scanFind:
		return true
	case scanDecode, scanEncode:
	}
	return s.strict || p.durations
}

func (s *scan) object(p *plan) *fault {
	seen := keySet{scan: s, base: len(s.keys)}
	defer seen.drop()
	for first := true; ; first = false {
		s.pos++ // { or ,
		s.space()
		if first && s.peek() == '}' {
			s.pos++
			return nil
		}
		start := s.pos
		if s.mode == scanFind && start == s.target {
			return &fault{off: start}
		}
		if s.peek() != '"' || !s.str() {
			return s.malformed()
		}
		var key []byte
		if !s.unique || p != nil {
			var ok bool
			if key, ok = s.key(start); !ok {
				return s.malformed()
			}
		}
		if !s.unique && !seen.add(key) {
			return &fault{off: start, rule: ruleDuplicate}
		}
		if s.space(); s.peek() != ':' {
			return s.malformed()
		}
		s.pos++
		if f := s.member(p, key, start); f != nil {
			return f
		}
		switch s.space(); s.peek() {
		case ',':
		case '}':
			s.pos++
			return nil
		default:
			return s.malformed()
		}
	}
}

// keySet is the keys of one object: a handful lies on the stack of the scan and is compared, more are
// hashed.
type keySet struct {
	scan *scan
	base int
	many map[string]bool
}

// add reports whether key is new.
func (k *keySet) add(key []byte) bool {
	const few = 16
	open := k.scan.keys[k.base:]
	if len(open) < few {
		k.scan.keys = append(k.scan.keys, key)
		return !slices.ContainsFunc(open, func(other []byte) bool { return bytes.Equal(other, key) })
	}
	if k.many == nil {
		k.many = make(map[string]bool, 4*few)
		for _, other := range open {
			k.many[string(other)] = true
		}
	}
	if k.many[string(key)] {
		return false
	}
	k.many[string(key)] = true
	return true
}

func (k *keySet) drop() { k.scan.keys = k.scan.keys[:k.base] }

// member scans the value of a key.
func (s *scan) member(p *plan, key []byte, start int) *fault {
	switch {
	case p == nil:
		return s.value(nil)
	case p.kind == planElem:
		return s.value(p.elem)
	case p.kind == planStruct:
		field, ok := p.field(key)
		if !ok {
			if s.strict {
				return &fault{off: start, rule: ruleUnknown}
			}
			return s.value(nil)
		}
		if f := s.value(field.plan); f != nil {
			return f.in(field.name)
		}
		return nil
	}
	return s.value(nil)
}

func (s *scan) array(p *plan) *fault {
	var elem *plan
	if p != nil && p.kind == planElem {
		elem = p.elem
	}
	for first := true; ; first = false {
		s.pos++ // [ or ,
		s.space()
		if first && s.peek() == ']' {
			s.pos++
			return nil
		}
		if f := s.value(elem); f != nil {
			return f
		}
		switch s.space(); s.peek() {
		case ',':
		case ']':
			s.pos++
			return nil
		default:
			return s.malformed()
		}
	}
}

// duration replaces the string that begins at start by its number of nanoseconds.
func (s *scan) duration(start int) *fault {
	var text string
	if json.Unmarshal(s.src[start:s.pos], &text) != nil {
		return s.malformed()
	}
	d, rule := parseDuration(text)
	if rule != "" {
		return &fault{off: start, rule: rule}
	}
	s.replace(start, strconv.AppendInt(nil, int64(d), 10))
	return nil
}

// number refuses a number where a duration is wanted, or writes it as one.
func (s *scan) number(start int) *fault {
	text := string(s.src[start:s.pos])
	switch s.mode {
	case scanEncode:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return s.malformed()
		}
		s.replace(start, strconv.AppendQuote(nil, time.Duration(n).String()))
	case scanDecode:
		if text != "0" {
			return &fault{off: start, rule: ruleUnit}
		}
	case scanProbe, scanFind:
	}
	return nil
}

// replace puts text in the place of src[start:pos].
func (s *scan) replace(start int, text []byte) {
	s.out = append(append(s.out, s.src[s.copied:start]...), text...)
	s.copied = s.pos
	s.cuts = append(s.cuts, cut{len(s.out), s.pos})
}

// key is what the string that begins at start says. It keeps no copy unless it must.
func (s *scan) key(start int) ([]byte, bool) {
	raw := s.src[start+1 : s.pos-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, true
	}
	var key string
	if json.Unmarshal(s.src[start:s.pos], &key) != nil {
		return nil, false
	}
	return []byte(key), true
}

// str moves past a string, and reports whether it ends.
func (s *scan) str() bool {
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch s.src[s.pos] {
		case '\\':
			s.pos++
		case '"':
			s.pos++
			return true
		}
	}
	s.pos = len(s.src)
	return false
}

// literal moves past a number, true, false or null, or whatever is there instead.
func (s *scan) literal() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\r', '\n', ',', ':', '"', '{', '}', '[', ']':
			return
		}
		s.pos++
	}
}

func (s *scan) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// peek is the byte at pos, or zero at the end; there is no NUL in the text.
func (s *scan) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scan) malformed() *fault {
	rule := ruleSyntax
	if s.pos >= len(s.src) {
		rule = ruleEnd
	}
	return &fault{off: min(s.pos, len(s.src)), rule: rule, syntax: true}
}

// replaced reports whether encoding/json put U+FFFD into a string in the place of bytes that are not
// UTF-8: it escapes only that one, and writes a U+FFFD that was there as it is.
func replaced(str []byte) bool {
	for {
		i := bytes.IndexByte(str, '\\')
		if i < 0 || i+1 >= len(str) {
			return false
		}
		if bytes.HasPrefix(str[i+1:], []byte("ufffd")) {
			return true
		}
		str = str[i+2:]
	}
}
