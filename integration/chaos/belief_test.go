package chaos_test

import (
	"fmt"
	"slices"
	"time"
)

// overlap is one who came to believe when there was no room for it, by the beliefs of others.
type overlap struct {
	claim  claim
	others []claim       // who believed then
	lasted time.Duration // until there was room
}

func (o overlap) String() string {
	s := fmt.Sprintf("for %v: %v", o.lasted.Round(time.Microsecond), o.claim)
	for _, c := range o.others {
		s += fmt.Sprintf("\n\tbeside %v", c)
	}
	return s
}

func (c claim) String() string {
	how := "left"
	if c.told {
		how = "told"
	}
	return fmt.Sprintf("worker %d, token %d, weight %d: called %v, believed %v to %v (%s)",
		c.worker, c.token, c.weight, time.Duration(c.called), time.Duration(c.from), time.Duration(c.until), how)
}

// believes reports whether the holder does at a moment.
func (c claim) believes(at instant) bool { return c.from <= at && at < c.until }

// overlaps finds those who believed together though the lock has no room for all of them.
func (r record) overlaps() (found []overlap) {
	for i, c := range r.claims {
		if c.until <= c.from {
			continue // it was told before it could believe
		}
		taken := c.weight
		var others []claim
		for j, o := range r.claims {
			// Of two who began at once, one is the later.
			if i != j && o.believes(c.from) && (o.from < c.from || j < i) {
				others = append(others, o)
				taken += o.weight
			}
		}
		if taken <= r.size {
			continue
		}
		slices.SortFunc(others, func(a, b claim) int { return int(a.until - b.until) })
		to := c.until
		for _, o := range others {
			if taken -= o.weight; taken <= r.size {
				to = min(to, o.until)
				break
			}
		}
		found = append(found, overlap{c, others, time.Duration(to - c.from)})
	}
	return found
}

// sameSlots finds those who believed together and had the same slot of a semaphore.
func (r record) sameSlots() (found []overlap) {
	slots := map[int][]claim{}
	for _, c := range r.claims {
		if c.numbered < c.until {
			c.weight, c.from = 1, c.numbered
			slots[c.slot] = append(slots[c.slot], c)
		}
	}
	for _, claims := range slots {
		found = append(found, record{size: 1, claims: claims}.overlaps()...)
	}
	return found
}

// handOvers counts the acquisitions that came by waiting for somebody else's end: there was no room for them beside those who
// believed, at some time between the call of Lock and its return. Under is how many of them came while faults were on.
func (r record) handOvers() (all, under int) {
	for _, c := range r.claims {
		waited := slices.ContainsFunc(r.claims, func(last claim) bool {
			if last.worker == c.worker || last.until <= c.called || last.until > c.from {
				return false
			}
			taken := c.weight
			for _, o := range r.claims {
				if o.believes(last.until - 1) {
					taken += o.weight
				}
			}
			return taken > r.size
		})
		if !waited {
			continue
		}
		all++
		if slices.ContainsFunc(r.faults, func(f [2]instant) bool { return f[0] <= c.from && c.from < f[1] }) {
			under++
		}
	}
	return all, under
}

// parted is the record as if everybody had been told in time: what is wrong with it then was written too late.
func (r record) parted() record {
	r.claims = slices.Clone(r.claims)
	for i := range r.claims {
		c := &r.claims[i]
		c.until = min(c.until, r.superseded(c.token))
	}
	return r
}
