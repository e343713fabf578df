package configcli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

// visible is a text that others have written as it can be shown in a line: it does nothing to a terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}

// table prints rows below a header, in columns; those of numbers are aligned at the right.
func table(s *screen.Screen, header []string, rows [][]string) {
	widths, numbers := make([]int, len(header)), make([]bool, len(header))
	for i, h := range header {
		widths[i], numbers[i] = utf8.RuneCountInString(h), len(rows) > 0
		for _, row := range rows {
			row[i] = visible(row[i])
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

const day = 24 * time.Hour

// ago is a time as people say it.
func ago(at time.Time) string {
	d := now().Sub(at)
	switch {
	case at.IsZero():
		return ""
	case d < time.Second: // also what is ahead: clocks differ
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	case d < 60*day:
		return fmt.Sprintf("%dd ago", int(d/day))
	}
	return at.Local().Format(time.DateOnly)
}

// parseTime reads a time as people write it: RFC 3339, a date and a time of here, or how long ago.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	long := strings.TrimSpace(strings.TrimSuffix(text, "ago"))
	if days, ok := strings.CutSuffix(long, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now().Add(-time.Duration(n) * day), nil
		}
	}
	if d, err := time.ParseDuration(long); err == nil && d >= 0 {
		return now().Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("time %q: write 2026-05-17T14:30:00Z, \"2026-05-17 14:30\" or how long ago, as 90m or 3d", text)
}

// described is a version in words.
func described(v config.Version) string {
	text := fmt.Sprintf("version %d at revision %d, %s", v.Number, v.Revision, v.Kind)
	if v.Author != "" {
		text += " by " + visible(v.Author)
	}
	if when := ago(v.Time); when != "" {
		text += " " + when
	}
	if v.Reason != "" {
		text += ": " + visible(v.Reason)
	}
	return text
}

// remarks is what else there is to say of a version.
func remarks(v config.Version) string {
	var notes []string
	add := func(on bool, format string, args ...any) {
		if on {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	add(v.Of > 0, "to version %d", v.Of)
	add(v.Rollout != "", "rollout %s", v.Rollout)
	add(v.Missed == 1, "a change before it is not known")
	add(v.Missed > 1, "%d changes before it are not known", v.Missed)
	add(v.Omitted, "too large to be kept")
	add(v.Gone() && v.Kind != config.Deleted, "the key was gone")
	text := strings.Join(notes, "; ")
	if v.Reason != "" && text != "" {
		return v.Reason + " (" + text + ")"
	}
	return v.Reason + text
}
