package codec

import (
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// tomlConverter writes the tables of a TOML text as JSON.
type tomlConverter struct {
	out  []byte
	path []tomlStep // to the current value

	// What a trace looks for: the last key or value that begins at target or before it, if target is not
	// negative.
	target int
	found  []tomlStep
	key    bool
}

// tomlStep is a step on the path to a value: into the member key of a table, or, if key is nil, into the
// element index of an array.
type tomlStep struct {
	key   *string
	index int
}

// trace returns the path to what begins at an offset of the JSON that root was written as, and whether it
// is a key. It writes all of it again: faults are rare, and noting places each time would cost more.
func (c *tomlConverter) trace(root map[string]any, off int) (path []tomlStep, key bool) {
	again := tomlConverter{target: off}
	_ = again.value(root, 1) // it was written before
	return again.found, again.key
}

// mark notes that the key or value at path is written next.
func (c *tomlConverter) mark(key bool) {
	if len(c.out) <= c.target {
		c.found, c.key = append(c.found[:0], c.path...), key
	}
}

// value writes v. If there is a fault, path leads to it.
func (c *tomlConverter) value(v any, depth int) *fault {
	c.mark(false)
	switch v := v.(type) {
	case map[string]any:
		return c.table(v, depth)
	case []any:
		if depth > MaxDepth {
			return &fault{rule: ruleDepth}
		}
		c.out = append(c.out, '[')
		for i, item := range v {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			c.path = append(c.path, tomlStep{index: i})
			if f := c.value(item, depth+1); f != nil {
				return f
			}
			c.path = c.path[:len(c.path)-1]
		}
		c.out = append(c.out, ']')
	case string:
		c.out = appendString(c.out, v)
	case bool:
		c.out = strconv.AppendBool(c.out, v)
	case int64:
		c.out = strconv.AppendInt(c.out, v, 10)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return &fault{rule: "not a finite number"}
		}
		start := len(c.out)
		c.out = appendFloat(c.out, v)
		// A float stays one, so that it does not pass for an integer. One that is too large for an integer of
		// TOML may be what Encode wrote for one.
		if math.Abs(v) < 1<<63 && !strings.ContainsAny(string(c.out[start:]), ".e") {
			c.out = append(c.out, ".0"...)
		}
	case time.Time:
		c.out = appendString(c.out, v.Format(time.RFC3339Nano))
	case toml.LocalDateTime:
		c.out = appendString(c.out, v.String())
	case toml.LocalDate:
		c.out = appendString(c.out, v.String())
	case toml.LocalTime:
		c.out = appendString(c.out, v.String())
	default:
		return &fault{rule: ruleTOML}
	}
	return nil
}

func (c *tomlConverter) table(v map[string]any, depth int) *fault {
	if depth > MaxDepth {
		return &fault{rule: ruleDepth}
	}
	c.out = append(c.out, '{')
	for i, key := range slices.Sorted(maps.Keys(v)) {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.path = append(c.path, tomlStep{key: &key})
		c.mark(true)
		c.out = append(appendString(c.out, key), ':')
		if f := c.value(v[key], depth+1); f != nil {
			return f
		}
		c.path = c.path[:len(c.path)-1]
	}
	c.out = append(c.out, '}')
	return nil
}

