package queue

import (
	"slices"
	"time"
)

const (
	// leaveFor is how long a job is left to the worker that should claim it. Then that one is taken to be asleep, and nothing is
	// left to it before it claims something.
	leaveFor = 50 * time.Millisecond

	// aheadOfClock is how far a producer's clock may be ahead for its jobs to be looked for beyond those that wait for their time.
	aheadOfClock = 5 * time.Second
)

// choice is what a worker is to claim: for each slot a job and those to take in its place. wake is when to look
// again though nothing happens; zero means never.
type choice struct {
	slots [][]*entry
	wake  time.Time
}

// pick chooses what a worker claims whose handlers wait for so many jobs, and that may have some more at hand.
//
// Every worker sees the same line and the same claims, a moment apart, and so comes to the same distribution of it: of the first jobs that
// can be claimed, as many as all handlers wait for, each falls to one worker, and so does each of those after them. So a job that comes while many
// are idle wakes one. What they see apart costs a fallback, which etcd takes in the same transaction, and not a claim. A worker
// that is alone takes the line in its order.
func (w *window) pick(me string, idle, spare int, now time.Time) choice {
	var c choice
	if !w.ready || w.paused || idle+spare <= 0 {
		return c
	}
	rivals, room := w.rivals(me)
	if len(w.peers) <= 1 {
		for _, e := range w.first(idle+spare, now, &c) {
			c.slots = append(c.slots, []*entry{e})
		}
		return c
	}
	behind := fallbacks(idle + spare)
	line := w.first(idle+room+(spare+(idle+spare)<<behind)*len(w.peers), now, &c)
	front := line[:min(len(line), idle+room)]
	for _, e := range w.divide(me, idle, front, rivals, now, &c) {
		c.slots = append(c.slots, []*entry{e})
	}
	// Of what no handler waits for, this worker's part: to have at hand, and to fall back to.
	var rest []*entry
	for _, e := range line[len(front):] {
		if w.falls(e, me) {
			rest = append(rest, e)
		}
	}
	for ; spare > 0 && len(rest) > 0; spare-- {
		c.slots, rest = append(c.slots, rest[:1:1]), rest[1:]
	}
	// Further and further ahead, as the others may be ahead of what is known here; and at last, of a short line, what is another's.
	for n, step := 0, 1; n < behind && len(rest) > 0; n, step = n+1, 2*step {
		for i := range c.slots {
			if len(rest) == 0 {
				break
			}
			c.slots[i] = append(c.slots[i], rest[0])
			rest = rest[min(step, len(rest)):]
		}
	}
	if len(c.slots) == 1 {
		for i := len(line) - 1; i >= len(front) && len(c.slots[0]) <= behind; i-- {
			if !slices.Contains(c.slots[0], line[i]) {
				c.slots[0] = append(c.slots[0], line[i])
			}
		}
	}
	return c
}

// fallbacks is how many jobs a slot of a claim names beside its first: the more the fewer slots there are, as one that finds nothing was for
// nothing.
func fallbacks(slots int) int {
	switch {
	case slots <= 2:
		return 5
	case slots <= 16:
		return 2
	default:
		return 1
	}
}

// falls reports whether a job falls to a worker, of all that there are.
func (w *window) falls(e *entry, me string) bool {
	mine := draw(e.hash, hashOf(me))
	for id, p := range w.peers {
		if id != me && draw(e.hash, p.hash) > mine {
			return false
		}
	}
	return true
}

// rival is another worker whose handlers wait for jobs.
type rival struct {
	id   string
	peer *peer
	room int
}

// rivals are the others that are awake and whose handlers wait for jobs, and for how many.
func (w *window) rivals(me string) (rivals []rival, room int) {
	for id, p := range w.peers {
		if free := p.slots - p.busy; id != me && !p.asleep && free > 0 {
			rivals = append(rivals, rival{id, p, free})
			room += free
		}
	}
	return rivals, room
}

// first are the first jobs that could be claimed now. A line whose head is yet to be read holds back those after it.
func (w *window) first(most int, now time.Time, c *choice) []*entry {
	line := make([]*entry, 0, min(most, 4*windowJobs))
	keys := map[string]bool{}
	micros := now.UnixMicro()
	for _, l := range w.lanes {
		for _, e := range l.entries {
			if len(line) == most {
				return line
			}
			if !e.isFree() {
				continue
			}
			if e.place.delayed && e.place.clock() > micros {
				// What comes after may still be due: only what is delayed waits for its time.
				c.wakeAt(e.place.at())
				continue
			}
			if k := e.place.key; k != "" {
				if keys[k] || w.held[k] > 0 {
					continue
				}
				keys[k] = true
			}
			if e.asked {
				continue
			}
			if e.after.After(now) && (e.failures > 1 || e.doubt > w.applied) {
				c.wakeAt(e.after)
				continue
			}
			line = append(line, e)
		}
		if l.reach != "" && clockOf(l.reach) < micros+aheadOfClock.Microseconds() {
			return line
		}
	}
	return line
}

// divide returns those of the jobs that fall to a worker, if each takes as many as its handlers wait for, and one that
// leaves what falls to it for too long is asleep.
func (w *window) divide(me string, slots int, line []*entry, rivals []rival, now time.Time, c *choice) []*entry {
	var mine []*entry
	self := hashOf(me)
	for _, e := range line {
		best, to := uint64(0), -1
		if slots > 0 {
			best = draw(e.hash, self)
		}
		for i, r := range rivals {
			if r.room == 0 || r.peer.asleep {
				continue
			}
			if d := draw(e.hash, r.peer.hash); d > best {
				best, to = d, i
			}
		}
		if to < 0 {
			if slots > 0 {
				mine = append(mine, e)
				slots--
			}
			continue
		}
		r := &rivals[to]
		switch {
		case e.leftTo != r.id:
			e.left, e.leftTo = now, r.id
		case now.Sub(e.left) >= leaveFor:
			r.peer.asleep = true
			c.wakeAt(now) // and divide anew
		}
		c.wakeAt(e.left.Add(leaveFor))
		r.room--
	}
	return mine
}

// wakeAt has the worker look again at t, or before.
func (c *choice) wakeAt(t time.Time) {
	if c.wake.IsZero() || t.Before(c.wake) {
		c.wake = t
	}
}

// failed notes that a job was not to be had, as of a revision. It is looked at again when the changes up to there are known, which mostly show
// why; or after a while, as they are not known before something changes. If it is not to be had again, then after longer and longer: an
// ordering key may be held by a job that is not in sight.
func (e *entry) failed(revision int64, now time.Time) {
	e.doubt = revision
	e.after = now.Add(min(20*time.Millisecond<<min(e.failures, 10), 5*time.Second))
	e.failures++
}
