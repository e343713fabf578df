package queue

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

const (
	// leastEvery bounds @every from below: each tick is a transaction.
	leastEvery = 10 * time.Millisecond

	// longestCron bounds an expression, which may come from a configuration.
	longestCron = 256

	// horizon is how many years ahead a tick is looked for. Some days are rare: from one 29th of February on a Monday to the next
	// it can be 40 years.
	horizon = 100
)

var (
	errCronEmpty  = errors.New("it is empty")
	errCronLong   = fmt.Errorf("it is longer than %d bytes", longestCron)
	errCronFields = errors.New("it must have five fields (minute, hour, day of month, month, day of week), or be @every and a duration, or one of " +
		"@yearly, @monthly, @weekly, @daily and @hourly")
	errCronZone  = errors.New("the time zone is ScheduleOptions.Location, and no part of it")
	errCronEvery = fmt.Errorf("@every needs a duration of whole milliseconds, %v at least", leastEvery)
	errCronNever = fmt.Errorf("there is no such day: it does not come in %d years", horizon)
)

// shorthands are what the names for common expressions mean.
var shorthands = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

// fieldForm is what a field looks like.
var fieldForm = regexp.MustCompile(`^(\*|(\d{1,2}|[A-Za-z]{3})(-(\d{1,2}|[A-Za-z]{3}))?)(/\d{1,2})?(,(\*|(\d{1,2}|[A-Za-z]{3})(-(\d{1,2}|[A-Za-z]{3}))?)(/\d{1,2})?)*$`)

var (
	fieldSteps  = regexp.MustCompile(`/\d+`)
	fieldDigits = regexp.MustCompile(`\d+`)

	// fieldBounds are the least and the greatest number of each field.
	fieldBounds = [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 7}}
)

// checkField refuses what the library takes and should not: a comma alone, or a range from beyond the end, which name nothing. To look
// for that lasts.
func checkField(i int, field string) error {
	if !fieldForm.MatchString(field) {
		return fmt.Errorf("the field %q is not *, numbers, ranges and lists, with steps", field)
	}
	for _, digits := range fieldDigits.FindAllString(fieldSteps.ReplaceAllString(field, ""), -1) {
		n, _ := strconv.Atoi(digits) // two digits
		if b := fieldBounds[i]; n < b[0] || n > b[1] {
			return fmt.Errorf("the field %q must be from %d to %d", field, b[0], b[1])
		}
	}
	return nil
}

// parser reads five fields as every cron does: if days of the month and of the week are both given, either will do.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom).WithMaxSearchYears(horizon)

// ticks are the instants that an expression names in a time zone.
type ticks struct {
	every time.Duration // if it is @every: the multiples of it since 1970

	// The library is asked about readings of a clock, written as if they were UTC, and never sees a time zone: what becomes of
	// the readings that a zone skips or repeats is decided here.
	readings cron.Schedule
	zone     *time.Location
	follows  bool // every reading is a tick, as often as the clock shows it: the minute or the hour is not fixed
}

// parseTicks reads an expression.
func parseTicks(expression string, zone *time.Location) (ticks, error) {
	t := ticks{zone: zone}
	if len(expression) > longestCron {
		return t, errCronLong
	}
	expression = strings.TrimSpace(expression)
	if every, ok := strings.CutPrefix(expression, "@every"); ok {
		d, err := time.ParseDuration(strings.TrimSpace(every))
		if err != nil || d < leastEvery || d%time.Millisecond != 0 {
			return t, errCronEvery
		}
		t.every = d
		return t, nil
	}
	if long, ok := shorthands[strings.ToLower(expression)]; ok {
		expression = long
	}
	fields := strings.Fields(expression)
	switch {
	case len(fields) == 0:
		return t, errCronEmpty
	case strings.Contains(expression, "TZ="):
		return t, errCronZone
	case len(fields) != 5:
		return t, errCronFields
	}
	for i, field := range fields {
		if err := checkField(i, field); err != nil {
			return t, err
		}
	}
	readings, err := parser.Parse(strings.Join(fields, " "))
	if err != nil {
		return t, err
	}
	t.readings = readings
	t.follows = strings.HasPrefix(fields[0], "*") || strings.HasPrefix(fields[1], "*")
	if t.next(time.Now()).IsZero() {
		return t, errCronNever
	}
	return t, nil
}

// next returns the first tick after an instant, in UTC; zero if there is none within the horizon.
func (t ticks) next(after time.Time) time.Time {
	if t.every > 0 {
		step := t.every.Milliseconds()
		n := after.UnixMilli() / step
		for n*step <= after.UnixMilli() { // twice for times before 1970
			n++
		}
		return time.UnixMilli(n * step).UTC()
	}
	return t.nextReading(after.UTC())
}

// nextReading goes through the zone's periods of constant offset, from one change of the clocks to the next, until the reading
// that is looked for is shown in one.
func (t ticks) nextReading(after time.Time) time.Time {
	p := periodOf(after, t.zone)
	from := after.Add(p.offset)
	if !t.follows {
		// What the clock showed before it was put back is over.
		before := p.before(t.zone)
		if shown := p.start.Add(before); !p.start.IsZero() && !from.After(shown.Add(-time.Second)) {
			from = shown.Add(-time.Second) // the library's answers are later, by a second at least
		}
	}
	reading := t.readings.Next(from)
	for !reading.IsZero() {
		if tick := reading.Add(-p.offset); p.end.IsZero() || tick.Before(p.end) {
			return tick
		}
		change, stops := p.end, p.end.Add(p.offset) // the clock is never seen to show stops, and goes on at resumes
		p = periodOf(change, t.zone)
		resumes := change.Add(p.offset)
		switch {
		case resumes.After(stops) && reading.Before(resumes) && !t.follows:
			return change // in place of all that was skipped
		case resumes.After(stops) && reading.Before(resumes),
			resumes.Before(stops) && t.follows:
			reading = t.readings.Next(resumes.Add(-time.Second))
		}
	}
	return time.Time{}
}

// period is a time in which the offset of a zone stays what it is. Either end may be missing.
type period struct {
	start, end time.Time // UTC
	offset     time.Duration
}

// periodOf returns the period that an instant is in.
func periodOf(at time.Time, zone *time.Location) period {
	local := at.In(zone)
	start, end := local.ZoneBounds()
	p := period{offset: offsetOf(local)}
	if !start.IsZero() {
		p.start = start.UTC()
	}
	if !end.IsZero() {
		p.end = end.UTC()
	}
	if !end.IsZero() && !end.After(at) {
		// Where a zone goes by rules, ZoneBounds takes a year for 365 days. On the last day of a leap year the end is behind.
		p.end = at.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	}
	return p
}

// before is the offset until the period's start.
func (p period) before(zone *time.Location) time.Duration {
	if p.start.IsZero() {
		return p.offset
	}
	return offsetOf(p.start.Add(-1).In(zone))
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}
