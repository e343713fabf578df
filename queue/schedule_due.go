package queue

import "time"

// late says what becomes of ticks that nobody has seen in time.
type late struct {
	missed Missed
	grace  time.Duration
	most   int
}

// due is what is to be done about the ticks between the last one and now.
type due struct {
	fire []time.Time // the oldest first
	pass time.Time   // if nothing is to be fired, but ticks were missed: the last of them
	left time.Time   // the first tick that gets no job; zero if none is left out
	next time.Time   // if nothing is due: the first tick to come
}

// decide looks at the ticks after last, up to now.
func (l late) decide(t ticks, last, now time.Time) due {
	first := t.next(last)
	if first.IsZero() || first.After(now) {
		return due{next: first}
	}
	inTime := now.Add(-l.grace) // from here on
	var d due
	if first.Before(inTime) {
		until := inTime.Add(-1)
		switch l.missed {
		case MissedSkip:
		case MissedOnce:
			d.fire = t.newest(last, until, 1)
		case MissedAll:
			d.fire = t.newest(last, until, l.most)
		}
		d.fire = append(d.fire, t.newest(until, now, l.most)...)
		if len(d.fire) == 0 {
			d.pass = t.newest(last, until, 1)[0]
		}
	} else {
		d.fire = t.newest(last, now, l.most)
	}
	d.fire = d.fire[max(0, len(d.fire)-l.most):]
	if len(d.fire) == 0 || d.fire[0].After(first) {
		d.left = first
	}
	return d
}

// newest returns the last n ticks after one instant and up to another, in order. It looks back by steps that double: the time
// between may be years, and the ticks in it millions.
func (t ticks) newest(after, until time.Time, n int) []time.Time {
	for back := time.Minute; ; back *= 2 {
		from := until.Add(-back)
		if back < 0 || !from.After(after) { // it has overflowed, or it is all of it
			from = after
		}
		var found []time.Time
		for tick := t.next(from); !tick.IsZero() && !tick.After(until); tick = t.next(tick) {
			if found = append(found, tick); len(found) == 2*n {
				found = append(found[:0], found[n:]...)
			}
		}
		if len(found) >= n || from.Equal(after) {
			return found[max(0, len(found)-n):]
		}
	}
}
