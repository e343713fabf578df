package config

import (
	"bytes"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// mapInbox writes down what the follower says of several keys, until somebody takes it: of each key the newest only, but of
// each key. So nobody's Validate holds up the follower, none of what changes meanwhile is lost, and what waits is never
// more than there are keys.
type mapInbox struct {
	trim   int           // how much of a key is not its name
	wake   chan struct{} // holds a token when there is something to take
	live   chan struct{} // closed when the follower has first been live
	serial atomic.Int64  // the page's, for who asks without the mutex

	mu   sync.Mutex // guards what is below
	page mapMail
	read bool                     // the keys are those of a linearizable read, and what followed
	half bool                     // Changed was called while cut off: Live or Stale is called next
	cold map[string]*follow.Entry // the keys that a single member knew, until there is a linearizable read
}

// mapMail is what was written down since it was last taken, and where that leads.
type mapMail struct {
	newest     map[string]*follow.Entry // by name; nil for a key that is gone
	revision   int64                    // as of which the keys are so
	generation int64
	cut        error // why the keys are not followed at present
	serial     int64 // counts what changed of keys; 0 while nothing is known
	number     int64 // counts everything
}

// newMapInbox returns one for keys that all start with a prefix, which is no part of their names.
func newMapInbox(prefix string) *mapInbox {
	return &mapInbox{
		trim: len(prefix),
		wake: make(chan struct{}, 1),
		live: make(chan struct{}),
		page: mapMail{newest: map[string]*follow.Entry{}, cut: errUnread},
	}
}

// Changed takes in a step. What ends an interruption is to be seen together with its end: the next call, which is Live, or
// Stale for somebody who joins a view that is cut off, makes it known.
func (l *mapInbox) Changed(c follow.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page.revision, l.page.generation = c.Revision, c.Generation
	for _, ev := range c.Events {
		name := ev.Key[l.trim:]
		if was := l.cold[name]; was == nil || !sameDocument(was, ev.New) {
			l.page.newest[name] = ev.New
		}
		delete(l.cold, name)
	}
	for name := range l.cold { // only the first change, which is everything, finds any
		l.page.newest[name] = nil
	}
	l.cold, l.read = nil, true
	if c.Initial || len(c.Events) > 0 {
		l.count()
	}
	if l.half = l.page.cut != nil; !l.half {
		l.tell()
	}
}

// Stale takes in that the keys are not followed.
func (l *mapInbox) Stale(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page.cut, l.half = err, false
	l.tell()
}

// Live takes in that they are.
func (l *mapInbox) Live() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page.cut, l.half = nil, false
	l.tell()
	select {
	case <-l.live:
	default:
		close(l.live)
	}
}

// begin takes in what a single member knows, unless something better is known.
func (l *mapInbox) begin(kvs []*mvccpb.KeyValue, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read {
		return
	}
	l.cold = make(map[string]*follow.Entry, len(kvs))
	for _, kv := range kvs {
		name := string(kv.Key)[l.trim:]
		l.cold[name], l.page.newest[name] = kv, kv
	}
	l.page.revision = revision
	l.count()
	l.tell()
}

// known reports whether there was a linearizable read.
func (l *mapInbox) known() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read
}

// take returns what was written down since the last time, if it is whole.
func (l *mapInbox) take() (p mapMail, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.half {
		return mapMail{}, false
	}
	p = l.page
	if len(p.newest) == 0 {
		p.newest = nil // it stays the follower's
	} else {
		l.page.newest = map[string]*follow.Entry{}
	}
	return p, true
}

// written is the number of the newest that was written down.
func (l *mapInbox) written() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.page.number
}

// count notes that keys have changed. The caller holds mu.
func (l *mapInbox) count() {
	l.page.serial++
	l.serial.Store(l.page.serial)
}

// tell makes it known that something was written down. The caller holds mu.
func (l *mapInbox) tell() {
	l.page.number++
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sameDocument reports whether two states of a key are the same document of the same revision.
func sameDocument(a, b *follow.Entry) bool {
	return a.ModRevision == b.ModRevision && bytes.Equal(a.Value, b.Value)
}
