package queue

import (
	"slices"
	"testing"
	"time"
)

func TestWhatIsDue(t *testing.T) {
	const hourly = "0 * * * *"
	for _, c := range []struct {
		name      string
		cron      string
		how       late
		last, now string
		fire      []string
		pass      string
		left      string
		next      string
	}{
		{
			name: "nothing", cron: hourly, how: late{MissedSkip, time.Minute, 1000},
			last: "10:00:00", now: "10:59:59", next: "11:00:00",
		},
		{
			name: "at the tick", cron: hourly, how: late{MissedSkip, time.Minute, 1000},
			last: "10:00:00", now: "11:00:00", fire: []string{"11:00:00"},
		},
		{
			name: "within the grace", cron: hourly, how: late{MissedSkip, time.Minute, 1000},
			last: "10:00:00", now: "11:01:00", fire: []string{"11:00:00"},
		},
		{
			name: "skipped", cron: hourly, how: late{MissedSkip, time.Minute, 1000},
			last: "10:00:00", now: "14:01:01", pass: "14:00:00", left: "11:00:00",
		},
		{
			name: "skipped but for one in time", cron: hourly, how: late{MissedSkip, time.Minute, 1000},
			last: "10:00:00", now: "14:00:01", fire: []string{"14:00:00"}, left: "11:00:00",
		},
		{
			name: "once", cron: hourly, how: late{MissedOnce, time.Minute, 1000},
			last: "10:00:00", now: "14:30:00", fire: []string{"14:00:00"}, left: "11:00:00",
		},
		{
			name: "once, and one in time", cron: hourly, how: late{MissedOnce, time.Minute, 1000},
			last: "10:00:00", now: "14:00:30", fire: []string{"13:00:00", "14:00:00"}, left: "11:00:00",
		},
		{
			name: "once is all there is", cron: hourly, how: late{MissedOnce, time.Minute, 1000},
			last: "10:00:00", now: "11:30:00", fire: []string{"11:00:00"},
		},
		{
			name: "all", cron: hourly, how: late{MissedAll, time.Minute, 1000},
			last: "10:00:00", now: "13:00:30", fire: []string{"11:00:00", "12:00:00", "13:00:00"},
		},
		{
			name: "the newest of all", cron: hourly, how: late{MissedAll, time.Minute, 2},
			last: "10:00:00", now: "14:30:00", fire: []string{"13:00:00", "14:00:00"}, left: "11:00:00",
		},
		{
			name: "the newest of those in time", cron: "@every 10s", how: late{MissedSkip, time.Minute, 2},
			last: "10:00:00", now: "10:00:45", fire: []string{"10:00:30", "10:00:40"}, left: "10:00:10",
		},
		{
			name: "a clock that was put back", cron: hourly, how: late{MissedAll, time.Minute, 1000},
			last: "12:00:00", now: "09:30:00", next: "13:00:00",
		},
	} {
		at := func(s string) time.Time {
			if s == "" {
				return time.Time{}
			}
			return instant(t, "2026-05-06T"+s+"Z")
		}
		d := c.how.decide(readTicks(t, c.cron, time.UTC), at(c.last), at(c.now))
		var fire []time.Time
		for _, f := range c.fire {
			fire = append(fire, at(f))
		}
		if !slices.EqualFunc(d.fire, fire, time.Time.Equal) || !d.pass.Equal(at(c.pass)) || !d.left.Equal(at(c.left)) || !d.next.Equal(at(c.next)) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}

func TestTheNewestTicksOfManyYearsAreFoundSoon(t *testing.T) {
	now := instant(t, "2026-05-06T00:00:00Z")
	for _, expression := range []string{"@every 10ms", "* * * * *", "0 0 29 2 *", "* * 1 1 *"} {
		ts := readTicks(t, expression, time.UTC)
		start := time.Now()
		got := ts.newest(instant(t, "1970-01-02T00:00:00Z"), now, 10)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %v", expression, d)
		}
		if len(got) != 10 || ts.next(got[9]).Before(now) || !ts.next(got[8]).Equal(got[9]) || got[9].After(now) {
			t.Errorf("%s: %v", expression, got)
		}
	}
	if got := readTicks(t, "0 0 29 2 *", time.UTC).newest(instant(t, "2020-01-01T00:00:00Z"), now, 10); len(got) != 2 {
		t.Errorf("of two ticks: %v", got)
	}
}
