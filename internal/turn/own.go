package turn

import (
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// watchAfter is how long a place stands before its own key is watched, if no view of the line sees it anyway. Opened for every
// place, the watch would make an uncontended lock a third slower.
const watchAfter = 250 * time.Millisecond

// ownKey is the watch of a place's own key.
type ownKey struct {
	place *Place
	lose  func(why error) // told that the key is gone; more than once, perhaps

	mu       sync.Mutex
	timer    *time.Timer      // guarded by mu: opens the watch
	follower *follow.Follower // guarded by mu: the watch, once it is open
	over     bool             // guarded by mu: no watch may be opened any more

	generation int64 // of the view, when it was joined; owned by the view's goroutine
}

// watchOwn has lose told when the place's key is gone, until stop is called.
func (p *Place) watchOwn(lose func(why error)) (stop func()) {
	o := &ownKey{place: p, lose: lose}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = time.AfterFunc(watchAfter, o.open)
	return o.stop
}

// open opens the watch.
func (o *ownKey) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	o.follower = follow.Attach(o.place.sess.Client(), follow.Keys(o.place.key).For(follow.Lock), o)
	o.follower.Heard(o.place.token)
}

// stop ends the watching.
func (o *ownKey) stop() {
	o.mu.Lock()
	o.over = true
	o.timer.Stop()
	f := o.follower
	o.mu.Unlock()
	if f != nil {
		f.Close()
	}
}

// Changed tells of the loss if the key is not the one that was created, or etcd's past not the one it knew.
func (o *ownKey) Changed(c follow.Change) {
	if c.Initial {
		o.generation = c.Generation
	}
	if c.Generation != o.generation {
		o.lose(errRestored)
		return
	}
	if c.Revision < o.place.token {
		// Either a view from before the place was taken, and the key's creation is still to come; or etcd has been restored to
		// that time, which a renewal finds out, and the view, as it has heard of the token.
		o.place.sess.Probe()
		return
	}
	there := !c.Initial
	for _, ev := range c.Events {
		there = ev.New != nil && ev.New.CreateRevision == o.place.token
	}
	if !there {
		o.lose(errGone)
	}
}

// Stale does nothing: while etcd cannot be asked, the session's window decides.
func (o *ownKey) Stale(error) {}

// Live does nothing either: what was missed came with Changed.
func (o *ownKey) Live() {}
