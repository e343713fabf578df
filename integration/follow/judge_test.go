package follow_test

import (
	"bytes"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// judge is an observer that knows what package follow promises. It builds the view from the events alone, and
// notes every call that breaks the promise in any scenario; compare then holds the calls against what really happened.
type judge struct {
	follower *follow.Follower

	// unordered is set before the first call for a view of several keys: their watches have no order among each other.
	unordered bool

	// whole is set before the first call for a view of several prefixes: it brings the events of one revision by key.
	whole bool

	// rule, if set before the first call, says what is wrong with a state of the view, or "".
	rule func(content) string

	// gate, if set before the first call, is called at the start of every call, which it may hold up.
	gate func()

	calling atomic.Bool // and not under mu, which would make one call wait for the other

	mu      sync.Mutex // guards what is below
	calls   []told
	content content
	last    follow.Change // the newest, without its events
	live    bool
	changed bool // Changed was called since the view is not live
	closed  bool
	wrong   []string
	called  chan struct{} // closed and replaced at every call
}

// told is one call that a judge was given.
type told struct {
	at     time.Time
	change *follow.Change // of Changed
	resync bool           // the change came between Stale and Live
	stale  error          // of Stale
	live   bool           // it was Live
}

// content is a view as its events build it.
type content map[string]*follow.Entry

// attach has a judge watch over a view until the test ends. What it finds wrong then fails the test.
func attach(t *testing.T, client *clientv3.Client, rng follow.Range) *judge {
	t.Helper()
	j := &judge{}
	j.attach(t, client, rng)
	return j
}

func (j *judge) attach(t *testing.T, client *clientv3.Client, rng follow.Range) {
	t.Helper()
	j.start(client, rng)
	t.Cleanup(func() {
		j.close()
		j.sentence(t)
	})
}

// start attaches the judge to a view.
func (j *judge) start(client *clientv3.Client, rng follow.Range) {
	j.content = content{}
	j.called = make(chan struct{})
	j.follower = follow.Attach(client, rng, j)
}

// sentence fails the test with what the judge has found wrong.
func (j *judge) sentence(t testing.TB) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, w := range j.wrong {
		t.Error(w)
	}
}

// close closes the follower. A call that comes afterwards is one too many.
func (j *judge) close() {
	j.follower.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// enter begins a call, with the lock held.
func (j *judge) enter(what string) {
	overlaps := j.calling.Swap(true)
	if j.gate != nil {
		j.gate()
	}
	j.mu.Lock()
	if overlaps {
		j.blame("%s was called during another call", what)
	}
	if j.closed {
		j.blame("%s was called after Close had returned", what)
	}
	close(j.called)
	j.called = make(chan struct{})
}

// leave ends a call.
func (j *judge) leave() {
	j.mu.Unlock()
	j.calling.Store(false)
}

func (j *judge) blame(format string, args ...any) {
	j.wrong = append(j.wrong, fmt.Sprintf("after %d calls: ", len(j.calls))+fmt.Sprintf(format, args...))
}

// Changed takes in a step of the view.
func (j *judge) Changed(c follow.Change) {
	j.enter("Changed")
	defer j.leave()
	first := len(j.content) == 0 && j.last.Revision == 0
	resync := !j.live && !c.Initial
	switch {
	case c.Initial != first:
		j.blame("Initial is %t, and this is the first change: %t", c.Initial, first)
	case first:
	case j.changed:
		j.blame("a second change, %d, before the view is live again", c.Revision)
	case c.Generation != j.last.Generation && (c.Generation != j.last.Generation+1 || !resync):
		j.blame("generation %d after %d (resync: %t)", c.Generation, j.last.Generation, resync)
	case c.Generation == j.last.Generation && c.Revision < j.last.Revision:
		j.blame("revision %d after %d in the same generation", c.Revision, j.last.Revision)
	case len(c.Events) == 0 && !resync:
		j.blame("a change without events")
	}
	j.changed = !j.live
	seen := map[string]bool{}
	newest := j.last.Revision // of the events so far
	for _, ev := range c.Events {
		j.check(c, ev)
		if (c.Initial || resync) && seen[ev.Key] {
			j.blame("a read brought %q twice", ev.Key)
		}
		seen[ev.Key] = true
		if ev.New == nil {
			delete(j.content, ev.Key)
			continue
		}
		j.content[ev.Key] = ev.New
		if !c.Initial && !resync && !j.unordered {
			if ev.New.ModRevision <= j.last.Revision {
				j.blame("%q at revision %d, after a change at %d", ev.Key, ev.New.ModRevision, j.last.Revision)
			}
			if ev.New.ModRevision < newest {
				j.blame("%q at revision %d, after an event at %d", ev.Key, ev.New.ModRevision, newest)
			}
			newest = ev.New.ModRevision
		}
	}
	if c.Complete != c.Revision && !j.unordered {
		j.blame("complete up to %d, at revision %d", c.Complete, c.Revision)
	}
	if j.rule != nil {
		if wrong := j.rule(j.content); wrong != "" {
			j.blame("at revision %d: %s", c.Revision, wrong)
		}
	}
	j.calls = append(j.calls, told{at: time.Now(), change: &c, resync: resync})
	j.last = c
	j.last.Events = nil
}

// check looks at one event of a change.
func (j *judge) check(c follow.Change, ev follow.Event) {
	old := j.content[ev.Key]
	switch {
	case ev.New == nil && ev.Old == nil:
		j.blame("event of %q without any state", ev.Key)
	case ev.New != nil && string(ev.New.Key) != ev.Key || ev.Old != nil && string(ev.Old.Key) != ev.Key:
		j.blame("event of %q with the states %v and %v", ev.Key, ev.Old, ev.New)
	case !same(ev.Old, old):
		j.blame("event of %q from %v, which was at %v", ev.Key, ev.Old, old)
	case ev.New != nil && same(ev.New, old):
		j.blame("event of %q that changes nothing: %v", ev.Key, old)
	case ev.New != nil && ev.New.ModRevision > c.Revision:
		j.blame("event of %q at %d in a change at %d", ev.Key, ev.New.ModRevision, c.Revision)
	}
}

// Stale takes in that the view is not live.
func (j *judge) Stale(err error) {
	j.enter("Stale")
	defer j.leave()
	if err == nil {
		j.blame("Stale without a reason")
	}
	j.live, j.changed = false, false
	j.calls = append(j.calls, told{at: time.Now(), stale: err})
}

// Live takes in that the view is live.
func (j *judge) Live() {
	j.enter("Live")
	defer j.leave()
	if j.live {
		j.blame("Live again, and Stale was not called")
	}
	if !j.changed {
		j.blame("Live, and Changed was not called before")
	}
	j.live, j.changed = true, false
	j.calls = append(j.calls, told{at: time.Now(), live: true})
}

// wait returns when ok holds, which is asked after every call and with the lock held.
func (j *judge) wait(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	if !j.comes(within, ok) {
		j.mu.Lock()
		tail := j.tail()
		j.mu.Unlock()
		t.Fatalf("%s: not so within %v; the last calls:\n%s", what, within, tail)
	}
}

// comes reports whether ok comes to hold.
func (j *judge) comes(within time.Duration, ok func() bool) bool {
	deadline := time.After(within)
	for {
		j.mu.Lock()
		done, called := ok(), j.called
		j.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-called:
		case <-deadline:
			return false
		}
	}
}

