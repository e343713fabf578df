package follow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// message is what a watch of the model brings: events, or an answer about progress.
type message struct {
	events []*mvccpb.Event
	answer int64
}

// woven is etcd with several watches, each with what is on its way to the view.
type woven struct {
	*store
	prefixes []string
	way      [][]message
	sent     int // how many of the store's events are on their way
}

func newWoven(rng *rand.Rand, watches int) *woven {
	m := &woven{store: &store{rng: rng, content: entries{}}, way: make([][]message, watches)}
	for i := range watches {
		m.prefixes = append(m.prefixes, string(rune('a'+i)))
	}
	return m
}

// write makes a revision of events under one or several of the prefixes, or elsewhere.
func (m *woven) write() {
	m.revision++
	for _, p := range m.prefixes {
		if m.rng.IntN(2) == 0 {
			continue
		}
		for _, k := range m.rng.Perm(3)[:1+m.rng.IntN(3)] {
			key := fmt.Sprint(p, k)
			old := m.content[key]
			kv := &Entry{Key: []byte(key), CreateRevision: m.revision, ModRevision: m.revision, Version: 1}
			if old != nil {
				kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
			}
			m.content[key] = kv
			m.events = append(m.events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
		}
	}
}

// send puts what has been written on its way, in responses of one or several whole revisions.
func (m *woven) send() {
	fresh := m.events[m.sent:]
	m.sent = len(m.events)
	for i, p := range m.prefixes {
		var resp []*mvccpb.Event
		for _, ev := range fresh {
			if !strings.HasPrefix(string(ev.Kv.Key), p) {
				continue
			}
			if n := len(resp); n > 0 && resp[n-1].Kv.ModRevision != ev.Kv.ModRevision && m.rng.IntN(2) == 0 {
				m.way[i] = append(m.way[i], message{events: resp})
				resp = nil
			}
			resp = append(resp, ev)
		}
		if len(resp) > 0 {
			m.way[i] = append(m.way[i], message{events: resp})
		}
	}
}

// answer has etcd say how far it is: behind all events so far, and to every watch.
func (m *woven) answer() {
	m.send()
	for i := range m.way {
		m.way[i] = append(m.way[i], message{answer: m.revision})
	}
}

// deliver brings w the next message of a random watch, and returns false if there is none.
func (m *woven) deliver(t *testing.T, w *weave) bool {
	t.Helper()
	for _, i := range m.rng.Perm(len(m.way)) {
		if len(m.way[i]) == 0 {
			continue
		}
		next := m.way[i][0]
		m.way[i] = m.way[i][1:]
		if next.events == nil {
			w.pass(i, next.answer)
		} else if !w.bring(i, next.events) {
			t.Fatalf("watch %d is said to have passed %d, and brings %v", i, w.passed[i], next.events)
		}
		return true
	}
	return false
}

// Transactions over several prefixes come as one response a prefix, each watch in its own time, with answers about progress in between.
// What is released is the sequence of whole revisions, and no later than can be known.
func TestWhatSeveralWatchesBringIsWholeRevisionsInOrder(t *testing.T) {
	rng := seeded(t)
	for round := range 500 {
		m := newWoven(rng, 2+rng.IntN(3))
		for range rng.IntN(5) {
			m.write()
		}
		// The watches are open from here on, and the read is of later.
		m.sent = len(m.events)
		for range rng.IntN(5) {
			m.write()
		}
		w, read := newWeave(len(m.prefixes), m.revision), m.revision
		var released []*mvccpb.Event
		step := func() {
			got := w.release()
			released = append(released, got...)
			if want := m.to(read, w.complete); !slices.Equal(keysOf(released), keysOf(want)) {
				t.Fatalf("round %d: complete at %d, released\n%v\nand it was\n%v", round, w.complete, keysOf(released), keysOf(want))
			}
			if holds := slices.ContainsFunc(w.held, func(h []*mvccpb.Event) bool { return len(h) > 0 }); holds != w.holds() {
				t.Fatalf("round %d: something is held: %t", round, holds)
			}
		}
		for range rng.IntN(60) {
			switch rng.IntN(6) {
			case 0, 1:
				m.write()
			case 2:
				m.send()
			case 3:
				m.answer()
			default:
				m.deliver(t, w)
				step()
			}
		}
		m.answer()
		for m.deliver(t, w) {
			step()
		}
		if w.complete != m.revision || w.holds() {
			t.Fatalf("round %d: complete at %d of %d, something is held: %t", round, w.complete, m.revision, w.holds())
		}
	}
}

// to returns the events of the revisions after one and up to another, as they are to be released.
func (m *woven) to(after, to int64) []*mvccpb.Event {
	var out []*mvccpb.Event
	for _, ev := range m.after(after) {
		if ev.Kv.ModRevision <= to {
			out = append(out, ev)
		}
	}
	slices.SortStableFunc(out, func(a, b *mvccpb.Event) int {
		if a.Kv.ModRevision != b.Kv.ModRevision {
			return int(a.Kv.ModRevision - b.Kv.ModRevision)
		}
		return strings.Compare(string(a.Kv.Key), string(b.Kv.Key))
	})
	return out
}

func keysOf(events []*mvccpb.Event) []string {
	var out []string
	for _, ev := range events {
		out = append(out, fmt.Sprintf("%s@%d", ev.Kv.Key, ev.Kv.ModRevision))
	}
	return out
}

// A revision that all watches have brought something of needs no answer; one that a single watch has brought does.
func TestARevisionIsReleasedWhenTheLastWatchHasPassedIt(t *testing.T) {
	event := func(key string, rev int64) []*mvccpb.Event {
		return []*mvccpb.Event{{Kv: &Entry{Key: []byte(key), ModRevision: rev}}}
	}
	w := newWeave(2, 5)
	bring := func(watch int, key string, rev int64, follows bool) {
		t.Helper()
		if got := w.bring(watch, event(key, rev)); got != follows {
			t.Errorf("%s at %d follows: %t", key, rev, got)
		}
	}
	releases := func(want ...string) {
		t.Helper()
		if got := keysOf(w.release()); !slices.Equal(got, want) {
			t.Errorf("released %v, want %v", got, want)
		}
	}
	bring(0, "a", 4, true) // in the read
	releases()
	bring(1, "b", 6, true)
	releases()
	bring(0, "a", 6, true)
	releases("a@6", "b@6")
	bring(0, "a", 8, true)
	w.pass(0, 9)
	w.pass(1, 7)
	releases()
	w.pass(1, 6) // says nothing new
	releases()
	w.pass(1, 8)
	releases("a@8")

	// An answer had said that the watch has brought everything up to 8.
	bring(1, "b", 8, false)
	bring(1, "b", 9, true)
	releases("b@9")
}

// What was applied in the midst of a revision is taken back as if nothing had been.
func TestWhatIsUndoneWasNever(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		s := &store{rng: rng, content: entries{}}
		for range 10 {
			s.write()
		}
		view, from := maps.Clone(s.content), s.revision
		before := maps.Clone(view)
		for range 1 + rng.IntN(6) {
			s.write()
		}
		events, follows := view.apply(s.after(from), from, false)
		if !follows {
			t.Fatal("an event does not follow from those before")
		}
		if view.undo(events); !maps.Equal(view, before) {
			t.Fatalf("undone %v:\n%v\nand it was\n%v", events, view, before)
		}
	}
}
