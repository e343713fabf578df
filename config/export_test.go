package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/codec"
)

// header is what every export begins with.
const header = "# a comment\netcdkit: config/1\nprefix: \"/config/prod\"\nrevision: 42\n"

func TestAValueIsExportedAsTextThatReadsBackToTheByte(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"info", "value: \"info\"\n"},
		{"8080", "value: \"8080\"\n"},
		{"", "value: \"\"\n"},
		{"\n\n", "value: \"\\n\\n\"\n"},
		{`{"rate":100}`, "value: |-\n  {\"rate\":100}\n"},
		{"rate: 100\nburst: 5\n", "value: |\n  rate: 100\n  burst: 5\n"},
		{"a\n\n  b\n\n\n", "value: |+\n  a\n\n    b\n\n\n"},
		{" a\nb", "value: |2-\n   a\n  b\n"},
		{"\n a\nb", "value: |2-\n\n   a\n  b\n"},
		{"---\nkey: x\n...\n", "value: |\n  ---\n  key: x\n  ...\n"},
		{"tab\tand é and # no comment\n", "value: |\n  tab\tand é and # no comment\n"},
		{"a\r\nb", "base64: \"YQ0KYg==\"\n"},
		{"\x00\xff", "base64: \"AP8=\"\n"},
		{"\ufeffa: 1", "base64: \"77u/YTogMQ==\"\n"},
	} {
		document := encodeExport("a/b", []byte(c.value))
		if string(document) != "---\nkey: \"a/b\"\n"+c.want {
			t.Errorf("%q is exported as\n%s", c.value, document)
		}
	}
}

func roundTrip(t *testing.T, values ...[]byte) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(header)
	for i, v := range values {
		b.Write(encodeExport(fmt.Sprintf("k%d", i), v))
	}
	text := b.Bytes()
	for name, text := range map[string][]byte{"as it is": text, "with other ends of lines": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
		h, entries, err := decodeExport(bytes.NewReader(text))
		if err != nil || len(entries) != len(values) || h.Prefix != "/config/prod" || h.Revision != 42 {
			t.Fatalf("%s: %v, %d entries of\n%.500s", name, err, len(entries), text)
		}
		for i, e := range entries {
			if e.Key != fmt.Sprintf("k%d", i) || !bytes.Equal(e.Value, values[i]) || e.Value == nil {
				t.Fatalf("%s: %.100q is read as %.100q of %q", name, values[i], e.Value, e.Key)
			}
		}
	}
}

func TestTheLargestValuesOfAllKindsAreExported(t *testing.T) {
	var values [][]byte
	for _, unit := range []string{"a", "\n", "a\n", " \n", "\x00", "é", "\t", "# ", "- a\n"} {
		values = append(values, bytes.Repeat([]byte(unit), MaxPublished/len(unit)))
	}
	roundTrip(t, values...)
}

func TestAnImportThatIsMalformedNamesTheLine(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"", "does not begin"},
		{"# nothing\n", "does not begin"},
		{"etcdkit: config/2\nprefix: a\n", `does not begin with "etcdkit: config/1"`},
		{"etcdkit: config/1\nprefix: a//b\n", "empty segment"},
		{"etcdkit: config/1\n", "it is empty"},
		{header + "---\nkey: a\nvalue: 8080\n", "line 7"},
		{header + "---\nkey: a\n", "line 6: it needs one of"},
		{header + "---\nkey: a\nvalue: b\nbase64: Yg==\n", "it needs one of"},
		{header + "---\nkey: a\nbase64: Yg\n", "base64 is malformed"},
		{header + "---\nkey: a\nvalue: x\nother: y\n", "line 8"},
		{header + "---\nkey: a\nvalue: x\n---\n# twice\nkey: a\nvalue: x\n", "line 9: its key was there before"},
		{header + "---\nkey: a/../b\nvalue: x\n", `".."`},
		{header + "---\nkey: /a/\nvalue: x\n", "ends in a slash"},
		{header + "---\nkey: a\nvalue: " + strings.Repeat("x", MaxPublished+1), "716801 bytes"},
		{header + "---\nkey: a\nvalue: " + strings.Repeat("x", codec.MaxSize), "the document is config: value too large"},
	} {
		_, _, err := decodeExport(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 300 {
			t.Errorf("%.80q: %v, want %q", c.text, err, c.says)
		}
	}
	broken := errors.New("broken")
	if _, _, err := decodeExport(failing{broken}); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func FuzzImport(f *testing.F) {
	f.Add([]byte(header + "---\nkey: \"a\"\nvalue: |2-\n   x\n---\nkey: b\nbase64: \"AP8=\"\n"))
	f.Add([]byte(header + "---\n---\nkey: &a [*a]\nvalue: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, entries, err := decodeExport(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Value == nil || len(e.Value) > MaxPublished {
				t.Errorf("an entry of %q", text)
			}
		}
	})
}

func FuzzExport(f *testing.F) {
	f.Add([]byte("a\n  b\n"))
	f.Add([]byte(" \t\n---\n\n"))
	f.Add([]byte("\u2028\u0085\x1b"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) <= MaxPublished {
			roundTrip(t, append([]byte{}, value...))
		}
	})
}