// synced waits for the first state.
func (j *judge) synced(t testing.TB) {
	t.Helper()
	j.wait(t, soon, "the view is synced and live", func() bool { return j.live && j.last.Revision > 0 })
}

// holds waits until the view is live and holds what a prefix holds in truth, which must no longer change.
func (j *judge) holds(t testing.TB, within time.Duration, oracle *clientv3.Client, prefix string) {
	t.Helper()
	want := read(t, oracle, prefix, 0)
	j.wait(t, within, fmt.Sprintf("the view holds the %d keys of etcd", len(want)), func() bool {
		return j.live && maps.EqualFunc(j.content, want, same)
	})
}

// count returns how often match holds among the calls so far.
func (j *judge) count(match func(c told) bool) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.calls {
		if match(c) {
			n++
		}
	}
	return n
}

func isStale(c told) bool  { return c.stale != nil }
func isChange(c told) bool { return c.change != nil }
func isResync(c told) bool { return c.resync }

// generation returns the view's newest generation.
func (j *judge) generation() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last.Generation
}

// tail describes the last calls.
func (j *judge) tail() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d calls in all\n", len(j.calls))
	for _, c := range j.calls[max(0, len(j.calls)-15):] {
		fmt.Fprintf(&b, "%s ", c.at.Format("05.000"))
		switch {
		case c.change != nil:
			fmt.Fprintf(&b, "Changed: revision %d, generation %d, %d events, initial %t, resync %t\n",
				c.change.Revision, c.change.Generation, len(c.change.Events), c.change.Initial, c.resync)
		case c.stale != nil:
			fmt.Fprintf(&b, "Stale: %v\n", c.stale)
		default:
			fmt.Fprintln(&b, "Live")
		}
	}
	return b.String()
}

// same reports whether two states of a key are one.
func same(a, b *follow.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ModRevision == b.ModRevision &&
		a.CreateRevision == b.CreateRevision && a.Version == b.Version && a.Lease == b.Lease
}

// stales counts the failed attempts since the view was last live. Call it with the lock held, as wait does.
func stales(j *judge) int {
	n := 0
	for i := len(j.calls) - 1; i >= 0 && !j.calls[i].live; i-- {
		if j.calls[i].stale != nil {
			n++
		}
	}
	return n
}
