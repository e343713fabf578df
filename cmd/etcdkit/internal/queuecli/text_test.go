package queuecli

import "testing"

func TestATextIsCutToAWidthWithoutHarm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 5, ""},
		{"abcde", 5, "abcde"},
		{"abcdef", 5, "abcd…"},
		{"äöü€x", 5, "äöü€x"},
		{"a\nb", 4, `a\nb`},
		{"abc\nd", 5, `abc…`},
		{"abc\n", 5, `abc\n`},
		{"\x1b[2J", 40, `\x1b[2J`},
		{"\xff\x00", 40, `\xff\x00`},
		{"\u202e", 40, `\u202e`},
		{"it's \"{}\"\\", 40, "it's \"{}\"\\"},
		{"a", 0, "…"},
	} {
		if got := cut(c.text, c.width); got != c.want {
			t.Errorf("%q at %d is %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
