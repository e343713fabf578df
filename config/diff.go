package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
)

// Diff is what differs between two documents. It shows what is in them: that is what it is for. Sealed text is shown as sealed only.
type Diff struct {
	Key  string  // empty for documents of no key
	A, B Version // without values; zero for documents of no version

	// Same says that the documents are the same, to the byte, or that neither exists.
	Same bool

	// Format is that of both documents, "json", "yaml" or "toml", if they parse to more than a scalar; else it is empty.
	Format string

	// Paths are the places of documents with a format that differ, in order. There are none if all that differs is how the same is
	// written.
	Paths []PathChange

	// Lines are the changed lines with some of those around them.
	Lines []DiffLine
}

// PathChange is a place in a structured document that differs.
type PathChange struct {
	Path     string // as limits.rate or peers[2]
	Old, New string // as JSON; empty if there was nothing, or is nothing
}

// DiffLine is a line of a diff.
type DiffLine struct {
	Op   byte // ' ', '-' or '+'; '@' for the place of those that follow, '\\' for a remark
	Text string
}

// DiffValues returns what differs between two documents, of which nil is one that does not exist.
func DiffValues(a, b []byte) Diff {
	if (a == nil) == (b == nil) && bytes.Equal(a, b) {
		return Diff{Same: true}
	}
	var d Diff
	for _, f := range diffFormats {
		x, isA := f.parse(a)
		y, isB := f.parse(b)
		if isA && isB {
			d.Format = f.name
			d.Paths = diffTrees(nil, "", x, y)
			break
		}
	}
	d.Lines = diffTexts(a, b)
	return d
}

// String is a unified diff; empty if nothing differs.
func (d Diff) String() string {
	if d.Same {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", d.title(d.A), d.title(d.B))
	for _, l := range d.Lines {
		if l.Op == '@' {
			b.WriteString(l.Text + "\n")
			continue
		}
		fmt.Fprintf(&b, "%c%s\n", l.Op, l.Text)
	}
	return b.String()
}

// title names a document.
func (d Diff) title(v Version) string {
	if v.Number == 0 {
		return cmp.Or(d.Key, "document")
	}
	title := fmt.Sprintf("%s version %d, %s", d.Key, v.Number, v.Kind)
	if v.Author != "" {
		title += " by " + v.Author
	}
	return title
}

// diffFormats are those in which places can be named, in the order in which they are tried.
var diffFormats = []diffFormat{
	{"json", codec.JSON[diffTree]()},
	{"yaml", codec.YAML[diffTree]()},
	{"toml", codec.TOML[diffTree]()},
}

type diffFormat struct {
	name  string
	codec codec.Codec[diffTree]
}

// parse reads a document that is more than a scalar.
func (f diffFormat) parse(document []byte) (any, bool) {
	t, err := f.codec.Decode(document)
	if err != nil {
		return nil, false
	}
	switch t.root.(type) {
	case map[string]any, []any:
		return t.root, true
	}
	return nil, false
}

// diffTree is any document. Numbers keep their digits.
type diffTree struct{ root any }

// UnmarshalJSON reads any JSON.
func (t *diffTree) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode(&t.root)
}

// diffTrees appends the places at or below path in which two trees differ.
func diffTrees(to []PathChange, path string, a, b any) []PathChange {
	switch x := a.(type) {
	case map[string]any:
		y, same := b.(map[string]any)
		if !same {
			break
		}
		all := maps.Clone(x)
		maps.Copy(all, y)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			at := pathOf(path, k)
			old, was := x[k]
			now, is := y[k]
			switch {
			case !was:
				to = append(to, PathChange{Path: at, New: shownTree(now)})
			case !is:
				to = append(to, PathChange{Path: at, Old: shownTree(old)})
			default:
				to = diffTrees(to, at, old, now)
			}
		}
		return to
	case []any:
		y, same := b.([]any)
		if !same {
			break
		}
		for i := range max(len(x), len(y)) {
			at := path + "[" + strconv.Itoa(i) + "]"
			switch {
			case i >= len(x):
				to = append(to, PathChange{Path: at, New: shownTree(y[i])})
			case i >= len(y):
				to = append(to, PathChange{Path: at, Old: shownTree(x[i])})
			default:
				to = diffTrees(to, at, x[i], y[i])
			}
		}
		return to
	default:
		if same := a == b; same { // nil, a bool, a string or a number; anything of another type is not the same
			return to
		}
	}
	return append(to, PathChange{Path: cmp.Or(path, "."), Old: shownTree(a), New: shownTree(b)})
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// pathOf is the path of a member.
func pathOf(path, name string) string {
	switch {
	case !plainName.MatchString(name):
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// shownTree is a value as JSON, without what is sealed.
func shownTree(v any) string {
	text, err := marshal(veiledTree(v))
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(text), "\n")
}

// veiledTree is a value without what is sealed.
func veiledTree(v any) any {
	switch x := v.(type) {
	case string:
		return veiled(x)
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = veiledTree(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = veiledTree(e)
		}
		return out
	}
	return v
}

const (
	// sealedMark is what sealed text begins with, see package codec.
	sealedMark = "etcdkit:sealed:"

	// sealedShown is what is shown of it.
	sealedShown = "(sealed)"
)

// sealedText is sealed text among other.
var sealedText = regexp.MustCompile(regexp.QuoteMeta(sealedMark) + `[^\s"'` + "`" + `,;\\\]\[(){}<>]*`)

// veiled is text without what is sealed.
func veiled(text string) string {
	switch {
	case strings.HasPrefix(text, sealedMark):
		return sealedShown
	case !strings.Contains(text, sealedMark):
		return text
	}
	return sealedText.ReplaceAllLiteralString(text, sealedShown)
}
