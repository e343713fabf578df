package config

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// outlook is what a driver has seen of a rollout, in the order of etcd's revisions. What it makes of it is in next. It does no I/O
// and knows no clock but the times it is given.
type outlook struct {
	key string
	id  string // of the rollout

	plan     *record // nil if there is none
	planAt   int64   // its ModRevision
	planTime time.Time
	revision int64 // what happened to the rollout and its reports up to it has been seen

	candidate   []byte // the rollout's value
	candidateAt int64  // its ModRevision; 0 if it is not there

	keyAt    int64 // the key's ModRevision; 0 if it is not there
	keyKnown bool

	reports map[string]Report // as last seen, by instance
	applied map[string]tenure // who has applied the rollout's value and has not left since

	trouble string // the first reason to take the rollout back that was seen; it does not go away by itself

	running time.Time // since when the step has run, as far as was seen here
	term    uint64    // etcd's raft term, if known
	steady  time.Time // since when it was that
	cut     error     // why etcd is not followed at present
}

// tenure is since when an incarnation of an instance has been seen to run the rollout's value.
type tenure struct {
	incarnation string
	since       time.Time
}

func newOutlook(key, id string) *outlook {
	return &outlook{key: key, id: id, reports: map[string]Report{}, applied: map[string]tenure{}}
}

// over reports whether nothing more will come of the rollout, or another one has taken its place.
func (d *outlook) over() bool { return d.plan == nil || d.plan.ID != d.id || d.plan.State.Ended() }

// sawPlan takes in the rollout as it was written at a revision. One seen for the first time tells who had applied when it was written.
func (d *outlook) sawPlan(p *record, revision int64, now time.Time) {
	if revision <= d.planAt {
		return
	}
	old, first := d.plan, d.over()
	d.plan, d.planAt, d.planTime = p, revision, now
	if d.over() {
		return
	}
	if first || old.Step != p.Step || old.State != p.State {
		d.running = now
	}
	if first {
		for id, incarnation := range p.Applied {
			d.applied[id] = tenure{incarnation, now}
		}
	}
}

// lostPlan takes in that the rollout's record was deleted, by other means.
func (d *outlook) lostPlan() { d.plan, d.planAt = nil, 0 }

// sawCandidate takes in the rollout's value; nil if it was deleted.
func (d *outlook) sawCandidate(value []byte, revision int64) {
	d.candidate, d.candidateAt = value, revision
}

// sawKey takes in the key's ModRevision, 0 if it does not exist.
func (d *outlook) sawKey(revision int64) { d.keyAt, d.keyKnown = revision, true }

// sawTerm takes in etcd's term. A new leader renews every lease, so the dead look alive for a TTL more: what the reports prove is
// counted from here.
func (d *outlook) sawTerm(term uint64, now time.Time) (changed bool) {
	if term == d.term {
		return false
	}
	d.term, d.steady = term, now
	return true
}

// sawReport takes in what an instance says. known is what it said before, if that is known from elsewhere than from here.
func (d *outlook) sawReport(r Report, known *Report, now time.Time) {
	if before, there := d.reports[r.Instance]; there {
		if before.seen >= r.seen {
			return
		}
		known = &before
	}
	d.reports[r.Instance] = r
	if d.over() {
		return
	}
	was, applied := d.applied[r.Instance]
	if applied && was.incarnation != r.Incarnation {
		// One that left in order is not among those who have applied. It need not have been seen leaving here.
		if known == nil || known.State != Left {
			d.complain(fmt.Sprintf("instance %q ended after it had applied, and was started again", r.Instance))
		}
		delete(d.applied, r.Instance)
		applied = false
	}
	switch {
	case r.State == Left:
		delete(d.applied, r.Instance)
	case r.Rollout != d.id:
		// Before it has come to the rollout's value, or back from it.
		delete(d.applied, r.Instance)
	case r.State == Refused:
		d.complain(fmt.Sprintf("instance %q refused it: %s", r.Instance, r.Reason))
	case r.State == Failed:
		d.complain(fmt.Sprintf("instance %q reports: %s", r.Instance, r.Reason))
	case r.State == Applied && !applied:
		d.applied[r.Instance] = tenure{r.Incarnation, now}
	}
}

// sawGone takes in that an instance's report is there no more.
func (d *outlook) sawGone(id string, known *Report) {
	if before, there := d.reports[id]; there {
		known = &before
	}
	delete(d.reports, id)
	_, applied := d.applied[id]
	delete(d.applied, id)
	switch {
	case d.over() || known != nil && known.State == Left:
	case applied:
		d.complain(fmt.Sprintf("instance %q died after it had applied", id))
	case known != nil && d.includes(*known):
		d.complain(fmt.Sprintf("instance %q died while it was to apply", id))
	}
}

// settle compares with the reports that are there, which have all been taken in: who has applied and is not among them went while nobody
// looked, and how cannot be told any more.
func (d *outlook) settle() {
	for _, id := range slices.Sorted(maps.Keys(d.applied)) {
		if _, there := d.reports[id]; !there {
			delete(d.applied, id)
			if !d.over() {
				d.complain(fmt.Sprintf("instance %q is gone after it had applied", id))
			}
		}
	}
}

// complain keeps the first reason to take the rollout back.
func (d *outlook) complain(cause string) {
	if d.trouble == "" {
		d.trouble = cause
	}
}

// includes reports whether who made a report is to run the rollout's value.
func (d *outlook) includes(r Report) bool {
	return d.plan.includes(d.key, Identity{ID: r.Instance, Labels: r.Labels})
}

// live are the reports of those who have not said goodbye, ordered by instance.
func (d *outlook) live() []Report {
	live := make([]Report, 0, len(d.reports))
	for _, id := range slices.Sorted(maps.Keys(d.reports)) {
		if r := d.reports[id]; r.State != Left {
			live = append(live, r)
		}
	}
	return live
}

// members are those of the live who are to run the rollout's value, of all steps so far.
func (d *outlook) members() []Report {
	return slices.DeleteFunc(d.live(), func(r Report) bool { return !d.includes(r) })
}

// incarnations is who has applied, as it is written down.
func (d *outlook) incarnations() map[string]string {
	known := make(map[string]string, len(d.applied))
	for id, t := range d.applied {
		known[id] = t.incarnation
	}
	return known
}
