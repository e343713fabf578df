package cli

import (
	"fmt"
	"time"
)

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