// appendFloat appends f as encoding/json writes it.
func appendFloat(dst []byte, f float64) []byte {
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// placeTOML is the offset at which the key or the value at path begins in a text, which is valid, or a
// negative number. A table begins with its name.
func placeTOML(src []byte, path []tomlStep, key bool) int {
	l := tomlLocator{lex: tomlLexer{src: src}, key: -1, value: -1, elements: map[tomlPath]int{}, seed: maphash.MakeSeed()}
	for _, s := range path {
		if s.key != nil {
			l.want = l.member(l.want, *s.key)
		} else {
			l.want = l.element(l.want, s.index)
		}
	}
	l.document()
	if key || l.value < 0 {
		return l.key
	}
	return l.value
}

// tomlLocator walks through a text, which is valid, and notes where the key and the value at a path begin.
type tomlLocator struct {
	lex        tomlLexer
	want       tomlPath
	key, value int // the first of each, negative if there is none
	elements   map[tomlPath]int
	seed       maphash.Seed
}

// tomlPath is a path as a hash: names may be long, and many keys stand below each.
type tomlPath uint64

// member is the path to a key below a table.
func (l *tomlLocator) member(p tomlPath, key string) tomlPath {
	type step struct {
		in  tomlPath
		key string
	}
	return tomlPath(maphash.Comparable(l.seed, step{p, key}))
}

// element is the path to an element of an array.
func (l *tomlLocator) element(p tomlPath, index int) tomlPath {
	type step struct {
		in    tomlPath
		index int
	}
	return tomlPath(maphash.Comparable(l.seed, step{p, index}))
}

func (l *tomlLocator) isKey(path tomlPath, off int) {
	if l.key < 0 && path == l.want {
		l.key = off
	}
}

func (l *tomlLocator) isValue(path tomlPath, off int) {
	if l.value < 0 && path == l.want {
		l.value = off
	}
}

func (l *tomlLocator) document() {
	var table tomlPath
	for begun := false; ; {
		switch tok := l.lex.next(); {
		case tok.kind == tomlEnd:
			return
		case tok.kind == '\n':
			begun = false
		case begun: // the rest of a number or a time
		case tok.kind == '[':
			table, begun = l.header(), true
		default:
			l.keyValue(table, tok)
			begun = true
		}
	}
}

// header reads the name of a table, behind its first bracket, and returns the path.
func (l *tomlLocator) header() (path tomlPath) {
	tok := l.lex.next()
	array := tok.kind == '['
	if array {
		tok = l.lex.next()
	}
	for {
		start := tok.start
		path = l.member(path, l.name(tok))
		l.isKey(path, start)
		tok = l.lex.next()
		last := tok.kind != '.'
		if last && array {
			l.elements[path]++
		}
		if n := l.elements[path]; n > 0 {
			path = l.element(path, n-1)
			if last {
				l.isValue(path, start)
			}
		}
		if last {
			if array {
				l.lex.next()
			}
			return path
		}
		tok = l.lex.next()
	}
}

// keyValue reads a key, which begins with tok, and its value. The text is valid: behind a part of a key is
// a point or a = sign.
func (l *tomlLocator) keyValue(path tomlPath, tok tomlToken) {
	for {
		path = l.member(path, l.name(tok))
		l.isKey(path, tok.start)
		if l.lex.next().kind != '.' {
			break
		}
		tok = l.lex.next()
	}
	l.read(path, l.lex.next())
}

// read reads a value, which begins with tok.
func (l *tomlLocator) read(path tomlPath, tok tomlToken) {
	l.isValue(path, tok.start)
	if tok.kind != '[' && tok.kind != '{' {
		return
	}
	i := 0
	for begun := false; ; {
		switch inner := l.lex.next(); {
		case inner.kind == tomlEnd || inner.kind == ']' || inner.kind == '}':
			return
		case inner.kind == ',':
			i, begun = i+1, false
		case inner.kind == '\n' || begun: // or the rest of a number or a time
		case tok.kind == '{':
			l.keyValue(path, inner)
			begun = true
		default:
			l.read(l.element(path, i), inner)
			begun = true
		}
	}
}

// name is what the part of a key says.
func (l *tomlLocator) name(tok tomlToken) string {
	text := string(l.lex.src[tok.start:tok.end])
	switch {
	case tok.kind == '\'' || tok.kind == '"' && !strings.Contains(text, `\`):
		return text[1 : len(text)-1]
	case tok.kind == '"':
		var v struct{ K string }
		_ = toml.Unmarshal([]byte("K = "+text), &v) // it was read before
		return v.K
	}
	return text
}
