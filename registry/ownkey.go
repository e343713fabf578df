package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/retry"
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
//
// It does not leave it to the view to connect again: after an outage the views of thousands of keys would do so at once, with
// several attempts each that client/v3 keeps for as long as etcd is away. A view that is not live is closed, and the next
// opened when it is its turn and etcd answers.
type ownKey struct {
	moved chan struct{} // holds a token when there was a sighting that the announcer has not looked at
	told  chan struct{} // holds a token when the view has first said whether it is live
	stale chan struct{} // holds a token when it is not
	ended chan struct{} // closed when run has returned

	mu       sync.Mutex
	seen     sighting         // guarded by mu
	follower *follow.Follower // guarded by mu: nil while the key is not followed
	known    int64            // guarded by mu: the newest revision that the announcer was answered with
	asked    int64            // guarded by mu: what that was when the view was opened
	past     int64            // guarded by mu: generation is that of the view and this one
	gate     chan struct{}    // guarded by mu: closed when etcd is back; nil while it is not known to be away
}

func newOwnKey() *ownKey {
	return &ownKey{
		moved: make(chan struct{}, 1),
		told:  make(chan struct{}, 1),
		stale: make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
}

// run follows the key until life ends. A registration does not wait for it: the key is read when the watch is open, so
// that what has happened to it meanwhile is seen then.
func (o *ownKey) run(life context.Context, client *clientv3.Client, key string, turns chan struct{}) {
	defer close(o.ended)
	waits := retry.Policy{}.Backoff()
	for first := true; life.Err() == nil; first = false {
		f := o.open(life, client, key, turns, first)
		if f == nil {
			_ = waits.Wait(life)
			continue
		}
		since := time.Now()
		select {
		case <-o.stale:
		case <-life.Done():
		}
		o.mu.Lock()
		o.follower = nil
		o.mu.Unlock()
		f.Close()
		if time.Since(since) >= calmAfter {
			waits.Reset()
		}
		_ = waits.Wait(life)
	}
}

// hold keeps the key from being followed again until resume is called: the announcer has not reached etcd, and to try that
// for each key in two ways would be no use.
func (o *ownKey) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate == nil {
		o.gate = make(chan struct{})
	}
}

// resume says that etcd has answered.
func (o *ownKey) resume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate != nil {
		close(o.gate)
		o.gate = nil
	}
}

// passed waits while etcd is known to be away, and reports whether it has been.
func (o *ownKey) passed(life context.Context) bool {
	o.mu.Lock()
	gate := o.gate
	o.mu.Unlock()
	if gate == nil {
		return false
	}
	select {
	case <-gate:
	case <-life.Done():
	}
	return true
}

// open opens a view when there is a turn, and holds that until the view says whether it is live. Unless etcd has answered
// a moment ago, when the key was written, it is asked before.
func (o *ownKey) open(life context.Context, client *clientv3.Client, key string, turns chan struct{}, first bool) *follow.Follower {
	answers := o.passed(life) || first
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	case <-life.Done():
		return nil
	}
	if !answers {
		_, err := call.Do(life, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, key, clientv3.WithCountOnly())
		})
		if err != nil {
			return nil
		}
	}
	for _, before := range []chan struct{}{o.told, o.stale} {
		select {
		case <-before:
		default:
		}
	}
	o.mu.Lock()
	o.asked = o.known
	o.mu.Unlock()
	f := follow.Attach(client, follow.Keys(key).For(follow.Registry), o)
	o.mu.Lock()
	o.follower = f
	known := o.known
	o.mu.Unlock()
	f.Heard(known)
	select {
	case <-o.told:
	case <-life.Done():
	}
	return f
}

// heard tells the view of a revision that the announcer was answered with.
func (o *ownKey) heard(revision int64) {
	o.mu.Lock()
	o.known = revision
	f := o.follower
	o.mu.Unlock()
	if f != nil {
		f.Heard(revision)
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
//
// The first word of a view is from after it was opened. If that is from before what was known then, history was replaced. But
// another registration of this key may have opened it, through the same client: then what is missing is still to come.
func (o *ownKey) Changed(c follow.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.Initial {
		o.seen.entry = nil
		o.past = o.seen.generation - c.Generation
		if c.Revision < o.asked && !c.Joined {
			o.past++
		}
	}
	for _, ev := range c.Events {
		o.seen.entry = ev.New
	}
	o.seen.revision, o.seen.generation = c.Revision, o.past+c.Generation
	token(o.told)
	token(o.moved)
}

// Stale has the view closed. While etcd cannot be asked, the session's window decides.
func (o *ownKey) Stale(error) {
	token(o.told)
	token(o.stale)
}

// Live does nothing: what was missed came with Changed.
func (o *ownKey) Live() {}

// token puts one into a channel that has room for one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
