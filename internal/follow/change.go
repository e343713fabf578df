package follow

import (
	"bytes"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Entry is a key as etcd holds it. It is shared and must not be written to.
type Entry = mvccpb.KeyValue

// Event is one key's step from an older state to a newer one.
type Event struct {
	Key      string
	Old      *Entry // nil if the key was not there before, or that is not known
	New      *Entry // nil if the key is gone
	Revision int64  // at which it happened; 0 if it was found by a read
}

// Change is a step of a whole view.
type Change struct {
	// Revision is the revision that the view is at with this change applied.
	Revision int64

	// Complete is the revision up to which nothing is missing of any key. It is Revision but for a view of several single
	// keys that are no whole, whose watches have no order among each other: there it is the revision of the last read.
	Complete int64

	// Generation counts how often etcd's history turned out to be another than the view knew: an older one, a foreign one,
	// or one with an event that was never sent.
	Generation int64

	// Initial marks the first change an observer gets: its events are everything there is.
	Initial bool

	// Joined is set in an Initial change that does not come from a read of its own, as others followed the view before: it may
	// be from before the follower was attached, and before what etcd has answered elsewhere.
	Joined bool

	// Reset is set in the first change of a [Range.Tail] and in each after an interruption. It has no events: everything up to its
	// Revision is for the observer to read, and what comes after is brought.
	Reset bool

	// Events are in order of revision, and all of a revision are in one change. There may be none: after an interruption a change says that nothing
	// has changed up to its revision. Those of the first change, and of one that follows an interruption,
	// come from a read: one a key at most, in no order among each other.
	Events []Event
}

// Status says how far a view can be relied on.
type Status struct {
	// Err is nil while the view is live, and else why it is not.
	Err error

	// ProvenAt is when the view was last known to be current. The zero time before the first sync. Of several single
	// keys that are no whole it is an approximation.
	// It never says more than observers were told by Changed.
	ProvenAt time.Time

	// ProvenBefore is what ProvenAt was until the view was last read: for observers that make nothing of what they are told until
	// it is Live.
	ProvenBefore time.Time

	// Revision is the newest revision the view is known to be current at.
	Revision int64
}

// Observer is told of changes, one call at a time and in order, from the view's goroutine: its methods must
// return soon, and must not call back into the view.
type Observer interface {
	// Changed hands on a step of the view. The first one is Initial and comes once the view is synced.
	Changed(Change)

	// Stale says that the view is not live, and why. It is repeated for each attempt that failed.
	Stale(error)

	// Live says that the view is live again. Changed was called before.
	Live()
}

// same reports whether two states of a key are the same one. The revisions alone would do, did not a restored
// backup use them a second time.
func same(a, b *Entry) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision &&
		a.Lease == b.Lease && bytes.Equal(a.Value, b.Value)
}

// entries is the content of a view.
type entries map[string]*Entry

// apply takes in the events of a watch response after revision, and returns those that changed anything. It stops, and
// reports false, at an event that does not follow from what is known: one before it was lost, or it is from another
// history. Every put says which version of the key it makes, and only a key that is there can be deleted. If only deletions
// are brought, whether one follows cannot be told.
func (e entries) apply(events []*mvccpb.Event, after int64, deletions bool) (told []Event, follows bool) {
	told = make([]Event, 0, len(events))
	for _, ev := range events {
		if ev.Kv.ModRevision <= after {
			continue // the read that came after the watch was opened has seen it
		}
		key := string(ev.Kv.Key)
		old := e[key]
		switch {
		case ev.Type == mvccpb.Event_DELETE && old == nil && !deletions:
			return told, false
		case ev.Type == mvccpb.Event_DELETE:
			delete(e, key)
			told = append(told, Event{Key: key, Old: old, Revision: ev.Kv.ModRevision})
		case old == nil && ev.Kv.Version != 1:
			return told, false
		case old != nil && (ev.Kv.Version != old.Version+1 || ev.Kv.CreateRevision != old.CreateRevision):
			return told, false
		default:
			e[key] = ev.Kv
			told = append(told, Event{Key: key, Old: old, New: ev.Kv, Revision: ev.Kv.ModRevision})
		}
	}
	return told, true
}

// raw returns the events of a watch response after revision as they came, for a view that holds nothing. It stops, and
// reports false, at one of a revision that the watch was said to have passed: something was lost before, or it is from another
// history.
func raw(events []*mvccpb.Event, after, passed int64) (told []Event, follows bool) {
	told = make([]Event, 0, len(events))
	for _, ev := range events {
		if ev.Kv.ModRevision <= after {
			continue // the read that came after the watch was opened names a later revision
		}
		if ev.Kv.ModRevision <= passed {
			return told, false
		}
		e := Event{Key: string(ev.Kv.Key), Revision: ev.Kv.ModRevision}
		if ev.Type != mvccpb.Event_DELETE {
			e.New = ev.Kv
		}
		told = append(told, e)
	}
	return told, true
}

// undo takes back what apply has done.
func (e entries) undo(told []Event) {
	for _, ev := range slices.Backward(told) {
		if ev.Old == nil {
			delete(e, ev.Key)
		} else {
			e[ev.Key] = ev.Old
		}
	}
}

// replace makes read the content and returns the difference to what it was.
func (e entries) replace(read []*Entry) []Event {
	var out []Event
	seen := make(map[string]struct{}, len(read))
	for _, kv := range read {
		key := string(kv.Key)
		seen[key] = struct{}{}
		old := e[key]
		if old != nil && same(old, kv) {
			continue
		}
		e[key] = kv
		out = append(out, Event{Key: key, Old: old, New: kv})
	}
	for key, old := range e {
		if _, there := seen[key]; !there {
			delete(e, key)
			out = append(out, Event{Key: key, Old: old})
		}
	}
	return out
}

// contradict reports whether a later read shows another history than the one that led to the content, which was
// complete at revision: what was written up to then must be in it, in that very state.
func (e entries) contradict(read []*Entry, revision int64) bool {
	for _, kv := range read {
		if kv.ModRevision > revision {
			continue
		}
		if known := e[string(kv.Key)]; known == nil || !same(known, kv) {
			return true
		}
	}
	return false
}

// all is the content as the events that build it.
func (e entries) all() []Event {
	out := make([]Event, 0, len(e))
	for key, kv := range e {
		out = append(out, Event{Key: key, New: kv})
	}
	return out
}
