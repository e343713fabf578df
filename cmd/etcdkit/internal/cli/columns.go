package cli

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

const (
	// leastColumn is how narrow a column becomes at the least, and gap what is between two.
	leastColumn = 6
	gap         = 2
)

// Table prints rows below a header, in columns; those of numbers are aligned at the right.
func Table(s *screen.Screen, header []string, rows [][]string) {
	all := make([]int, len(header))
	for i := range all {
		all[i] = i
	}
	printTable(s, lay(0, all, header, rows))
}

// Fitted prints rows in columns that fit the terminal, as [Columns] lays them out; where there is none nothing is cut off.
func Fitted(s *screen.Screen, header []string, rows [][]string, whole ...string) {
	width, _ := s.Size()
	printTable(s, Columns(width, header, rows, whole...))
}

func printTable(s *screen.Screen, lines []string) {
	s.Print(s.Paint(screen.Bold, lines[0]))
	for _, line := range lines[1:] {
		s.Print(line)
	}
}

// Columns lays rows out below a header as [Table] does, and returns the lines, the header's first. If they are wider than width, the
// widest columns are cut off, but for those named whole, which somebody may want to copy; 0 is no bound. Columns in which no row has
// anything are left out, but for the first.
func Columns(width int, header []string, rows [][]string, whole ...string) []string {
	var kept []int
	for i := range header {
		if i == 0 || len(rows) == 0 || slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			kept = append(kept, i)
		}
	}
	return lay(width, kept, header, rows, whole...)
}

// lay lays out the columns that are kept.
func lay(width int, kept []int, header []string, rows [][]string, whole ...string) []string {
	widths, numbers := make([]int, len(header)), make([]bool, len(header))
	for _, i := range kept {
		widths[i], numbers[i] = utf8.RuneCountInString(header[i]), len(rows) > 0
		for _, row := range rows {
			row[i] = Visible(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
			if _, err := strconv.ParseInt(row[i], 10, 64); err != nil && row[i] != "" {
				numbers[i] = false
			}
		}
	}
	if width > 0 {
		narrow(widths, kept, width, func(i int) bool { return slices.Contains(whole, header[i]) })
	}
	lines := make([]string, 0, len(rows)+1)
	for _, row := range append([][]string{header}, rows...) {
		var b strings.Builder
		for _, i := range kept {
			cell := screen.Cut(row[i], widths[i])
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numbers[i] {
				b.WriteString(padding + cell)
			} else {
				b.WriteString(cell + padding)
			}
			b.WriteString(strings.Repeat(" ", gap))
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// narrow takes from the widest columns that may be cut until all fit.
func narrow(widths, kept []int, width int, whole func(i int) bool) {
	total := -gap
	for _, i := range kept {
		total += widths[i] + gap
	}
	for ; total > width; total-- {
		widest := -1
		for _, i := range kept {
			if !whole(i) && widths[i] > leastColumn && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// Visible is a text that others have written as it can be shown in a line: what cannot be seen, does something to a terminal, or turns
// what follows it about, is a space.
func Visible(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}
