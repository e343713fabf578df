package retry

import (
	"os"
	"strings"
	"testing"
)

// The guide has a table of every error, for people. It names those that the table in classify.go has, under what they are.
func TestTheGuideNamesEveryErrorUnderWhatItIs(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/connecting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(guide), "## Every error of etcd")
	if !found {
		t.Fatal("the guide has no table of errors")
	}
	sections := map[class]string{}
	for part := range strings.SplitSeq(table, "\n**") {
		switch {
		case strings.HasPrefix(part, "Transient:"):
			sections[transient] += part
		case strings.HasPrefix(part, "Ambiguous:"):
			sections[ambiguous] += part
			sections[futile] += part
		case strings.HasPrefix(part, "Permanent"), strings.HasPrefix(part, "Administration"):
			sections[permanent] += part
		}
	}
	for text, row := range etcdErrors {
		named := "`" + text + "`"
		if variant, ok := strings.CutPrefix(text, "etcdserver: request timed out"); ok {
			named = "`" + variant + "`"
			if variant == "" {
				named = "`" + text + "`"
			}
		}
		if !strings.Contains(sections[row.class], named) {
			t.Errorf("%q is not named where it belongs", text)
		}
	}
}
