package codec

import (
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// converter writes a tree of YAML as JSON.
type converter struct {
	out   []byte
	marks []mark
	left  int                 // how many more values are allowed
	room  int                 // how long out may become
	open  map[*yaml.Node]bool // aliased nodes around the current one
	via   *yaml.Node          // the outermost alias around the current node
}

// mark says where in the YAML the JSON at an offset came from.
type mark struct{ off, line, column int32 }

// mark notes that what is written next comes from n.
func (c *converter) mark(n *yaml.Node) {
	c.marks = append(c.marks, mark{int32(len(c.out)), int32(n.Line), int32(n.Column)})
}

// place is where the JSON at an offset came from.
func (c *converter) place(off int) (line, column int) {
	i := sort.Search(len(c.marks), func(i int) bool { return int(c.marks[i].off) > off })
	if i == 0 {
		return 0, 0
	}
	return int(c.marks[i-1].line), int(c.marks[i-1].column)
}

func faultAt(n *yaml.Node, rule string) *fault {
	return &fault{line: n.Line, column: n.Column, rule: rule}
}

// spend counts one node, written or passed over.
func (c *converter) spend(n *yaml.Node) *fault {
	if c.left--; c.left >= 0 && len(c.out) <= c.room {
		return nil
	}
	if c.via != nil {
		n = c.via
	}
	return faultAt(n, ruleExpanded)
}

// enter goes into what alias n stands for, until the function it returns is called.
func (c *converter) enter(n *yaml.Node) (leave func(), f *fault) {
	if c.open[n.Alias] {
		return nil, faultAt(n, ruleLoop)
	}
	if len(c.open) == 0 {
		c.via = n
	}
	c.open[n.Alias] = true
	return func() {
		if delete(c.open, n.Alias); len(c.open) == 0 {
			c.via = nil
		}
	}, nil
}

func (c *converter) value(n *yaml.Node, depth int) *fault {
	if f := c.spend(n); f != nil {
		return f
	}
	c.mark(n)
	switch n.Kind {
	case yaml.AliasNode:
		leave, f := c.enter(n)
		if f != nil {
			return f
		}
		defer leave()
		return c.value(n.Alias, depth)
	case yaml.ScalarNode:
		return c.scalar(n)
	case yaml.SequenceNode, yaml.MappingNode:
	default:
		return faultAt(n, ruleYAML)
	}
	if depth > MaxDepth {
		return faultAt(n, ruleDepth)
	}
	if tag := n.ShortTag(); tag != "!!seq" && tag != "!!map" {
		return faultAt(n, ruleTag)
	}
	if n.Kind == yaml.MappingNode {
		c.out = append(c.out, '{')
		if f := c.mapping(n, nil, depth); f != nil {
			return f
		}
		c.out = append(c.out, '}')
		return nil
	}
	c.out = append(c.out, '[')
	for i, item := range n.Content {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		if f := c.value(item, depth+1); f != nil {
			return f
		}
	}
	c.out = append(c.out, ']')
	return nil
}

// mapping writes the members of n, then those of what it merges, each key once: so a key of the mapping
// itself wins over a merged one, and an earlier source over a later. If n is a source, written is the
// keys that are there already, else it is nil.
func (c *converter) mapping(n *yaml.Node, written map[string]bool, depth int) *fault {
	own := make(map[string]bool, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if f := c.spend(k); f != nil {
			return f
		}
		if isMerge(k) {
			if merges = append(merges, v); len(merges) > 1 {
				return faultAt(k, ruleDuplicate)
			}
			continue
		}
		key, f := keyOf(k)
		if f != nil {
			return f
		}
		if own[key] {
			return faultAt(k, ruleDuplicate)
		}
		own[key] = true
		if written != nil {
			if written[key] {
				continue
			}
			written[key] = true
		}
		if c.out[len(c.out)-1] != '{' {
			c.out = append(c.out, ',')
		}
		c.mark(k)
		c.out = append(appendString(c.out, key), ':')
		if f := c.value(v, depth+1); f != nil {
			return f
		}
	}
	if written == nil {
		written = own
	}
	for _, source := range merges {
		if f := c.merge(source, written, depth, true); f != nil {
			return f
		}
	}
	return nil
}

// merge writes what stands behind "<<": a mapping, an alias of one, or a list of those.
func (c *converter) merge(n *yaml.Node, written map[string]bool, depth int, list bool) *fault {
	if f := c.spend(n); f != nil {
		return f
	}
	at := n
	if n.Kind == yaml.AliasNode {
		leave, f := c.enter(n)
		if f != nil {
			return f
		}
		defer leave()
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.MappingNode:
		return c.mapping(n, written, depth)
	case n.Kind == yaml.SequenceNode && list:
		for _, item := range n.Content {
			if f := c.merge(item, written, depth, false); f != nil {
				return f
			}
		}
		return nil
	}
	return faultAt(at, "<< wants a mapping or a list of mappings")
}

func isMerge(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge" }

// keyOf is the text of a key. JSON knows keys of text only, so 1 and "1" are the same key.
func keyOf(n *yaml.Node) (string, *fault) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", faultAt(n, "a key that is not a scalar")
	}
	switch n.ShortTag() {
	case "!!str", "!!bool", "!!timestamp":
		return n.Value, nil
	case "!!int", "!!float":
		text, rule := number(n)
		if rule != "" {
			return "", faultAt(n, rule)
		}
		return text, nil
	case "!!null":
		return "", faultAt(n, "a key that is null")
	}
	return "", faultAt(n, ruleTag)
}

func (c *converter) scalar(n *yaml.Node) *fault {
	switch n.ShortTag() {
	case "!!null":
		c.out = append(c.out, "null"...)
	case "!!bool":
		var b bool
		if n.Decode(&b) != nil {
			return faultAt(n, ruleTag)
		}
		c.out = strconv.AppendBool(c.out, b)
	case "!!int", "!!float":
		text, rule := number(n)
		if rule != "" {
			return faultAt(n, rule)
		}
		c.out = append(c.out, text...)
	case "!!str", "!!timestamp", "!!merge":
		c.out = appendString(c.out, n.Value)
	case "!!binary": // encoding/json has base64 for bytes, too
		c.out = appendString(c.out, strings.Join(strings.Fields(n.Value), ""))
	default:
		return faultAt(n, ruleTag)
	}
	return nil
}

// number is a number of YAML as one of JSON, or the rule that is broken. What JSON can read is passed on
// as it is, digit for digit: through a float64 a large integer would lose its end.
func number(n *yaml.Node) (text, rule string) {
	if digits := strings.TrimLeft(n.Value, "+-"); len(digits) > 1 && digits[0] == '0' && (digits[1] == '_' || isDigit(digits[1])) {
		return "", "a number with a leading zero: quote it, or write 0o for octal"
	}
	if isJSONNumber(n.Value) {
		return n.Value, ""
	}
	var v any
	if n.Decode(&v) != nil {
		return "", ruleTag
	}
	switch v := v.(type) {
	case int:
		return strconv.Itoa(v), ""
	case int64:
		return strconv.FormatInt(v, 10), ""
	case uint64:
		return strconv.FormatUint(v, 10), ""
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", "not a finite number"
		}
		if digits := strings.TrimPrefix(strings.ReplaceAll(n.Value, "_", ""), "+"); isJSONNumber(digits) {
			return digits, ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64), ""
	}
	return "", ruleTag
}

func isJSONNumber(s string) bool {
	return s != "" && (s[0] == '-' || isDigit(s[0])) && json.Valid([]byte(s))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
