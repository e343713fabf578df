package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

const (
	ruleTOML  = "not valid TOML"
	ruleTwice = "a key that is defined twice, or as something else before"
	ruleNull  = "null, which TOML does not have"
)

// decodeTOML reads a TOML text into dst, a pointer to a t with plan p.
func decodeTOML(src []byte, p *plan, strict bool, t reflect.Type, dst any) *fault {
	if f := boundTOML(src); f != nil {
		return f
	}
	root, f := parseTOML(src)
	if f != nil {
		return f
	}
	c := tomlConverter{out: make([]byte, 0, len(src)+len(src)/4), target: -1}
	if f := c.value(root, 1); f != nil {
		f.off = placeTOML(src, c.path, false)
		return f
	}
	f = decodeJSON(scan{src: c.out, strict: strict, unique: true}, p, t, dst)
	if f != nil && f.line == 0 && f.off >= 0 {
		// The offset is into the JSON: name the place in the TOML that it came from.
		path, key := c.trace(root, f.off)
		f.off = placeTOML(src, path, key)
	}
	return f
}

// parseTOML returns the tables of a text that boundTOML has let pass.
func parseTOML(src []byte) (root map[string]any, f *fault) {
	// The parser panics where it meets what it takes for impossible. The text comes from whoever may write
	// to etcd, and must not end the process.
	defer func() {
		if recover() != nil {
			root, f = nil, &fault{off: -1, rule: ruleTOML, syntax: true}
		}
	}()
	if err := toml.Unmarshal(src, &root); err != nil {
		return nil, tomlFault(src, err)
	}
	if len(root) == 0 {
		return nil, &fault{off: -1, rule: "the document is empty"}
	}
	return root, nil
}

// tomlFault is an error of the parser without what it may quote: of its texts only those are passed on
// that are known to be constant.
func tomlFault(src []byte, err error) *fault {
	f := &fault{off: -1, rule: ruleTOML, syntax: true}
	e, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return f
	}
	line, column := e.Position()
	start := 0
	for range line - 1 {
		start += bytes.IndexByte(src[start:], '\n') + 1
	}
	f.off = start + column - 1 // the parser counts columns in bytes
	problem := strings.TrimPrefix(e.Error(), "toml: ")
	switch {
	case len(e.Key()) > 0: // only what is defined twice has its key named
		f.rule = ruleTwice
	case slices.Contains(tomlProblems, problem):
		f.rule += ": " + problem
	default:
		for _, quoting := range tomlQuoting {
			if strings.HasPrefix(problem, quoting.text) {
				f.rule += ": " + quoting.rule
			}
		}
	}
	return f
}

// tomlQuoting is how texts of the parser begin that go on with what is in the document, and what is said
// instead.
var tomlQuoting = []struct{ text, rule string }{
	{"expected keyword ", "strings must be quoted"},
	{"expected newline but got ", "more on the line than belongs there; strings must be quoted"},
	{"invalid character at start of key: ", "keys of other characters than A-Z a-z 0-9 _ - must be quoted"},
	{"invalid escape character ", "an unknown escape"},
	{"unexpected character ", "strings must be quoted"},
}

// tomlProblems are the texts of the parser that help whoever wrote the document.
var tomlProblems = []string{
	"array is incomplete",
	"basic strings cannot have control characters",
	"basic strings cannot have new lines",
	"binary number is too large to fit in a 64-bit signed integer",
	"carriage returns are not allowed in comments",
	"carriage returns must be followed by a newline character",
	"control characters are not allowed in comments",
	"dates are expected to have the format YYYY-MM-DD",
	"decimal number is too large to fit in a 64-bit signed integer",
	"decimal point must be followed by a digit",
	"escape sequence is not a valid unicode code point",
	"expected ',' or ']' after array value",
	"expected ',' or '}' after inline table key-value",
	"expected '=' after key",
	"expected ']' to close table name",
	"expected ']]' to close array table name",
	"expected key but reached end of input",
	"expected value, not end of input",
	"exponent must contain at least one digit",
	"hexadecimal number is too large to fit in a 64-bit signed integer",
	"impossible date",
	"inline table is incomplete",
	"integers cannot have leading zeroes",
	"literal strings cannot have control characters",
	"literal strings cannot have new lines",
	`multiline basic string not terminated by """`,
	"multiline basic strings cannot have control characters",
	"multiline literal string not terminated by '''",
	"multiline literal strings cannot have control characters",
	"number must have at least one digit between underscores",
	"octal number is too large to fit in a 64-bit signed integer",
	"radix prefix must be followed by at least one digit",
	"sign is not allowed on numbers with a radix prefix",
	"strings must be quoted",
	"times are expected to have the format HH:MM[:SS[.NNNNNN]]",
	"unexpected comma in inline table",
	"unicode escape sequence is too short",
	"unterminated basic string",
	"unterminated literal string",
}

