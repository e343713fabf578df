package configcli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/config"
)

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
			return now().Add(-time.Duration(n) * cli.Day), nil
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
		text += " by " + cli.Visible(v.Author)
	}
	if when := cli.Ago(v.Time); when != "" {
		text += " " + when
	}
	if v.Reason != "" {
		text += ": " + cli.Visible(v.Reason)
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
