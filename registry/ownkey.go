package registry

import (
	"slices"
	"sync"

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

// fateOf judges what was found at the key, nil for nothing, against the value that was written. leases are those of
// the registration's sessions, the current one last.
//
// A lease tells who wrote: only what a living session put, or a tool that was given its lease, hangs on one. A key
// without a lease is a stranger's edit, by which nobody claims to be alive.
func fateOf(found *follow.Entry, value string, leases []int64) fate {
	switch {
	case found == nil || found.Lease == 0:
		return disturbed
	case !slices.Contains(leases, found.Lease):
		return taken
	case found.Lease != leases[len(leases)-1] || string(found.Value) != value:
		return disturbed
	}
	return unchanged
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

	mu   sync.Mutex
	seen sighting // guarded by mu
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
	select {
	case o.moved <- struct{}{}:
	default:
	}
}

// Stale does nothing: while etcd cannot be asked, the session's window decides.
func (o *ownKey) Stale(error) {}

// Live does nothing either: what was missed came with Changed.
func (o *ownKey) Live() {}
