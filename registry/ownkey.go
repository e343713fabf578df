package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// fate is what has become of a registration's key.
type fate uint8

const (
	unknown   fate = iota // nothing newer is known than what the registration did itself
	unchanged             // it is as it was written
	disturbed             // it is gone or was overwritten, and is to be put back
	taken                 // another instance, which is alive, has it
)

// fateOf judges what was found at the key, nil for nothing, against the value that was written, none for no key. leases
// are those of the registration's sessions, the current one last.
//
// A lease tells who wrote: only what a living session put, or a tool that was given its lease, hangs on one. A key
// without a lease is a stranger's edit, by which nobody claims to be alive.
func fateOf(found *follow.Entry, value string, leases []int64) fate {
	switch {
	case found == nil && value == absent:
		return unchanged
	case found == nil || found.Lease == 0:
		return disturbed
	case !slices.Contains(leases, found.Lease):
		return taken
	case value == absent:
		return disturbed
	case found.Lease != leases[len(leases)-1] || string(found.Value) != value:
		return disturbed
	}
	return unchanged
}

// replacedBy is [ErrReplaced] with the address of who has the key, so that an ID that was given twice is found.
func replacedBy(found *follow.Entry) error {
	var other struct{ Addr string }
	if len(found.Value) > maxSize || json.Unmarshal(found.Value, &other) != nil || !hostPort(other.Addr) {
		return ErrReplaced
	}
	return fmt.Errorf("%w: it is at %s", ErrReplaced, other.Addr)
}

// sighting is what is known of a key by following it.
type sighting struct {
	entry      *follow.Entry // nil if it is not there
	revision   int64         // at which that was so
	generation int64
}

// ownKey observes the key of a registration.
type ownKey struct {
	moved chan struct{} // holds a token when there was a sighting that the announcer has not looked at
	told  chan struct{} // closed when etcd has been asked for the first time
	ended chan struct{} // closed when follow has returned
	once  sync.Once     // of told

	mu       sync.Mutex
	seen     sighting         // guarded by mu
	follower *follow.Follower // guarded by mu: nil until the key is followed
	known    int64            // guarded by mu: the newest revision that the announcer was answered with
}

func newOwnKey() *ownKey {
	return &ownKey{moved: make(chan struct{}, 1), told: make(chan struct{}), ended: make(chan struct{})}
}

// follow opens the watch, once there is a turn. A registration does not wait for it: the key is read when the watch is open,
// so that what has happened to it meanwhile is seen then.
func (o *ownKey) follow(life context.Context, client *clientv3.Client, key string, turns chan struct{}) {
	defer close(o.ended)
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	case <-life.Done():
		return
	}
	if life.Err() != nil {
		return
	}
	f := follow.Attach(client, follow.Keys(key), o)
	o.mu.Lock()
	o.follower = f
	known := o.known
	o.mu.Unlock()
	f.Heard(known)
	select {
	case <-o.told:
	case <-life.Done():
	}
}

// heard tells the watch of a revision that the announcer was answered with.
func (o *ownKey) heard(revision int64) {
	o.mu.Lock()
	o.known = revision
	f := o.follower
	o.mu.Unlock()
	if f != nil {
		f.Heard(revision)
	}
}

// close ends the watch. The life that follow was given has ended.
func (o *ownKey) close() {
	<-o.ended
	if o.follower != nil { // follow has returned: nobody writes it any more
		o.follower.Close()
	}
}

// last is the newest sighting.
func (o *ownKey) last() sighting {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// Changed takes in a step of the key. After an interruption it comes without events if the key is as it was known. It
// may have been put and deleted meanwhile all the same; that it is missing at a later revision tells.
func (o *ownKey) Changed(c follow.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ev := range c.Events {
		o.seen.entry = ev.New
	}
	o.seen.revision, o.seen.generation = c.Revision, c.Generation
	o.once.Do(func() { close(o.told) })
	select {
	case o.moved <- struct{}{}:
	default:
	}
}

// Stale only lets others have their turn: while etcd cannot be asked, the session's window decides.
func (o *ownKey) Stale(error) { o.once.Do(func() { close(o.told) }) }

// Live does nothing either: what was missed came with Changed.
func (o *ownKey) Live() {}
