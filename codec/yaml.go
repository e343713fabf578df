package codec

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxEntries is how many entries of lists and mappings a YAML document may have. It bounds the parse,
	// which takes some 2 us and 1 KiB for an entry that may be two bytes of text: with it, no YAML
	// costs more than about 100 ms and 50 MiB.
	maxEntries = 40_000

	// maxValues is how many keys and values a document may expand to, and maxExpanded how many bytes of
	// JSON. Both leave room for honest aliases; what they are for is nine lines of
	// "b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]", which are a thousand million values. Without
	// aliases maxEntries is always reached first: an entry is two or three keys and values.
	maxValues   = 3 * maxEntries
	maxExpanded = 4 * MaxSize
)

const (
	ruleEntries  = "more than 40000 entries"
	ruleExpanded = "aliases expand to too much"
	ruleLoop     = "an alias inside of what it stands for"
)

// budget is what reading YAML may still cost, for one document or for several that make one value.
type budget struct {
	entries int
	values  int // that documents expand to
	bytes   int // of JSON
}

func newBudget() *budget { return &budget{maxEntries + documentWeight, maxValues, maxExpanded} }

// decodeYAML reads a YAML text into dst, a pointer to a t with plan p.
func (d reading) decodeYAML(src []byte, p *plan, t reflect.Type, dst any) *fault {
	c, f := d.budget.convertYAML(src)
	if f != nil {
		return f
	}
	f = decodeJSON(scan{src: c.out, strict: d.Strict, unique: true}, p, t, dst)
	if f != nil && f.line == 0 && f.off >= 0 {
		// The offset is into the JSON: name the place in the YAML that it came from.
		f.line, f.column = c.place(f.off)
	}
	return f
}

// convertYAML writes a YAML text as JSON.
func (b *budget) convertYAML(src []byte) (*converter, *fault) {
	entries, f := countEntries(src, b.entries)
	if f != nil {
		return nil, f
	}
	b.entries -= entries
	root, f := parseYAML(src)
	if f != nil {
		return nil, f
	}
	c := &converter{left: b.values, room: b.bytes, open: map[*yaml.Node]bool{}, out: make([]byte, 0, len(src)+len(src)/4)}
	f = c.value(root, 1)
	b.values, b.bytes = c.left, c.room-len(c.out)
	if f != nil {
		return nil, f
	}
	return c, nil
}

// countEntries refuses a text that would parse to too many nodes, before it is parsed: the parser has
// no bound of its own and may need 500 times the memory of the text. It counts the marks of which each
// further node needs one. Some of them may be in quotes or blocks of text, so it may count too many,
// but not too few. A text by itself counts, too.
func countEntries(src []byte, allowed int) (entries int, f *fault) {
	flow := false
	entries = documentWeight
	for i, c := range src {
		switch c {
		case '[', '{':
			flow = true
			entries++
		case ',':
			if flow { // before the first bracket a comma is text
				entries++
			}
		case '-', '?':
			if i+1 == len(src) || blank(src[i+1]) {
				entries++
			}
		case ':':
			if i+1 == len(src) || blank(src[i+1]) || flow && i > 0 && strings.IndexByte(`"']}`, src[i-1]) >= 0 {
				entries++
			}
		case '#':
			if i == 0 || blank(src[i-1]) {
				entries += commentWeight
			}
		case '%':
			if i == 0 || blank(src[i-1]) {
				entries += directiveWeight
			}
		}
		if entries > allowed {
			line, column := position(src, i)
			return 0, &fault{line: line, column: column, rule: ruleEntries}
		}
	}
	if entries > allowed {
		return 0, &fault{off: -1, rule: ruleEntries}
	}
	return entries, nil
}

const (
	documentWeight  = 8   // of a document, in entries: the parser allocates 5 KiB before it reads
	commentWeight   = 4   // of a comment, in entries: the parser keeps several copies
	directiveWeight = 100 // of a %TAG: the parser compares each with all before it
)

// blank reports whether c may be the white space around a mark. YAML has line breaks outside of ASCII.
func blank(c byte) bool { return c <= ' ' || c >= 0x80 }

// parseYAML returns the root node of a text that is one document.
func parseYAML(src []byte) (root *yaml.Node, f *fault) {
	// The parser reports by panics inside, and has panicked outwards before (CVE-2022-28948). The text
	// comes from whoever may write to etcd, and must not end the process.
	defer func() {
		if recover() != nil {
			root, f = nil, &fault{off: -1, rule: ruleYAML, syntax: true}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, &fault{off: -1, rule: "the document is empty"}
	case err != nil:
		return nil, yamlFault(err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, yamlFault(err)
		}
		return nil, &fault{line: more.Line, column: more.Column, rule: "more than one document"}
	}
	root = &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind == yaml.ScalarNode && root.Value == "" && root.Tag == "!!null" {
		return nil, &fault{off: -1, rule: "the document is empty"}
	}
	return root, nil
}

const (
	ruleYAML = "not valid YAML"
	ruleTag  = "a tag that is not one of YAML's own, or does not fit its value"
)

var yamlError = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)$`)

// yamlFault is an error of the parser without what it may quote: of its texts only those are passed on
// that are known to be constant.
func yamlFault(err error) *fault {
	f := &fault{off: -1, rule: ruleYAML, syntax: true}
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return f
	}
	f.line, _ = strconv.Atoi(m[1])
	switch {
	case slices.Contains(yamlProblems, m[2]):
		f.rule += ": " + m[2]
	case strings.HasPrefix(m[2], "exceeded max depth of "):
		f.rule = ruleDepth
	case strings.HasPrefix(m[2], "unknown anchor "):
		f.rule += ": an alias without an anchor"
	}
	return f
}

// yamlProblems are the texts of the parser that help whoever wrote the document.
var yamlProblems = []string{
	"block sequence entries are not allowed in this context",
	"control characters are not allowed",
	"could not find expected ':'",
	"did not find expected ',' or ']'",
	"did not find expected ',' or '}'",
	"did not find expected '-' indicator",
	"did not find expected <document start>",
	"did not find expected alphabetic or numeric character",
	"did not find expected comment or line break",
	"did not find expected key",
	"did not find expected node content",
	"did not find expected whitespace",
	"did not find expected whitespace or line break",
	"found a tab character that violates indentation",
	"found a tab character where an indentation space is expected",
	"found character that cannot start any token",
	"found undefined tag handle",
	"found unexpected document indicator",
	"found unexpected end of stream",
	"found unknown escape character",
	"mapping keys are not allowed in this context",
	"mapping values are not allowed in this context",
}
