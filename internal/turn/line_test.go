package turn

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

func TestOnlyDirectChildrenStandInALine(t *testing.T) {
	for _, c := range []struct {
		key  string
		want bool
	}{
		{"orders/2a-1", true},
		{"orders/2a", true},
		{"orders/", false},
		{"orders", false},
		{"orders/42/2a-1", false},
		{"orders//2a-1", false},
		{"orders2/2a-1", false},
	} {
		if got := InLine(Prefix("orders"), c.key); got != c.want {
			t.Errorf("%q: %t, want %t", c.key, got, c.want)
		}
	}
}

// world is an etcd of one line, and the line as a view of it sees it.
type world struct {
	line     *line
	keys     map[string]int64 // create revisions
	revision int64
	missed   map[string]*follow.Entry // what the view has not been told, by key; nil for a key that is gone
	cut      bool
}

func newWorld() *world {
	return &world{
		line: &line{
			id:     lineID{prefix: "l/"},
			tokens: map[string]int64{}, seats: map[string]*seat{}, unseen: map[string]*seat{},
		},
		keys:   map[string]int64{},
		missed: map[string]*follow.Entry{},
	}
}

// put and remove change one key, and tell the line unless it is cut off.
func (w *world) put(key string) int64 {
	w.revision++
	w.keys[key] = w.revision
	w.tell(key, &follow.Entry{Key: []byte(key), CreateRevision: w.revision, ModRevision: w.revision})
	return w.revision
}

func (w *world) remove(key string) {
	w.revision++
	delete(w.keys, key)
	w.tell(key, nil)
}

func (w *world) tell(key string, now *follow.Entry) {
	if w.cut {
		w.missed[key] = now
		return
	}
	w.line.Changed(follow.Change{Revision: w.revision, Events: []follow.Event{{Key: key, New: now}}})
}

// resume tells the line the difference, as a view does that has read again: nothing of what came and went meanwhile.
func (w *world) resume() {
	w.cut = false
	var events []follow.Event
	for key, now := range w.missed {
		if now != nil || w.line.tokens[key] != 0 {
			events = append(events, follow.Event{Key: key, New: now})
		}
	}
	clear(w.missed)
	w.line.Changed(follow.Change{Revision: w.revision, Events: events})
}

func is(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Whatever befalls the keys and the view: the line is in order of age, the place whose turn it is knows, no other does, and
// whoever is gone knows that.
func TestALineKnowsWhoseTurnItIsWhateverItMissed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 200 {
		w := newWorld()
		w.line.Changed(follow.Change{Initial: true})
		sitting := map[*seat]bool{} // whether it has been told of its turn before
		for step := range 100 {
			key := fmt.Sprintf("l/%d", random.IntN(6))
			if random.IntN(8) == 0 {
				key = "l/below/" + key[2:]
			}
			_, there := w.keys[key]
			switch n := random.IntN(10); {
			case n < 5 && !there:
				token := w.put(key)
				if InLine("l/", key) && random.IntN(3) > 0 {
					if old := w.line.seats[key]; old != nil {
						w.line.rise(old)
						delete(sitting, old)
					}
					sitting[w.line.sit(key, token)] = false
				}
			case n < 8 && there:
				w.remove(key)
			case n == 8:
				w.cut = true
			case n == 9 && w.cut:
				w.resume()
			}
			if w.cut {
				continue // what is not known changes nobody's turn; what follows holds once it is
			}
			var order []string
			for key := range maps.Keys(w.keys) {
				if InLine("l/", key) {
					order = append(order, key)
				}
			}
			slices.SortFunc(order, func(a, b string) int { return int(w.keys[a] - w.keys[b]) })
			var known []string
			for _, m := range w.line.order {
				known = append(known, m.key)
			}
			if !slices.Equal(known, order) {
				t.Fatalf("round %d, step %d: the line is %v, want %v", round, step, known, order)
			}
			for s, before := range sitting {
				gone := w.keys[s.key] != s.token
				first := !gone && order[0] == s.key
				if is(s.lost) != gone || is(s.turn) != (first || before) {
					t.Fatalf("round %d, step %d: %s: lost %t, want %t; turn %t, want %t (before: %t)",
						round, step, s.key, is(s.lost), gone, is(s.turn), first, before)
				}
				sitting[s] = before || first
			}
		}
	}
}

func TestAReplacedHistoryEndsWhoSatBeforeAndNobodyWhoComesAfter(t *testing.T) {
	w := newWorld()
	// The view is shared and has lived through a restoration before this line was opened.
	w.line.Changed(follow.Change{Initial: true, Generation: 1})
	before := w.line.sit("l/1", w.put("l/1"))
	if is(before.lost) || !is(before.turn) {
		t.Errorf("who sits after a restoration: lost %t, turn %t", is(before.lost), is(before.turn))
	}
	w.line.Changed(follow.Change{Revision: 1, Generation: 2})
	if !is(before.lost) || before.why == nil {
		t.Error("who sat before another restoration was not told")
	}
}
