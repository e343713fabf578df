package follow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// seeded returns a source of random numbers and tells how to have it again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// store is etcd as far as events go: every change is a revision.
type store struct {
	rng      *rand.Rand
	revision int64
	content  entries
	events   []*mvccpb.Event
}

// write makes a revision of one to three random events.
func (s *store) write() {
	s.revision++
	touched := map[string]bool{}
	for range 1 + s.rng.IntN(3) {
		key := fmt.Sprintf("k%d", s.rng.IntN(6))
		if touched[key] {
			continue // etcd refuses two changes of a key in one transaction
		}
		touched[key] = true
		old := s.content[key]
		if s.rng.IntN(3) == 0 {
			if old != nil {
				delete(s.content, key)
				s.events = append(s.events, &mvccpb.Event{
					Type: mvccpb.Event_DELETE, Kv: &Entry{Key: []byte(key), ModRevision: s.revision},
				})
			}
			continue
		}
		kv := &Entry{Key: []byte(key), CreateRevision: s.revision, ModRevision: s.revision, Version: 1}
		if old != nil {
			kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
		}
		kv.Value = fmt.Append(nil, s.rng.IntN(100))
		s.content[key] = kv
		s.events = append(s.events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
	}
}

// after returns the events of the revisions after one.
func (s *store) after(revision int64) []*mvccpb.Event {
	for i, ev := range s.events {
		if ev.Kv.ModRevision > revision {
			return s.events[i:]
		}
	}
	return nil
}

// list is the content as a read returns it.
func (s *store) list() []*Entry {
	out := make([]*Entry, 0, len(s.content))
	for _, kv := range s.content {
		out = append(out, kv)
	}
	return out
}

// build applies events to a copy of a content, and fails the test if one does not begin where the key is.
func build(t *testing.T, from entries, events []Event) entries {
	t.Helper()
	got := maps.Clone(from)
	for _, ev := range events {
		if got[ev.Key] != ev.Old {
			t.Fatalf("an event of %s begins at %v, and it was at %v", ev.Key, ev.Old, got[ev.Key])
		}
		if ev.New == nil {
			delete(got, ev.Key)
		} else {
			got[ev.Key] = ev.New
		}
	}
	return got
}

func equal(a, b entries) bool {
	return maps.EqualFunc(a, b, func(a, b *Entry) bool { return same(a, b) })
}

// The watch is opened at some revision, the read is of a later one, and the responses are cut anywhere between revisions.
func TestEventsUpToTheReadAreDroppedAndTheOthersBuildTheView(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		s := &store{rng: rng, content: entries{}}
		for range rng.IntN(10) {
			s.write()
		}
		watched := s.revision
		for range rng.IntN(10) {
			s.write()
		}
		view, read := entries{}, s.revision
		view.replace(s.list())
		for range rng.IntN(20) {
			s.write()
		}
		rest, told := s.after(watched), maps.Clone(view)
		for len(rest) > 0 {
			n := 1 + rng.IntN(len(rest))
			for n < len(rest) && rest[n].Kv.ModRevision == rest[n-1].Kv.ModRevision {
				n++
			}
			events, follows := view.apply(rest[:n], read, false)
			if !follows {
				t.Fatal("an event does not follow from those before")
			}
			told = build(t, told, events)
			rest = rest[n:]
		}
		if !equal(view, s.content) || !equal(told, s.content) {
			t.Fatalf("view %v\ntold %v\nwant %v", view, told, s.content)
		}
	}
}

func TestAReadIsToldAsTheLeastDifference(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		s := &store{rng: rng, content: entries{}}
		for range rng.IntN(20) {
			s.write()
		}
		view := maps.Clone(s.content)
		before := maps.Clone(view)
		for range rng.IntN(6) {
			s.write()
		}
		diff := view.replace(s.list())
		if got := build(t, before, diff); !equal(got, s.content) || !equal(view, s.content) {
			t.Fatalf("view %v\ntold %v\nwant %v", view, got, s.content)
		}
		seen := map[string]bool{}
		for _, ev := range diff {
			if seen[ev.Key] {
				t.Fatalf("%s is told twice", ev.Key)
			}
			seen[ev.Key] = true
			if ev.Old != nil && ev.New != nil && same(ev.Old, ev.New) {
				t.Fatalf("%s is told, and is what it was: %v", ev.Key, ev.New)
			}
		}
	}
}

