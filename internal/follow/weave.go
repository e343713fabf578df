package follow

import (
	"bytes"
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// weave puts what several watches bring in one order: that of their revisions, each revision whole.
//
// Each watch is in order by itself, and has passed a revision when it has brought an event of it, as a response holds
// whole revisions, or an answer about progress that names it or a later one. What no watch can bring anything older than,
// or any more of, is released: everything up to the revision that all of them have passed.
//
//	watch 0   ──5────────8──────────(9)──►        passed 9
//	watch 1   ──5──6───────(7)───────────►        passed 7: 8 is held, until this watch has passed it too
//	released    5  6                              complete 7
type weave struct {
	floor    int64             // events up to it were in the read
	complete int64             // everything up to it is released
	passed   []int64           // by watch
	held     [][]*mvccpb.Event // by watch: after complete
}

// newWeave returns the order of a number of watches whose ranges were read at a revision.
func newWeave(watches int, read int64) *weave {
	w := &weave{floor: read, complete: read, passed: make([]int64, watches), held: make([][]*mvccpb.Event, watches)}
	for i := range w.passed {
		w.passed[i] = read
	}
	return w
}

// bring takes in a watch's events. It reports false for one of a revision that the watch has passed: then it had been said to
// have passed too much, and what was released may lack something.
func (w *weave) bring(watch int, events []*mvccpb.Event) bool {
	before := w.passed[watch]
	for _, ev := range events {
		switch rev := ev.Kv.ModRevision; {
		case rev <= w.floor: // the read that came after the watch was opened has seen it
		case rev <= before:
			return false
		default:
			w.held[watch] = append(w.held[watch], ev)
			w.passed[watch] = rev
		}
	}
	return true
}

// pass takes in that a watch has brought everything up to a revision.
func (w *weave) pass(watch int, revision int64) {
	w.passed[watch] = max(w.passed[watch], revision)
}

// holds reports whether something waits for a watch to pass it.
func (w *weave) holds() bool {
	return slices.ContainsFunc(w.held, func(events []*mvccpb.Event) bool { return len(events) > 0 })
}

// release returns the events up to the revision that all watches have passed, in order of revision and those of one
// revision by key, and raises complete to it.
func (w *weave) release() []*mvccpb.Event {
	w.complete = slices.Min(w.passed)
	var out []*mvccpb.Event
	for i, held := range w.held {
		n := 0
		for n < len(held) && held[n].Kv.ModRevision <= w.complete {
			n++
		}
		out = append(out, held[:n]...)
		if w.held[i] = held[n:]; n == len(held) {
			w.held[i] = nil // so that what was released is not kept
		}
	}
	slices.SortFunc(out, func(a, b *mvccpb.Event) int {
		return cmp.Or(cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision), bytes.Compare(a.Kv.Key, b.Kv.Key))
	})
	return out
}
