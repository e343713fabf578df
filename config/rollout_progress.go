package config

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Progress is where a rollout stands, for people to look at.
type Progress struct {
	Rollout string // its ID
	State   RolloutState
	Cause   string // why it is paused, or was taken back
	Author  string
	Reason  string

	Step  int // that runs, from 1; the last one once it is promoted
	Steps int
	This  Step

	// Reporting is how many instances there are that report. Of these, all whose turn has come are in one of the lists, ordered: Applied runs
	// the value, Refused and Failed said so, Awaited has not said anything of it. None has, once the rollout has ended.
	Reporting                         int
	Applied, Awaited, Refused, Failed []string

	// Waiting is what the rollout waits for, in words; empty if it is about to go on.
	Waiting string

	// Soaking says that Waiting is the soak, and SoakLeft how long it takes, in seconds rounded up, for one who began to look when this
	// one did.
	Soaking  bool
	SoakLeft time.Duration

	// Err is why etcd cannot be followed at present, and nil if it is.
	Err error
}

// Changes yields where the rollout stands, and then each change of that; while it soaks, once a second. It ends when the rollout has, after
// having yielded that, or when ctx does. It changes nothing, so anybody may look. Someone slow gets the newest and not what was between.
func (r *Rollout) Changes(ctx context.Context) iter.Seq[Progress] {
	return func(yield func(Progress) bool) {
		l := newLookout(r.store.client, r.layout, r.id, r.since)
		last := "" // what was yielded, as text: nothing else compares errors
		// Its error is the end of ctx.
		_ = l.look(ctx, func(now time.Time) (time.Time, bool, error) {
			o := l.outlook
			if o.plan == nil || o.plan.ID != r.id {
				return time.Time{}, true, nil
			}
			p, again := o.progress(now)
			if text := fmt.Sprintf("%+v", p); text != last {
				last = text
				if !yield(p) {
					return time.Time{}, true, nil
				}
			}
			return again, o.over(), nil
		})
	}
}

// progress is what is shown of an outlook, and when that changes by itself.
func (d *outlook) progress(now time.Time) (p Progress, again time.Time) {
	rec := d.plan
	p = Progress{
		Rollout: rec.ID, State: rec.State, Cause: rec.Cause, Author: rec.Author, Reason: rec.Reason,
		Step: rec.Step + 1, Steps: len(rec.Steps), This: rec.now(), Err: d.cut, Reporting: len(d.live()),
	}
	if d.over() {
		return p, time.Time{}
	}
	for _, r := range d.live() {
		_, applied := d.applied[r.Instance]
		of := r.Rollout == rec.ID
		switch {
		case of && r.State == Refused:
			p.Refused = append(p.Refused, r.Instance)
		case of && r.State == Failed:
			p.Failed = append(p.Failed, r.Instance)
		case !d.includes(r):
		case applied:
			p.Applied = append(p.Applied, r.Instance)
		default:
			p.Awaited = append(p.Awaited, r.Instance)
		}
	}
	n := d.next(now)
	switch n.verb {
	case toAbort:
		p.Waiting = "to be taken back: " + n.why
	case toWait, toNote:
		p.Waiting = n.why
	case toBegin, toAdvance, toPromote, toEnd:
	}
	if n.verb == toWait && n.soak {
		left := n.over.Sub(now)
		p.Soaking, p.SoakLeft = true, (left + time.Second - 1).Truncate(time.Second)
		return p, now.Add(left - (p.SoakLeft - time.Second))
	}
	return p, n.at
}
