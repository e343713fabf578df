package config

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/codec"
)

// exportFormat is the first thing that an export says.
const exportFormat = "config/1"

// exportHeader is the first document of an export.
type exportHeader struct {
	Format   string `json:"etcdkit"`
	Prefix   string `json:"prefix"`
	Revision int64  `json:"revision"`
}

// exportKey is one of the documents that follow: a key, below the prefix, with its value as text or, if it is none, as base64.
type exportKey struct {
	Key    string  `json:"key"`
	Value  *string `json:"value"`
	Base64 *string `json:"base64"`
}

var (
	exportHeaders = codec.YAML[exportHeader]()
	exportKeys    = codec.Document[exportKey]{Format: codec.FormatYAML, Strict: true}
)

// Export writes the keys below a prefix, as of one revision, as text for people and for version control: YAML documents, a header and one for
// each key, in the order of their names. Equal keys make equal text, but for the revision. [Store.Import] reads it. The empty prefix is
// the environment.
//
// Nothing is written if there is a key among them that Import would refuse: by its name, or as [ErrTooLarge].
func (s *Store) Export(ctx context.Context, prefix string, w io.Writer) error {
	below, err := s.prefix(prefix)
	if err != nil {
		return err
	}
	l, err := s.list(ctx, below, 0)
	if err != nil {
		return err
	}
	for _, e := range l.Entries {
		if _, err := s.layout(e.Key); err != nil {
			return err
		}
		if len(e.Value) > MaxPublished {
			return fmt.Errorf("config %q: %w: %d bytes, at most %d", e.Key, ErrTooLarge, len(e.Value), MaxPublished)
		}
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# Configuration, as of one revision. To be read by: etcdkit config import\netcdkit: %s\nprefix: %s\nrevision: %d\n",
		exportFormat, quotedYAML(strings.TrimSuffix(below, "/")), l.Revision)
	for _, e := range l.Entries {
		b.Write(encodeExport(strings.TrimPrefix(e.Key, below), e.Value)) //nolint:errcheck // Flush returns it
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("config: export: %w", err)
	}
	return nil
}

// encodeExport is the document of one key, with the line that parts it from the one before. Text is written as text if it is sure to be read
// as what it is.
func encodeExport(name string, value []byte) []byte {
	key := "key: " + quotedYAML(name) + "\n"
	if isExportable(value) {
		document := key + "value: " + textYAML(string(value))
		if k, err := exportKeys.Decode([]byte(document)); err == nil && k.Key == name && k.Value != nil && *k.Value == string(value) {
			return []byte("---\n" + document)
		}
	}
	return []byte("---\n" + key + "base64: " + quotedYAML(base64.StdEncoding.EncodeToString(value)) + "\n")
}

// isExportable reports whether a value is text that survives editors, and version control that changes the ends of lines.
func isExportable(value []byte) bool {
	return utf8.Valid(value) && !strings.ContainsFunc(string(value), func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || r == '\u2028' || r == '\u2029' || r == '\ufeff'
	})
}

var plainText = regexp.MustCompile(`^[A-Za-z0-9 ._:/,+-]{0,80}$`)

// textYAML is a text, as a string on a line or as a block of lines.
func textYAML(text string) string {
	if plainText.MatchString(text) || strings.Trim(text, "\n") == "" {
		return quotedYAML(text) + "\n"
	}
	mark := "|"
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.HasPrefix(text, "\t") {
		mark += "2" // else the indentation would be taken from the text
	}
	switch {
	case !strings.HasSuffix(text, "\n"):
		mark += "-"
		text += "\n"
	case strings.HasSuffix(text, "\n\n"):
		mark += "+"
	}
	var b strings.Builder
	b.WriteString(mark + "\n")
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// quotedYAML is a string in quotes, which JSON's are to YAML too.
func quotedYAML(text string) string {
	quoted, err := marshal(text)
	if err != nil { // there is no string that JSON does not take
		panic(err)
	}
	return strings.TrimSuffix(string(quoted), "\n")
}
