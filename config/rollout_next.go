package config

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

const (
	// lateDeath is how much later than the TTL of its lease the death of an instance may show: etcd looks for leases that have expired
	// twice a second.
	lateDeath = time.Second

	// longestTTL is what the TTL in a report counts as at the most.
	longestTTL = time.Hour

	// noteAfter is how long, at the least, and noteAfterEach how long an instance, the record is left alone before it is written for no
	// other reason than that more have applied. Every instance reads each record.
	noteAfter     = time.Second
	noteAfterEach = 10 * time.Millisecond
)

// verb is what a driver is to do.
type verb int

const (
	toWait    verb = iota
	toNote         // write down who has applied
	toBegin        // compute the threshold of the step that runs
	toAdvance      // to the next step
	toPromote      // the rollout's value becomes the key's
	toAbort        // take it back
	toEnd          // nothing: it is over
)

// decision is what follows from an outlook.
type decision struct {
	verb verb
	why  string    // of toWait, what for; of toAbort, the cause
	at   time.Time // of toWait, when to decide again without news, if not zero
	soak bool      // the step's instances have applied, and are watched
	over time.Time // when the soak is
}

// next decides what a driver is to do. It depends on nothing but what was seen and the time.
func (d *outlook) next(now time.Time) decision {
	if d.over() {
		return decision{verb: toEnd}
	}
	if cause := d.complaint(); cause != "" {
		return decision{verb: toAbort, why: cause}
	}
	n := d.forward(now)
	if n.verb != toWait || maps.Equal(d.plan.Applied, d.incarnations()) {
		return n
	}
	due := d.planTime.Add(noteAfter + noteAfterEach*time.Duration(len(d.reports)))
	switch {
	case d.cut != nil:
	case !now.Before(due):
		n.verb = toNote
	case n.at.IsZero() || due.Before(n.at):
		n.at = due
	}
	return n
}

// complaint is why the rollout is to be taken back, or empty.
func (d *outlook) complaint() string {
	switch {
	case d.trouble != "":
		return d.trouble
	case d.candidateAt == 0:
		return "the rollout's value was deleted"
	case sumOf(d.candidate) != d.plan.Sum:
		return "the rollout's value was changed"
	case d.keyKnown && d.keyAt != d.plan.Base:
		return causeKeyChanged
	}
	return ""
}

// causeKeyChanged is a complaint that is looked into before it counts: what is known of the key and of the rollout are of different
// revisions.
const causeKeyChanged = "the key was changed by others"

// forward decides about a rollout of which nothing bad is known.
func (d *outlook) forward(now time.Time) decision {
	live, members := d.live(), d.members()
	step := d.plan.now()
	switch {
	case d.cut != nil:
		return decision{why: "etcd cannot be followed"}
	case d.plan.State == Paused:
		return decision{why: "paused"}
	case len(live) == 0:
		return decision{why: "no instance reports"}
	}
	mine := d.mine(members)
	if step.Percent > 0 && (d.plan.Counted == 0 || mine == 0) {
		return decision{verb: toBegin}
	}
	if mine == 0 {
		return decision{why: "no instance has the labels of the step"}
	}
	if awaited := d.awaited(members); len(awaited) > 0 {
		return decision{why: "instances are to apply: " + some(awaited)}
	}
	if least := max(1, step.MinReports); mine < least {
		return decision{why: fmt.Sprintf("%d of %d instances have applied", mine, least)}
	}
	over := d.soaked(members)
	switch {
	case now.Before(over):
		return decision{why: "soak", at: over, soak: true, over: over}
	case d.plan.Step+1 < len(d.plan.Steps):
		return decision{verb: toAdvance, soak: true, over: over}
	default:
		return decision{verb: toPromote, soak: true, over: over}
	}
}

// mine is how many of the members are in the step that runs, and not only in those before it.
func (d *outlook) mine(members []Report) int {
	n, step := 0, d.plan.now()
	for _, r := range members {
		if d.plan.selects(step, d.key, Identity{ID: r.Instance, Labels: r.Labels}) {
			n++
		}
	}
	return n
}

// awaited are the members who have not applied.
func (d *outlook) awaited(members []Report) []string {
	var ids []string
	for _, r := range members {
		if _, applied := d.applied[r.Instance]; !applied {
			ids = append(ids, r.Instance)
		}
	}
	return ids
}

// soaked is when the soak is over, given that all members have applied. It counts from when the last of them was seen to have, and lasts
// until one that died right after would have been missed.
func (d *outlook) soaked(members []Report) time.Time {
	since, ttl := d.running, time.Duration(0)
	for _, r := range members {
		since = latest2(since, d.applied[r.Instance].since)
		ttl = max(ttl, time.Duration(min(r.TTL, int64(longestTTL/time.Second)))*time.Second)
	}
	return latest2(since.Add(d.plan.now().Soak), latest2(since, d.steady).Add(ttl+lateDeath))
}

func latest2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// some names a few of many.
func some(ids []string) string {
	const few = 5
	if len(ids) <= few {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:few], ", "), len(ids)-few)
}
