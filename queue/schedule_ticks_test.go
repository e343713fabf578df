package queue

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// zoneOf loads a time zone, with all its changes of the clocks.
func zoneOf(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// readTicks parses an expression that must be right.
func readTicks(t testing.TB, expression string, zone *time.Location) ticks {
	t.Helper()
	ts, err := parseTicks(expression, zone)
	if err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	return ts
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestTicksWhereTheClocksAreChanged(t *testing.T) {
	const berlin, newYork, lordHowe, cairo, apia = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"
	for _, c := range []struct {
		zone, cron, after string
		want              string // instants in the zone
	}{
		// 02:00 to 03:00 is skipped.
		{berlin, "30 2 * * *", "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"},
		{berlin, "0 2 * * *", "2026-03-28T02:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		{berlin, "0 3 * * *", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T03:00:00+02:00"},
		{berlin, "0,30 2,3 * * *", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-29T03:30:00+02:00 2026-03-30T02:00:00+02:00"},
		{berlin, "0 * * * *", "2026-03-29T00:30:00+01:00", "2026-03-29T01:00:00+01:00 2026-03-29T03:00:00+02:00 2026-03-29T04:00:00+02:00"},
		{berlin, "*/30 2 * * *", "2026-03-28T02:30:00+01:00", "2026-03-30T02:00:00+02:00 2026-03-30T02:30:00+02:00"},
		{berlin, "30 2 29 3 *", "2026-01-01T00:00:00+01:00", "2026-03-29T03:00:00+02:00 2027-03-29T02:30:00+02:00"},
		{newYork, "30 2 * * *", "2026-03-07T02:30:00-05:00", "2026-03-08T03:00:00-04:00 2026-03-09T02:30:00-04:00"},
		{newYork, "*/20 * * * *", "2026-03-08T01:40:00-05:00", "2026-03-08T03:00:00-04:00 2026-03-08T03:20:00-04:00"},
		{lordHowe, "15 2 * * *", "2026-10-03T02:15:00+10:30", "2026-10-04T02:30:00+11:00 2026-10-05T02:15:00+11:00"}, // 02:00 to 02:30
		{lordHowe, "45 2 * * *", "2026-10-03T02:45:00+10:30", "2026-10-04T02:45:00+11:00 2026-10-05T02:45:00+11:00"},
		{lordHowe, "*/15 * * * *", "2026-10-04T01:45:00+10:30", "2026-10-04T02:30:00+11:00 2026-10-04T02:45:00+11:00"},
		{cairo, "0 0 * * *", "2026-04-23T00:00:00+02:00", "2026-04-24T01:00:00+03:00 2026-04-25T00:00:00+03:00"}, // no midnight
		{apia, "0 12 * * *", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00 2011-12-31T12:00:00+14:00"}, // no 30th

		// 02:00 to 03:00 comes twice.
		{berlin, "30 2 * * *", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		{berlin, "0 3 * * *", "2026-10-24T03:00:00+02:00", "2026-10-25T03:00:00+01:00 2026-10-26T03:00:00+01:00"},
		{berlin, "0,30 2 * * *", "2026-10-25T02:10:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-26T02:00:00+01:00"},
		{berlin, "0,30 2 * * *", "2026-10-25T02:10:00+01:00", "2026-10-26T02:00:00+01:00"},
		{berlin, "0 * * * *", "2026-10-25T01:30:00+02:00", "2026-10-25T02:00:00+02:00 2026-10-25T02:00:00+01:00 2026-10-25T03:00:00+01:00"},
		{berlin, "*/30 2 * * *", "2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-25T02:00:00+01:00 2026-10-25T02:30:00+01:00 2026-10-26T02:00:00+01:00"},
		{newYork, "30 1 * * *", "2026-10-31T01:30:00-04:00", "2026-11-01T01:30:00-04:00 2026-11-02T01:30:00-05:00"}, // 01:00 to 02:00
		{newYork, "*/20 * * * *", "2026-11-01T01:40:00-04:00", "2026-11-01T01:00:00-05:00 2026-11-01T01:20:00-05:00"},
		{lordHowe, "45 1 * * *", "2026-04-04T01:45:00+11:00", "2026-04-05T01:45:00+11:00 2026-04-06T01:45:00+10:30"}, // 01:30 to 02:00
		{lordHowe, "*/15 * * * *", "2026-04-05T01:45:00+11:00", "2026-04-05T01:30:00+10:30 2026-04-05T01:45:00+10:30 2026-04-05T02:00:00+10:30"},

		// And where they are not.
		{"UTC", "30 2 * * *", "2026-03-28T02:30:00Z", "2026-03-29T02:30:00Z"},
		{"Asia/Kolkata", "0 9 * * MON-FRI", "2026-03-27T09:00:00+05:30", "2026-03-30T09:00:00+05:30"},
		{"UTC", "0 0 29 2 1", "2097-01-01T00:00:00Z", "2097-02-04T00:00:00Z"}, // either day will do
		{"UTC", "0 0 29 2 *", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"}, // 2100 has none
		{"UTC", "0 22-1/2 * * *", "2026-01-31T21:00:00Z", "2026-01-31T22:00:00Z 2026-02-01T00:00:00Z 2026-02-01T22:00:00Z"},
		{"UTC", "@monthly", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"},
		{"UTC", "@every 90m", "1970-01-01T00:00:00Z", "1970-01-01T01:30:00Z 1970-01-01T03:00:00Z"},
		{"UTC", "@every 90m", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z 1970-01-01T01:30:00Z"},
		{berlin, "0 0 1 JAN *", "2048-12-31T12:00:00+01:00", "2049-01-01T00:00:00+01:00"}, // the 366th day of a year that goes by rules
		{berlin, "0 0 1 JAN *", "2048-11-30T12:00:00+01:00", "2049-01-01T00:00:00+01:00"},
		{newYork, "30 2 * * *", "2048-12-30T02:30:00-05:00", "2048-12-31T02:30:00-05:00 2049-01-01T02:30:00-05:00"},
		{berlin, "@every 1h", "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-29T04:00:00+02:00"},
	} {
		zone := zoneOf(t, c.zone)
		ts := readTicks(t, c.cron, zone)
		at := instant(t, c.after)
		for want := range strings.FieldsSeq(c.want) {
			at = ts.next(at)
			if !at.Equal(instant(t, want)) {
				t.Errorf("%s in %s after %s: %s, want %s", c.cron, c.zone, c.after, at.In(zone).Format(time.RFC3339), want)
				break
			}
		}
	}
}

// shows are the instants of a day and a half at which a clock in the zone shows a reading of the expression, minute by minute.
func shows(t *testing.T, expression string, zone *time.Location, from time.Time) []time.Time {
	t.Helper()
	readings := readTicks(t, expression, time.UTC)
	var found []time.Time
	for at := from; at.Before(from.Add(36 * time.Hour)); at = at.Add(time.Minute) {
		local := at.In(zone)
		reading := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), 0, 0, time.UTC)
		if readings.next(reading.Add(-time.Minute)).Equal(reading) {
			found = append(found, at)
		}
	}
	return found
}

func TestAnExpressionThatIsNotFixedTicksWheneverTheClockShowsIt(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kathmandu"} {
		zone := zoneOf(t, name)
		for _, expression := range []string{"* * * * *", "*/7 * * * *", "13 * * * *", "*/15 0-3 * * *", "5 */2 * * *"} {
			ts := readTicks(t, expression, zone)
			for at := time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2019; {
				end := periodOf(at, zone).end
				if end.IsZero() || end.Year() > 2018 {
					break
				}
				from := end.Add(-18 * time.Hour).Truncate(time.Minute)
				tick := from.Add(-1)
				for _, want := range shows(t, expression, zone, from) {
					if tick = ts.next(tick); !tick.Equal(want) {
						t.Fatalf("%s in %s: %v, want %v", expression, name, tick.In(zone), want.In(zone))
					}
				}
				at = end
			}
		}
	}
}

func TestBadExpressionsAreRefusedWithTheRuleTheyBreak(t *testing.T) {
	for expression, want := range map[string]error{
		"":                              errCronEmpty,
		"  ":                            errCronEmpty,
		"* * * *":                       errCronFields,
		"0 0 * * * *":                   errCronFields,
		"@reboot":                       errCronFields,
		"TZ=Europe/Berlin 0 0 * * *":    errCronZone,
		"CRON_TZ=UTC 0 0 * * *":         errCronZone,
		"@every":                        errCronEvery,
		"@every 0":                      errCronEvery,
		"@every -1s":                    errCronEvery,
		"@every 9ms":                    errCronEvery,
		"@every 10500us":                errCronEvery,
		"@every soon":                   errCronEvery,
		"0 0 31 2 *":                    errCronNever,
		"0 0 30 2 *":                    errCronNever,
		"0 0 31 4,6,9,11 *":             errCronNever,
		strings.Repeat("0", 300):        errCronLong,
		"61 * * * *":                    nil,
		"* 24 * * *":                    nil,
		"* * 0 * *":                     nil,
		"* * * 13 *":                    nil,
		"* * * * 8":                     nil,
		"*/0 * * * *":                   nil,
		"a b c d e":                     nil,
		"H * * * *":                     nil,
		"0 0 L * *":                     nil,
		"\x00 * * * *":                  nil,
		"77-1 * * * *":                  nil,
		"* 59-5 * * *":                  nil,
		", * * * *":                     nil,
		"5, * * * *":                    nil,
		"*- * * * *":                    nil,
		"? * * * *":                     nil,
		"-1 * * * *":                    nil,
		"99999999999999999999 * * * * ": nil,
	} {
		_, err := parseTicks(expression, time.UTC)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", expression, err, want)
		}
	}
}

func FuzzTicks(f *testing.F) {
	for _, s := range []string{"30 2 * * *", "*/7 1-3 29 2 MON", "@every 1h30m", "@weekly", "0 0 31 2 *", "TZ=UTC * * * * *", "* * ? * *", "0 0 1-31/2 JAN-DEC 1#2", "*/99999 * * * *"} {
		f.Add(s, int64(1_790_000_000), uint8(1))
	}
	zones := []*time.Location{time.UTC, zoneOf(f, "Europe/Berlin"), zoneOf(f, "Australia/Lord_Howe"), zoneOf(f, "Pacific/Apia")}
	f.Fuzz(func(t *testing.T, expression string, after int64, zone uint8) {
		ts, err := parseTicks(expression, zones[int(zone)%len(zones)])
		if err != nil {
			return
		}
		at := time.Unix(after%(1<<34), 0)
		for range 20 {
			next := ts.next(at)
			if next.IsZero() {
				break
			}
			if !next.After(at) {
				t.Fatalf("%q: %v after %v", expression, next, at)
			}
			at = next
		}
	})
}
