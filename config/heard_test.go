package config

import (
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// A backup from before a promotion is restored, and the key's view sees that before the rollouts' does. Until both have, what is
// in use is of the history before, and nobody is told that it is of the next.
func TestWhatIsInUseIsOfTheHistoryItWasReadIn(t *testing.T) {
	key := layout{"app"}
	e := newEar(key, Identity{ID: "a"})
	keys, rollouts := listener{e, &e.keys}, listener{e, &e.rollout}
	document := func(revision int64) follow.Event {
		return follow.Event{Key: key.key, New: &follow.Entry{Key: []byte(key.key), ModRevision: revision}}
	}
	plan := &follow.Entry{Key: []byte(key.plan()), ModRevision: 100, Value: []byte(`{"id":"r","state":"promoted","steps":[{"percent":100}]}`)}
	keys.Changed(follow.Change{Initial: true, Revision: 100, Events: []follow.Event{document(100)}})
	rollouts.Changed(follow.Change{Initial: true, Revision: 100, Events: []follow.Event{{Key: key.plan(), New: plan}}})
	if h := e.heard.Get(); h.content.revision != 100 || h.generation != 0 || h.serial != 1 {
		t.Fatalf("promoted: %+v", h)
	}
	keys.Changed(follow.Change{Revision: 90, Generation: 1, Events: []follow.Event{document(80)}})
	if h := e.heard.Get(); h.content.revision != 100 || h.generation != 0 {
		t.Errorf("revision %d is said to be of generation %d", h.content.revision, h.generation)
	}
	rollouts.Changed(follow.Change{Revision: 90, Generation: 1, Events: []follow.Event{{Key: key.plan(), Old: plan}}})
	if h := e.heard.Get(); h.content.revision != 80 || h.generation != 1 || h.at != 90 {
		t.Errorf("restored: %+v", h)
	}
}
