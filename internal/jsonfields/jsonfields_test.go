package jsonfields_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/etcdkit/etcdkit/internal/jsonfields"
)

// Of is tested in package codec, against encoding/json.

func TestNamesAreFoldedAlikeIfTheyAreEqualWithoutCase(t *testing.T) {
	t.Parallel()
	fold := func(s string) string { return string(jsonfields.AppendFold(nil, s)) }
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r == 0xd800 {
			r = 0xe000 // surrogates are no text
		}
		s := string(r)
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			if fold(s) != fold(string(other)) {
				t.Fatalf("%q and %q differ", s, string(other))
			}
		}
		if !strings.EqualFold(s, fold(s)) {
			t.Fatalf("%q became %q", s, fold(s))
		}
	}
	for a, b := range map[string]string{"URL": "url", "ſtraße": "STRAßE", "\u212a": "k"} {
		if fold(a) != fold(b) {
			t.Errorf("%q and %q differ", a, b)
		}
	}
	if fold("a_b") == fold("ab") || fold("i") == fold("ı") {
		t.Error("names that differ are folded alike")
	}
}
