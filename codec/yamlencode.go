package codec

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// encodeYAML writes a JSON text as YAML that decodeYAML reads.
func encodeYAML(src []byte) ([]byte, *fault) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber() // digit for digit
	root, err := yamlNode(dec)
	if err != nil {
		return nil, &fault{rule: "not written as YAML"}
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if enc.Encode(root) != nil || enc.Close() != nil {
		return nil, &fault{rule: "not written as YAML"}
	}
	if _, f := countEntries(b.Bytes(), newBudget().entries); f != nil {
		return nil, &fault{rule: f.rule}
	}
	return b.Bytes(), nil
}

// yamlNode reads the next value. The text is valid and of limited depth.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if tok == '[' {
			n = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		}
		for dec.More() { // of an object keys and values take turns, as in Content
			item, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		_, err := dec.Token() // the end of it
		return n, err
	case string:
		return yamlString(tok), nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: tok.String()}, nil
	case bool:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"}
		if tok {
			n.Value = "true"
		}
		return n, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}

// yamlString is a string, in quotes where it needs them. The encoder sees to what this package would
// misread; the rest is for other readers, and against blocks of text with odd spaces.
func yamlString(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	// For YAML 1.1 these are bools, and 1:30 is a number.
	old := slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(s)) ||
		s != "" && strings.Trim(s, "0123456789:._+-") == ""
	if old || strings.ContainsFunc(s, odd) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
