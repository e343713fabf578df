package turn

import (
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// at is a key as it was put at a revision.
func at(key string, revision int64) follow.Event {
	return follow.Event{Key: key, New: &follow.Entry{Key: []byte(key), CreateRevision: revision}}
}

func TestAWaiterBehindOthersIsToldWhenTheyAreGoneOrItIs(t *testing.T) {
	gone := func(key string) follow.Event { return follow.Event{Key: key} }
	for what, c := range map[string]struct {
		changes    []follow.Change
		done, lost bool
	}{
		"all there": {
			changes: []follow.Change{{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}}},
		},
		"one goes": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{gone("a")}},
			},
		},
		"both go": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{gone("a")}},
				{Events: []follow.Event{gone("b")}},
			},
			done: true,
		},
		"gone before the view": {
			changes: []follow.Change{{Initial: true, Events: []follow.Event{at("own", 9)}}},
			done:    true,
		},
		"used again before the view": {
			changes: []follow.Change{{Initial: true, Events: []follow.Event{at("own", 9), at("a", 10), at("b", 11)}}},
			done:    true,
		},
		"used again while the view was cut off": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{at("a", 10), at("b", 11)}},
			},
			done: true,
		},
		"its value changes": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{at("a", 3), at("own", 9)}},
			},
		},
		"own key goes": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{gone("own")}},
				{Events: []follow.Event{gone("a"), gone("b")}},
			},
			lost: true,
		},
		"own key gone before the view": {
			changes: []follow.Change{{Initial: true, Events: []follow.Event{at("a", 3)}}},
			lost:    true,
		},
		"all go at once": {
			changes: []follow.Change{
				{Initial: true, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}},
				{Events: []follow.Event{gone("a"), gone("b"), gone("own")}},
			},
			lost: true,
		},
	} {
		w := &departures{
			own: "own", token: 9,
			left: map[string]int64{"a": 3, "b": 5},
			done: make(chan struct{}),
			lost: make(chan struct{}),
		}
		for _, change := range c.changes {
			w.Changed(change)
		}
		if is(w.done) != c.done || is(w.lost) != c.lost {
			t.Errorf("%s: done %t, want %t; lost %t, want %t", what, is(w.done), c.done, is(w.lost), c.lost)
		}
	}
}
