package registry

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// massWindow is for how long a loss counts, and massLeast how many it takes for one to be a mass loss.
	massWindow = 30 * time.Second
	massLeast  = 3
)

// holds decides which instances go on being listed that etcd has no more:
//
//   - of a mass loss, those that are lost from then on, for a while: the reader, or etcd, may be the one in trouble;
//   - the last ones of a service, until a linearizable read has confirmed it: an empty list stops everything.
//
// It does no I/O, and belongs to its roster.
type holds struct {
	share   float64       // of the instances; negative never holds
	most    time.Duration // for which one is held
	kept    map[string]holding
	recent  []loss
	changed bool // since list was asked
}

// holding is one instance that is kept.
type holding struct {
	edit            // that is held back
	until time.Time // when it is made; zero if it waits for a confirmation
	known bool      // that the lease is gone
	shown bool      // as held; who waits for a confirmation is once that has failed
}

// loss is that some were lost at a time.
type loss struct {
	at   time.Time
	n    int
	held bool
}

func newHolds(share float64, most time.Duration) holds {
	return holds{share: share, most: most, kept: map[string]holding{}}
}

// has reports whether an instance is held.
func (h *holds) has(id string) bool {
	_, there := h.kept[id]
	return there
}

// waiting reports whether any is.
func (h *holds) waiting() bool { return len(h.kept) > 0 }

// list is the instances that are shown as held, ordered by ID.
func (h *holds) list() (list []*Instance) {
	for _, id := range slices.Sorted(maps.Keys(h.kept)) {
		if k := h.kept[id]; k.shown {
			list = append(list, k.before)
		}
	}
	return list
}

// keep takes edits of a list, whose length is given, and returns those to be made now. Edits are ordered by ID.
func (h *holds) keep(edits []edit, listed int, now time.Time) []edit {
	lost := 0
	for _, e := range edits {
		if e.lost {
			lost++
		}
	}
	mass := lost > 0 && h.mass(lost, listed, now)
	there := listed - len(h.kept) // by etcd's word
	var made []edit
	for _, e := range edits {
		held := h.has(e.id)
		switch {
		case held:
			h.drop(e.id) // it is back
			there++
		case e.lost && mass:
			h.hold(e, now.Add(h.most))
			there--
			continue
		case e.before == nil:
			there++
		}
		if e.after == nil {
			there--
		}
		made = append(made, e)
	}
	switch {
	case there > 0:
		made = append(made, h.release(func(k holding) bool { return k.until.IsZero() })...)
	case listed > 0 && len(h.kept) == 0:
		for _, e := range made {
			h.hold(e, time.Time{})
		}
		made = nil
	}
	slices.SortFunc(made, func(a, b edit) int { return cmp.Compare(a.id, b.id) })
	return made
}

// hold keeps one.
func (h *holds) hold(e edit, until time.Time) {
	k := holding{edit: e, until: until, shown: !until.IsZero()}
	h.kept[e.id] = k
	h.changed = h.changed || k.shown
}

// drop keeps one no longer.
func (h *holds) drop(id string) {
	h.changed = h.changed || h.kept[id].shown
	delete(h.kept, id)
}

// release returns the edits of those that are to be held no longer.
func (h *holds) release(which func(holding) bool) (made []edit) {
	for id, k := range h.kept {
		if which(k) {
			h.drop(id)
			made = append(made, k.edit)
		}
	}
	slices.SortFunc(made, func(a, b edit) int { return cmp.Compare(a.id, b.id) })
	return made
}

// mass reports whether so many that are lost now, with those of the last while, are more than the share of those there were.
func (h *holds) mass(lost, listed int, now time.Time) bool {
	if h.share < 0 {
		return false
	}
	h.recent = slices.DeleteFunc(h.recent, func(l loss) bool { return now.Sub(l.at) > massWindow })
	all, were := lost, listed
	for _, l := range h.recent {
		all += l.n
		if !l.held {
			were += l.n
		}
	}
	mass := all >= massLeast && float64(all) > h.share*float64(were)
	h.recent = append(h.recent, loss{now, lost, mass})
	return mass
}

// unconfirmed reports whether an empty list waits to be confirmed.
func (h *holds) unconfirmed() bool {
	for _, k := range h.kept {
		if k.until.IsZero() {
			return true
		}
	}
	return false
}

// unasked returns the leases of held instances of which it is not known whether they are gone.
func (h *holds) unasked() []int64 {
	leases := map[int64]struct{}{}
	for _, k := range h.kept {
		if !k.until.IsZero() && !k.known {
			leases[k.lease] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(leases))
}

// settle takes in what is known: why the keys of some leases are gone, whether it is confirmed that nobody is left, and whether
// the list is followed, without which none is old enough. It returns the edits to be made.
func (h *holds) settle(why map[int64]Reason, nobody, live bool, listed int, now time.Time) []edit {
	for id, k := range h.kept {
		k.known = k.known || why[k.lease] == Expired
		if k.until.IsZero() && !nobody && !k.shown {
			k.shown, h.changed = true, true
		}
		h.kept[id] = k
	}
	made := h.release(func(k holding) bool {
		if k.until.IsZero() {
			return nobody
		}
		return why[k.lease] == Deleted || live && !now.Before(k.until)
	})
	if len(made) == listed && !nobody {
		for _, e := range made {
			h.hold(e, time.Time{})
		}
		return nil
	}
	return made
}

// next is how long it is until one is old enough; false if none will be.
func (h *holds) next(now time.Time) (wait time.Duration, ok bool) {
	for _, k := range h.kept {
		if d := k.until.Sub(now); !k.until.IsZero() && (!ok || d < wait) {
			wait, ok = d, true
		}
	}
	return max(wait, 0), ok
}
