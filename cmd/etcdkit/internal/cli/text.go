package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// Visible is a text that others have written as it can be shown in a line: it does nothing to a terminal.
func Visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}

// Table prints rows below a header, in columns; those of numbers are aligned at the right.
func Table(s *screen.Screen, header []string, rows [][]string) {
	widths, numbers := make([]int, len(header)), make([]bool, len(header))
	for i, h := range header {
		widths[i], numbers[i] = utf8.RuneCountInString(h), len(rows) > 0
		for _, row := range rows {
			row[i] = Visible(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
			if _, err := strconv.ParseInt(row[i], 10, 64); err != nil && row[i] != "" {
				numbers[i] = false
			}
		}
	}
	line := func(cells []string) string {
		var b strings.Builder
		for i, cell := range cells {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numbers[i] {
				b.WriteString(padding + cell)
			} else {
				b.WriteString(cell + padding)
			}
			b.WriteString("  ")
		}
		return strings.TrimRight(b.String(), " ")
	}
	s.Print(s.Paint(screen.Bold, line(header)))
	for _, row := range rows {
		s.Print(line(row))
	}
}

// Day is a day without changes of clocks.
const Day = 24 * time.Hour

// Ago is a time as people say it.
func Ago(at time.Time) string {
	d := time.Since(at)
	switch {
	case at.IsZero():
		return ""
	case d < time.Second: // also what is ahead: clocks differ
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 2*Day:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	case d < 60*Day:
		return fmt.Sprintf("%dd ago", int(d/Day))
	}
	return at.Local().Format(time.DateOnly)
}
