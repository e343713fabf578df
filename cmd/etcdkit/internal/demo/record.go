package demo

import (
	"slices"
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// said is an event that a service told, as it was heard here.
type said struct {
	orders.Event
	id string
	at time.Time
}

// write is one change of one key in etcd, as a plain watch brought it.
type write struct {
	at       time.Time // when it came, by this process's clock
	revision int64
	key      string
	value    string
	created  int64 // the revision that created the key
	version  int64 // how often it was written since
	lease    int64
	deleted  bool // then only revision and key are known
}

// evidence is what is known at one time: what the services said, in the order in which it was heard, and what
// etcd did, in the order of revisions.
type evidence struct {
	said   []said
	writes history
}

// heard returns the first event for which match is true.
func (e evidence) heard(match func(said) bool) (said, bool) {
	if i := slices.IndexFunc(e.said, match); i >= 0 {
		return e.said[i], true
	}
	return said{}, false
}

// heardFrom returns, for each of ids, the first event of a kind for which match is true; none for those that have
// told no such thing.
func (e evidence) heardFrom(ids []string, kind orders.Kind, match func(said) bool) map[string]said {
	found := map[string]said{}
	for _, id := range ids {
		if s, ok := e.heard(func(s said) bool { return s.id == id && s.Kind == kind && match(s) }); ok {
			found[id] = s
		}
	}
	return found
}

// record collects evidence. It is safe for concurrent use.
type record struct {
	mu      sync.Mutex // guards all
	known   evidence   // its slices are only appended to
	failure error      // the first one: a service that ended by itself, a watch that broke
	more    chan struct{}
}

func newRecord() *record { return &record{more: make(chan struct{})} }

// hear adds what a service said.
func (r *record) hear(s said) {
	r.add(func() { r.known.said = append(r.known.said, s) })
}

// see adds what etcd did.
func (r *record) see(ws ...write) {
	r.add(func() { r.known.writes = append(r.known.writes, ws...) })
}

// fail notes that there will be no more evidence of some kind.
func (r *record) fail(err error) {
	r.add(func() {
		if r.failure == nil {
			r.failure = err
		}
	})
}

func (r *record) add(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
	close(r.more)
	r.more = make(chan struct{})
}

// now returns the evidence so far, a channel that is closed when there is more, and what has failed.
func (r *record) now() (evidence, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known, r.more, r.failure
}
