package registry

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Reason is why an instance is listed no more, as well as etcd lets one tell.
type Reason uint8

const (
	// Unknown says that etcd did not answer, or that the instance was listed only because of what was known of old, or that its
	// value is malformed now.
	Unknown Reason = iota

	// Left says that it said goodbye: it was Draining.
	Left

	// Expired says that its lease is gone: it died, was cut off, or its process revoked the lease.
	Expired

	// Deleted says that its key was deleted while its lease is alive.
	Deleted
)

// String names the reason.
func (r Reason) String() string {
	switch r {
	case Left:
		return "left"
	case Expired:
		return "expired"
	case Deleted:
		return "deleted"
	case Unknown:
	}
	return "unknown"
}

// Diff is what became of a service's instances, each list ordered by ID. It is the reader's own; the instances are
// shared and must not be written to.
type Diff struct {
	Added   []*Instance
	Changed []Changed
	Removed []Removed
}

// Changed is an instance that is not what it was.
type Changed struct {
	Before, After *Instance
}

// Removed is an instance that is listed no more, as it last was.
type Removed struct {
	Instance *Instance
	Reason   Reason
}

// Diffs yields the present instances as added, and then what has changed each time. Someone slow in taking them sees
// several changes as one, and of an instance that came and went meanwhile nothing. It ends when ctx does, or with the view.
//
// For who is gone without a goodbye etcd is asked about the lease, once a lease and for a second at the most.
func (v *View) Diffs(ctx context.Context) iter.Seq[Diff] {
	return func(yield func(Diff) bool) {
		ctx, cancel := v.within(ctx)
		defer cancel()
		r := v.service.roster
		f := r.subscribe()
		defer r.unsubscribe(f)
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.more:
			}
			if d, some := v.diff(ctx, f.empty()); (some || f.first()) && !yield(d) {
				return
			}
		}
	}
}

// diff makes a difference of what was gathered. Some reports whether there is any.
func (v *View) diff(ctx context.Context, steps map[string]step) (d Diff, some bool) {
	asked := map[int64]Reason{}
	for _, id := range slices.Sorted(maps.Keys(steps)) {
		switch s := steps[id]; {
		case s.before == s.after:
			continue
		case s.before == nil:
			d.Added = append(d.Added, s.after)
		case s.after != nil:
			d.Changed = append(d.Changed, Changed{s.before, s.after})
		case s.left:
			d.Removed = append(d.Removed, Removed{s.before, Left})
		case !s.lost:
			d.Removed = append(d.Removed, Removed{s.before, Unknown})
		default:
			asked[s.lease] = Unknown
			d.Removed = append(d.Removed, Removed{s.before, Unknown})
		}
		some = true
	}
	if len(asked) > 0 {
		why := reasons(ctx, v.service.client, slices.Collect(maps.Keys(asked)))
		for n, gone := range d.Removed {
			if s := steps[gone.Instance.ID]; s.lost {
				d.Removed[n].Reason = why[s.lease]
			}
		}
	}
	return d, some
}

// step is an edit as it is gathered for a reader of differences.
type step edit

// feed gathers what one reader of differences has not seen yet.
type feed struct {
	more chan struct{} // holds a token when there is something to see

	mu    sync.Mutex
	steps map[string]step // guarded by mu; by ID, several of one ID made one
	begun bool            // guarded by mu
}

// take adds what was published. Of several steps of one instance the first says what it was, and the last what it is.
func (f *feed) take(steps []step) {
	if len(steps) == 0 {
		return
	}
	f.mu.Lock()
	for _, s := range steps {
		if earlier, ok := f.steps[s.id]; ok {
			s.before = earlier.before
		}
		f.steps[s.id] = s
	}
	f.mu.Unlock()
	f.nudge()
}

func (f *feed) nudge() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// empty returns what was gathered, and begins anew.
func (f *feed) empty() map[string]step {
	f.mu.Lock()
	defer f.mu.Unlock()
	steps := f.steps
	f.steps = map[string]step{}
	return steps
}

// first reports whether nothing has been shown so far: the first difference is shown also if there are no instances.
func (f *feed) first() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := !f.begun
	f.begun = true
	return first
}

// subscribe returns a feed that begins with all instances that are published.
func (r *roster) subscribe() *feed {
	f := &feed{more: make(chan struct{}, 1), steps: map[string]step{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range r.cell.Ptr().Instances {
		f.steps[i.ID] = step{id: i.ID, after: i}
	}
	if len(r.feeds) == 0 && r.behind {
		// Nobody has noted what is not published yet.
		r.steps = since(r.cell.Ptr().Instances, r.next.Instances)
	}
	r.feeds[f] = struct{}{}
	f.nudge()
	return f
}

// since is the steps from one list to a later one.
func since(before, after []*Instance) (steps []step) {
	for _, i := range after {
		if was := find(before, i.ID); was != i {
			steps = append(steps, step{id: i.ID, before: was, after: i})
		}
	}
	for _, i := range before {
		if find(after, i.ID) == nil {
			steps = append(steps, step{id: i.ID, before: i})
		}
	}
	return steps
}

func (r *roster) unsubscribe(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.feeds, f)
	if len(r.feeds) == 0 {
		r.steps = nil
	}
}
