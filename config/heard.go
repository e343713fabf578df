package config

import (
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// heard is what the follower last said about the key. What came before is of no interest to anybody.
type heard struct {
	document   *follow.Entry // nil while the key does not exist
	at         int64         // revision as of which that is so
	generation int64
	serial     int   // counts what document was, so that each is read once; 0 before the first
	cut        error // why the key is not followed at present
}

// listener writes down what the follower says. Reading documents is left to the Value's goroutine: the
// follower's is not to be held up by somebody's Validate.
type listener struct {
	heard *latest.Cell[heard]
}

// Changed takes in the newest state of the key, or that the history it is part of was replaced.
func (l listener) Changed(c follow.Change) {
	h := l.heard.Get()
	h.generation = c.Generation
	if c.Initial || len(c.Events) > 0 {
		h.document, h.at = nil, c.Revision
		h.serial++
	}
	for _, ev := range c.Events {
		h.document = ev.New
	}
	l.heard.Set(h)
}

// Stale takes in that the key is not followed.
func (l listener) Stale(err error) {
	h := l.heard.Get()
	h.cut = err
	l.heard.Set(h)
}

// Live takes in that it is.
func (l listener) Live() {
	h := l.heard.Get()
	if h.cut != nil {
		h.cut = nil
		l.heard.Set(h)
	}
}
