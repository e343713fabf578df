package turn

import (
	"context"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// vicinity tells when a place's own key, or some that are older, have gone. Like the view of a whole line it lingers: who
// comes again to a line finds the same others ahead more often than not, and then its watches are open.
type vicinity struct {
	client   *clientv3.Client
	own      string
	keys     []string // own included
	follower *follow.Follower
	idle     func() // takes back the closing that is due; guarded by vicinities

	mu         sync.Mutex       // guards what is below
	read       int64            // revision of the last read
	there      map[string]int64 // create revisions of the keys that were there then and have not gone since
	deleted    map[string]int64 // when a key was last deleted
	generation int64
	seat       *seat // of the place that uses the view, or nil
	awaited    []member
	departed   chan struct{} // closed when all that are awaited are gone
}

// vicinities are those that linger, by client and own key.
var vicinities = struct {
	sync.Mutex
	idle map[lineID]*vicinity // guarded by Mutex
}{idle: map[lineID]*vicinity{}}

// vicinity returns a view of the place's own key and others. It is given back when the place stands up.
func (p *Place) vicinity(others []member) *vicinity {
	keys := []string{p.key}
	for _, m := range others {
		keys = append(keys, m.key)
	}
	if len(p.near) == 0 {
		if v := wake(p.sess.Client(), p.key); v != nil {
			p.near = append(p.near, v)
		}
		p.leaves = append(p.leaves, p.leaveVicinity)
	}
	if last := len(p.near) - 1; last >= 0 && p.near[last].covers(keys) {
		return p.near[last]
	}
	v := &vicinity{
		client: p.sess.Client(), own: p.key, keys: keys,
		there: map[string]int64{}, deleted: map[string]int64{},
	}
	v.follower = follow.Attach(v.client, follow.Keys(keys...).Deletions().For(follow.Lock), v)
	p.near = append(p.near, v)
	return v
}

// wake takes the lingering view of an own key, if there is one.
func wake(client *clientv3.Client, own string) *vicinity {
	vicinities.Lock()
	defer vicinities.Unlock()
	id := lineID{client, own}
	v := vicinities.idle[id]
	if v != nil {
		delete(vicinities.idle, id)
		v.idle()
	}
	return v
}

// leaveVicinity lets the last view linger, and closes those before: they were kept open so far because the last watch that
// is closed on a stream closes the stream.
func (p *Place) leaveVicinity() {
	last := len(p.near) - 1
	for _, v := range p.near[:last] {
		v.follower.Close()
	}
	v := p.near[last]
	v.mu.Lock()
	v.seat, v.awaited = nil, nil
	v.mu.Unlock()
	before := v.park(p.sess.Context())
	if before != nil {
		before.follower.Close()
	}
}

// park has the view closed after a while, or when life ends, unless it is woken before. It returns the one that was parked
// in its place, if the same key has been used since.
func (v *vicinity) park(life context.Context) (before *vicinity) {
	vicinities.Lock()
	defer vicinities.Unlock()
	id := lineID{v.client, v.own}
	if before = vicinities.idle[id]; before != nil {
		before.idle()
	}
	vicinities.idle[id] = v
	timer := time.AfterFunc(linger, v.close)
	stop := context.AfterFunc(life, v.close)
	v.idle = func() { timer.Stop(); stop() }
	return before
}

// close closes the view unless it is in use again.
func (v *vicinity) close() {
	vicinities.Lock()
	id := lineID{v.client, v.own}
	still := vicinities.idle[id] == v
	if still {
		delete(vicinities.idle, id)
		v.idle()
	}
	vicinities.Unlock()
	if still {
		v.follower.Close()
	}
}

func (v *vicinity) covers(keys []string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(v.keys, k) })
}

// await returns what is closed when all of some members are gone. The seat is told if its own key is.
func (v *vicinity) await(members []member, s *seat) <-chan struct{} {
	v.follower.Heard(s.token)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seat, v.awaited, v.departed = s, members, make(chan struct{})
	v.look()
	return v.departed
}

// Changed takes in a step of the view.
func (v *vicinity) Changed(c follow.Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.Generation != v.generation && !c.Initial {
		clear(v.deleted) // those were another history's revisions
		if v.seat != nil {
			v.seat.end(errRestored)
		}
	}
	v.read, v.generation = c.Complete, c.Generation
	for _, ev := range c.Events {
		if ev.New != nil {
			v.there[ev.Key] = ev.New.CreateRevision
			continue
		}
		delete(v.there, ev.Key)
		v.deleted[ev.Key] = max(v.deleted[ev.Key], ev.Revision)
	}
	v.look()
}

// Stale does nothing: what is not known changes nobody's turn, and a session that cannot be renewed ends.
func (v *vicinity) Stale(error) {}

// Live does nothing either: what was missed came with Changed.
func (v *vicinity) Live() {}

// look tells the place what has become of it and of those it waits for.
func (v *vicinity) look() {
	switch {
	case v.seat == nil:
	case v.gone(v.seat.key, v.seat.token):
		v.seat.end(errGone)
	case v.awaited != nil && !slices.ContainsFunc(v.awaited, func(m member) bool { return !v.gone(m.key, m.token) }):
		v.awaited = nil
		close(v.departed)
	}
}

// gone reports whether a key that was seen in line as of a token has left it: it was deleted since, or a read from after its
// coming did not find it. The view may not have come that far.
func (v *vicinity) gone(key string, token int64) bool {
	return v.deleted[key] > token || v.read >= token && v.there[key] != token
}
