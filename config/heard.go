package config

import (
	"fmt"
	"sync"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// heard is what a value is to be made of, as last heard. What came before is of no interest to anybody.
type heard struct {
	content    content
	at         int64 // revision as of which that is so
	generation int64
	serial     int   // counts what content was, so that each is read once; 0 before the first
	cut        error // why the keys are not followed at present
}

// ear takes in what the followers say, and writes down what follows from it. Reading documents is left to the Value's
// goroutine: the followers' are not to be held up by somebody's Validate.
//
// The keys and their rollout are followed by two views, which are not at one revision. The order in which they tell does
// not matter:
//
//   - who runs a rollout's value is decided by the plan alone, and plan and value come from one view;
//   - the promotion of a rollout writes plan and key in one transaction. If the key is heard first, the rollout's value stays in
//     use, which is the same; if the plan is, what is in use stays until the key's view has got there.
type ear struct {
	heard *latest.Cell[heard]
	key   layout   // of a document that may be rolled out
	who   Identity // nobody, of a value that takes no part in rollouts

	mu      sync.Mutex // guards all below
	keys    side
	rollout side
	listens bool // to rollouts
	reports bool // what this instance says is in etcd: before that, nobody would notice if it came to grief
}

// side is what one view has said.
type side struct {
	content    content
	at         int64
	generation int64
	read       bool
	cut        error
	live       chan struct{} // closed when the view is first live
}

func newEar(key layout, who Identity) *ear {
	e := &ear{heard: latest.New(heard{cut: errUnread}), key: key, who: who, listens: who.ID != ""}
	e.keys.cut = errUnread
	e.keys.live, e.rollout.live = make(chan struct{}), make(chan struct{})
	if e.listens {
		e.rollout.cut = errUnread
	}
	return e
}

// settle writes down what follows from what both views have said. The caller holds mu.
func (e *ear) settle() {
	h := e.heard.Get()
	h.cut = e.cut()
	if e.keys.read && (e.rollout.read || !e.listens) {
		// While it is not decided, what is in use is still of the history that it was read in.
		if c, decided := e.choose(); decided {
			h.at, h.generation = e.keys.at, e.keys.generation
			if h.serial == 0 || !c.same(h.content) {
				h.content = c
				h.serial++
			}
		}
	}
	e.heard.Set(h)
}

// cut is why what is heard may be old.
func (e *ear) cut() error {
	switch {
	case e.keys.cut != nil:
		return e.keys.cut
	case e.rollout.cut != nil:
		return fmt.Errorf("its rollouts: %w", e.rollout.cut)
	}
	return nil
}

// choose returns what the value is to be made of, unless that is still to come.
func (e *ear) choose() (c content, decided bool) {
	var plan, value *follow.Entry
	for _, entry := range e.rollout.content.entries {
		switch string(entry.Key) {
		case e.key.plan():
			plan = entry
		case e.key.candidate():
			value = entry
		}
	}
	if plan == nil {
		return e.keys.content, true
	}
	r, err := decodeRecord(plan.Value)
	switch {
	case err != nil: // nobody is in it
	case r.State == Promoted && e.keys.at < plan.ModRevision:
		return content{}, false
	case value != nil && e.reports && r.includes(e.key.key, e.who):
		return content{entries: []*follow.Entry{value}, revision: value.ModRevision, rollout: r.ID}, true
	}
	return e.keys.content, true
}

// knows reports whether anything was heard of the keys, as from a view that others have opened.
func (e *ear) knows() bool { return e.heard.Ptr().serial > 0 }

// reporting takes in that the instance's reports are in etcd, so that it may run the value of a rollout.
func (e *ear) reporting() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reports = true
	e.settle()
}

// start takes in what was read from a single member, which may be old: it is not followed.
func (e *ear) start(entries []*follow.Entry, at int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys.read {
		return
	}
	e.keys.content, e.keys.at, e.keys.read = contentOf(entries), at, true
	e.rollout.read = true
	e.settle()
}

// listener is told by a view of what is on one side of an ear.
type listener struct {
	ear  *ear
	side *side
}

// Changed takes in the newest state of the keys, or that the history it is part of was replaced.
func (l listener) Changed(c follow.Change) {
	l.ear.mu.Lock()
	defer l.ear.mu.Unlock()
	l.side.content = l.side.content.after(c)
	l.side.at, l.side.generation, l.side.read = c.Revision, c.Generation, true
	l.ear.settle()
}

// Stale takes in that the keys are not followed.
func (l listener) Stale(err error) {
	l.ear.mu.Lock()
	defer l.ear.mu.Unlock()
	l.side.cut = err
	l.ear.settle()
}

// Live takes in that they are.
func (l listener) Live() {
	l.ear.mu.Lock()
	defer l.ear.mu.Unlock()
	select {
	case <-l.side.live:
	default:
		close(l.side.live)
	}
	if l.side.cut != nil {
		l.side.cut = nil
		l.ear.settle()
	}
}