func TestAViewIsToldWholeToWhoComesLate(t *testing.T) {
	s := &store{rng: seeded(t), content: entries{}}
	for range 20 {
		s.write()
	}
	if got := build(t, entries{}, s.content.all()); !equal(got, s.content) {
		t.Errorf("told %v, want %v", got, s.content)
	}
}

// A restored backup may use a revision a second time, for something else.
func TestAReusedRevisionIsAnotherState(t *testing.T) {
	old := &Entry{Key: []byte("k"), Value: []byte("1"), CreateRevision: 5, ModRevision: 7, Lease: 1}
	for what, kv := range map[string]*Entry{
		"value":    {Key: []byte("k"), Value: []byte("2"), CreateRevision: 5, ModRevision: 7, Lease: 1},
		"revision": {Key: []byte("k"), Value: []byte("1"), CreateRevision: 5, ModRevision: 8, Lease: 1},
		"creation": {Key: []byte("k"), Value: []byte("1"), CreateRevision: 6, ModRevision: 7, Lease: 1},
		"lease":    {Key: []byte("k"), Value: []byte("1"), CreateRevision: 5, ModRevision: 7, Lease: 2},
	} {
		view := entries{"k": old}
		if got := view.replace([]*Entry{kv}); len(got) != 1 || got[0].New != kv || got[0].Old != old {
			t.Errorf("another %s is told as %v", what, got)
		}
	}
	view := entries{"k": old}
	again := &Entry{Key: []byte("k"), Value: []byte("1"), CreateRevision: 5, ModRevision: 7, Lease: 1}
	if got := view.replace([]*Entry{again}); got != nil || view["k"] != old {
		t.Errorf("the same state is told as %v", got)
	}
}

// What a view knew at its revision must be in every later read, or have been changed since.
func TestAReadContradictsAnotherHistoryOnly(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		s := &store{rng: rng, content: entries{}}
		for range 5 + rng.IntN(10) {
			s.write()
		}
		view, revision := maps.Clone(s.content), s.revision
		back := &store{rng: rng, content: maps.Clone(s.content), revision: s.revision}
		for range rng.IntN(6) {
			s.write()
		}
		if view.contradict(s.list(), revision) {
			t.Fatalf("a later read of the same history contradicts:\n%v\n%v", view, s.content)
		}

		// Another history, from some revisions before on, that has overtaken the view.
		back.revision -= 3
		key := fmt.Sprintf("other%d", rng.IntN(3))
		back.revision++
		back.content[key] = &Entry{Key: []byte(key), CreateRevision: back.revision, ModRevision: back.revision, Version: 1}
		for range 6 {
			back.write()
		}
		if back.content[key] != nil && !view.contradict(back.list(), revision) {
			t.Fatalf("another history does not contradict at %d:\n%v\n%v", revision, view, back.content)
		}
	}
}

func TestATailTellsWhatCameAfterTheReadAndNothingThatItHadPassed(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		s := &store{rng: rng, content: entries{}}
		for range 1 + rng.IntN(20) {
			s.write()
		}
		read := rng.Int64N(s.revision + 1)
		told, follows := raw(s.events, read, read)
		want := s.after(read)
		if !follows || len(told) != len(want) {
			t.Fatalf("%d events, want %d; in order: %t", len(told), len(want), follows)
		}
		for i, ev := range told {
			kv := want[i].Kv
			if ev.Key != string(kv.Key) || ev.Revision != kv.ModRevision || ev.Old != nil ||
				(ev.New == nil) != (want[i].Type == mvccpb.Event_DELETE) || ev.New != nil && ev.New != kv {
				t.Fatalf("event %d is %v, want %v", i, ev, want[i])
			}
		}
		passed := read + rng.Int64N(s.revision-read+1)
		if told, follows := raw(s.events, read, passed); passed > read && len(want) > 0 && want[0].Kv.ModRevision <= passed && (follows || len(told) > 0) {
			t.Fatalf("%d events from %d on, and the watch had passed %d", len(told), want[0].Kv.ModRevision, passed)
		}
	}
}