// encodeTOML writes a JSON text, that of a value of plan p, as TOML that decodeTOML reads.
func encodeTOML(src []byte, p *plan) ([]byte, *fault) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber() // digit for digit
	root, f := tomlNode(dec, p)
	if f != nil {
		return nil, f
	}
	tables, ok := root.(map[string]any)
	switch {
	case !ok:
		return nil, &fault{rule: "TOML is written for structs and maps only"}
	case len(tables) == 0:
		return nil, &fault{rule: "nothing to write: in TOML it would be an empty document"}
	}
	data, err := toml.Marshal(tables)
	if err != nil {
		return nil, &fault{rule: "not written as TOML"}
	}
	if f := boundTOML(data); f != nil {
		return nil, &fault{rule: f.rule}
	}
	return data, nil
}

// tomlNode reads the next value, of plan p. The text is valid and of limited depth. A nil is a null.
func tomlNode(dec *json.Decoder, p *plan) (any, *fault) {
	tok, err := dec.Token()
	if err != nil {
		return nil, &fault{rule: "not written as TOML"}
	}
	switch tok := tok.(type) {
	case json.Delim:
		var elem *plan
		if p != nil && p.kind == planElem {
			elem = p.elem
		}
		if tok == '[' {
			list := []any{}
			for dec.More() {
				item, f := tomlNode(dec, elem)
				if f != nil {
					return nil, f
				}
				if item == nil {
					return nil, &fault{rule: ruleNull}
				}
				list = append(list, item)
			}
			_, err = dec.Token() // the end of it
			return list, ended(err)
		}
		table := map[string]any{}
		for dec.More() {
			if f := tomlMember(dec, p, elem, table); f != nil {
				return nil, f
			}
		}
		_, err = dec.Token()
		return table, ended(err)
	case json.Number:
		n, ok := tomlNumber(tok.String())
		if !ok {
			return nil, &fault{rule: "a number that TOML cannot hold"}
		}
		return n, nil
	}
	return tok, nil // a string, a bool, nil
}

// tomlMember reads a key and its value into table. A null is what a field of a struct has that is nil: it
// is left out, and will be nil again. Elsewhere it means something, and cannot be written.
func tomlMember(dec *json.Decoder, p, elem *plan, table map[string]any) *fault {
	tok, err := dec.Token()
	key, ok := tok.(string)
	if err != nil || !ok {
		return &fault{rule: "not written as TOML"}
	}
	var field planField
	known := false
	if p != nil && p.kind == planStruct {
		field, known = p.field([]byte(key))
		elem = field.plan
	}
	v, f := tomlNode(dec, elem)
	if f == nil && v == nil && !known {
		f = &fault{rule: ruleNull}
	}
	switch {
	case f != nil && known:
		return f.in(field.name)
	case f != nil:
		return f
	case v != nil:
		table[key] = v
	}
	return nil
}

func ended(err error) *fault {
	if err != nil {
		return &fault{rule: "not written as TOML"}
	}
	return nil
}

// tomlNumber is a number of JSON as one of TOML: an integer of 64 bits, or else a float, if that is not
// another number.
func tomlNumber(text string) (any, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, false
	}
	if !strings.ContainsAny(text, ".eE") && text != "-0" && string(appendFloat(nil, f)) != text {
		return nil, false
	}
	return f, true
}
