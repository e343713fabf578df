package codec

import "strings"

// boundTOML refuses a text that would cost too much to parse, before it is parsed: the parser has no
// bound of its own on what it builds, and looks for each key among all before it. It counts the marks of
// which each further node needs one, and goes no further than the parser would: what it takes for text,
// in quotes or comments, is text for the parser too, up to the first mistake, where the parser ends.
func boundTOML(src []byte) *fault {
	var (
		lex     = tomlLexer{src: src}
		open    [MaxDepth]byte // the brackets around
		depth   = 0
		header  = false // inside of the [ ] of a table's name
		key     = true  // before a = sign
		parts   = 1     // of the key
		entries = 0
	)
	for {
		tok := lex.next()
		switch tok.kind {
		case tomlEnd:
			return nil
		case '\n':
			if header || depth == 0 {
				header, depth, key, parts = false, 0, true, 1
			}
		case '[', '{':
			entries += tomlWeight
			if depth == MaxDepth {
				return &fault{off: tok.start, rule: ruleDepth}
			}
			header = header || depth == 0 && key
			open[depth] = tok.kind
			depth++
			key, parts = header || tok.kind == '{', 1
		case ']', '}':
			depth = max(0, depth-1)
			key = header
		case ',':
			entries++
			key, parts = depth > 0 && open[depth-1] == '{', 1
		case '=':
			entries += tomlWeight
			key, parts = false, 1
		case '.':
			if !key {
				break // of a number
			}
			entries += tomlWeight
			if parts++; parts > MaxDepth {
				return &fault{off: tok.start, rule: ruleDepth}
			}
		}
		if entries > maxEntries {
			return &fault{off: tok.start, rule: ruleEntries}
		}
	}
}

// tomlWeight is that of a table, an array or a part of a key, in entries: the parser compares the name
// of each with all before it. With it no TOML costs more than YAML may, see maxEntries.
const tomlWeight = 5

// tomlLexer divides a TOML text into marks, strings and the rest, as well as one can without knowing what is
// expected. White space and comments are passed over.
type tomlLexer struct {
	src []byte
	pos int
}

// tomlToken is a piece of the text.
type tomlToken struct {
	kind       byte // the character of a mark or the quote of a string, tomlBare or tomlEnd
	start, end int
}

const (
	tomlEnd  byte = 0   // the end of the text, or a string that does not end
	tomlBare byte = 'a' // a bare key or value, or a piece of one: a number with a point is three tokens
)

func (l *tomlLexer) next() tomlToken {
	for l.pos < len(l.src) {
		switch l.src[l.pos] {
		case ' ', '\t', '\r':
			l.pos++
			continue
		case '#':
			for l.pos < len(l.src) && l.src[l.pos] != '\n' {
				l.pos++
			}
			continue
		}
		break
	}
	tok := tomlToken{start: l.pos}
	if l.pos == len(l.src) {
		tok.end = l.pos
		return tok
	}
	switch c := l.src[l.pos]; c {
	case '\n', '[', ']', '{', '}', ',', '=', '.':
		l.pos++
		tok.kind = c
	case '"', '\'':
		if l.str(c) {
			tok.kind = c
		}
	default:
		for l.pos < len(l.src) && strings.IndexByte(" \t\r\n#[]{},=.\"'", l.src[l.pos]) < 0 {
			l.pos++
		}
		tok.kind = tomlBare
	}
	tok.end = l.pos
	return tok
}

// str moves past a string in quotes of kind q, and reports whether it ends.
func (l *tomlLexer) str(q byte) bool {
	const most = 5 // quotes at the end of a block: three that close it, behind two that belong to it
	opening := l.quotes(q, 3)
	if opening == 2 {
		return true // an empty string
	}
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == q && opening == 1:
			l.pos++
			return true
		case c == q:
			if l.quotes(q, most) >= 3 {
				return true
			}
		case c == '\\' && q == '"':
			l.pos = min(l.pos+2, len(l.src))
		case c == '\n' && opening == 1:
			return false
		default:
			l.pos++
		}
	}
	return false
}

// quotes moves past at most n quotes, and returns how many there were.
func (l *tomlLexer) quotes(q byte, n int) int {
	start := l.pos
	for l.pos < len(l.src) && l.src[l.pos] == q && l.pos < start+n {
		l.pos++
	}
	return l.pos - start
}
