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
	gone := func(key string, revision int64) follow.Event { return follow.Event{Key: key, Revision: revision} }
	all := follow.Change{Initial: true, Complete: 9, Events: []follow.Event{at("own", 9), at("a", 3), at("b", 5)}}
	for what, c := range map[string]struct {
		changes    []follow.Change
		done, lost bool
	}{
		"all there": {changes: []follow.Change{all}},
		"one goes":  {changes: []follow.Change{all, {Complete: 9, Events: []follow.Event{gone("a", 10)}}}},
		"both go": {
			changes: []follow.Change{
				all,
				{Complete: 9, Events: []follow.Event{gone("a", 10)}},
				{Complete: 9, Events: []follow.Event{gone("b", 11)}},
			},
			done: true,
		},
		"gone before the view": {
			changes: []follow.Change{{Initial: true, Complete: 9, Events: []follow.Event{at("own", 9)}}},
			done:    true,
		},
		"used again before the view": {
			changes: []follow.Change{{Initial: true, Complete: 11, Events: []follow.Event{at("own", 9), at("a", 10), at("b", 11)}}},
			done:    true,
		},
		"used again while the view was cut off": {
			changes: []follow.Change{all, {Complete: 11, Events: []follow.Event{at("a", 10), at("b", 11)}}},
			done:    true,
		},
		"gone while it was cut off": {
			changes: []follow.Change{all, {Complete: 11, Events: []follow.Event{gone("a", 0), gone("b", 0)}}},
			done:    true,
		},
		"own key goes": {
			changes: []follow.Change{
				all,
				{Complete: 9, Events: []follow.Event{gone("own", 10)}},
				{Complete: 9, Events: []follow.Event{gone("a", 11), gone("b", 12)}},
			},
			lost: true,
		},
		"own key gone before the view": {
			changes: []follow.Change{{Initial: true, Complete: 9, Events: []follow.Event{at("a", 3)}}},
			lost:    true,
		},
		"all go at once": {
			changes: []follow.Change{all, {Complete: 9, Events: []follow.Event{gone("a", 10), gone("b", 10), gone("own", 10)}}},
			lost:    true,
		},
		"the view has not come to the own key yet": {
			changes: []follow.Change{{Initial: true, Complete: 8, Events: []follow.Event{at("a", 3), at("b", 5)}}},
		},
		"a key's last use ended before the view came to this one": {
			changes: []follow.Change{
				{Initial: true, Complete: 2, Events: []follow.Event{at("own", 1), at("a", 2)}},
				{Complete: 2, Events: []follow.Event{gone("own", 3), gone("a", 3), gone("b", 4)}},
			},
		},
		"and then this one": {
			changes: []follow.Change{
				{Initial: true, Complete: 2, Events: []follow.Event{at("own", 1), at("a", 2)}},
				{Complete: 2, Events: []follow.Event{gone("a", 3), gone("b", 4)}},
				{Complete: 2, Events: []follow.Event{gone("a", 10), gone("b", 11)}},
			},
			done: true,
		},
		"put and gone again while it was cut off": {
			changes: []follow.Change{{Initial: true, Complete: 2}, {Complete: 12, Events: []follow.Event{at("own", 9)}}},
			done:    true,
		},
		"another history": {changes: []follow.Change{all, {Complete: 9, Generation: 1}}, lost: true},
	} {
		v := &vicinity{there: map[string]int64{}, deleted: map[string]int64{}}
		v.seat, v.departed = newSeat("own", 9), make(chan struct{})
		v.awaited = []member{{key: "a", token: 3}, {key: "b", token: 5}}
		for _, change := range c.changes {
			v.Changed(change)
		}
		if is(v.departed) != c.done || is(v.seat.lost) != c.lost {
			t.Errorf("%s: done %t, want %t; lost %t, want %t", what, is(v.departed), c.done, is(v.seat.lost), c.lost)
		}
	}
}
