package queuecli

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// cut is a text that others have written, in one line and cut off at a width. It does nothing to a terminal: what cannot be seen is escaped.
func cut(text string, width int) string {
	var b strings.Builder
	used := 0
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		piece := text[i : i+n]
		switch {
		case r == utf8.RuneError && n == 1:
			piece = `\x` + strconv.FormatUint(uint64(text[i])+0x100, 16)[1:]
		case !strconv.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRune(r), "'")
		}
		columns := utf8.RuneCountInString(piece)
		// The mark needs a column, unless this is the end of the text.
		if used+columns > width || used+columns == width && i+n < len(text) {
			return b.String() + "…"
		}
		b.WriteString(piece)
		used += columns
		i += n
	}
	return b.String()
}

const (
	// leastItem is how much of an item is shown however wide the rest is.
	leastItem = 20

	// wideItem is how much of it is shown where nobody is looking, and a line has no end.
	wideItem = 200

	// between is how many columns are between two of a table.
	between = 2
)

// table prints rows of which the last column is what is left of a line.
func (u *use) table(header []string, rows [][]string) {
	last, left := len(header)-1, wideItem
	if u.Out.Moving() {
		left = u.Out.Width()
		for i, h := range header[:last] {
			width := utf8.RuneCountInString(h)
			for _, row := range rows {
				width = max(width, utf8.RuneCountInString(row[i]))
			}
			left -= width + between
		}
		left = max(left, leastItem)
	}
	for _, row := range rows {
		row[last] = cut(row[last], left)
	}
	cli.Table(u.Out, header, rows)
}
