package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/latest"
	"github.com/etcdkit/etcdkit/retry"
)

var (
	errSilent   = errors.New("watch stream silent: etcd does not answer for its progress")
	errWentBack = errors.New("etcd's revision or cluster is not the one known: reading again")
	errDiverged = errors.New("view differs from etcd: reading again")
)

// settledAfter is how long a connection lasts for the next one to be made without a long wait.
const settledAfter = 5 * time.Second

// view is a synced copy of one range. Its goroutine owns all the fields below the line.
type view struct {
	hub   *hub
	rng   Range
	refs  int       // guarded by hubs
	users users     // guarded by hubs
	since time.Time // when it was opened

	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{} // closed when the goroutine has ended
	commands chan command
	silent   chan struct{} // the hub's word that the stream does not answer
	pulse    pulse
	heard    latest.Max // the newest revision that followers know of

	// ---- owned by run
	followers  []*Follower
	marks      []*mark // not reached so far
	content    entries
	synced     bool // has been read once
	revision   int64
	lastRead   int64 // revision of the last read
	cluster    uint64
	generation int64
	ended      error // why it was last no longer live

	stream     int64         // number of the stream that the next watches are opened on
	opened     chan *attempt // attempts that etcd has answered
	superseded chan struct{} // closed when the attempts under way are no longer wanted
	attempts   int           // under way
	attempted  time.Time     // when the last one was started
}

// command asks the view's goroutine to take in a follower or to drop one, or to say when a mark is reached or that nobody
// waits for it any more.
type command struct {
	join   *Follower
	leave  *Follower
	await  *mark
	forget *mark
}

// mark is something that somebody waits for: that it holds of the view's present state, a change without events, and its
// content.
type mark struct {
	holds   func(Change, entries) bool
	reached chan struct{} // closed when it does, and the followers have been told of all that led there
}

// met is closed when the mark is reached; never of none.
func (m *mark) met() <-chan struct{} {
	if m == nil {
		return nil
	}
	return m.reached
}

func newView(h *hub, rng Range) *view {
	v := &view{
		hub: h, rng: rng, since: time.Now(),
		done:       make(chan struct{}),
		commands:   make(chan command),
		silent:     make(chan struct{}, 1),
		pulse:      pulse{trouble: errNotSynced},
		content:    entries{},
		opened:     make(chan *attempt),
		superseded: make(chan struct{}),
	}
	if rng.woven() {
		h.woven++
		v.stream = h.woven << 32 // far from all others
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

// run connects, streams, and starts over, until the view is released.
func (v *view) run() {
	defer close(v.done)
	defer func() { close(v.superseded) }()
	waits := retry.Policy{}.Backoff()
	for v.ctx.Err() == nil {
		since := time.Now()
		err := v.follow()
		if v.ctx.Err() != nil {
			return
		}
		for _, f := range v.followers {
			f.obs.Stale(err)
		}
		if time.Since(since) > settledAfter {
			waits.Reset()
		}
		v.pause(waits.Next())
		call.Redial(v.hub.client)
	}
}

// follow has watches confirmed, reads, and streams until something ends it.
func (v *view) follow() error {
	a, err := v.connect()
	if err != nil {
		v.pulse.failed(err)
		return err
	}
	heard := v.heard.Get() // before the read is sent, which must answer from after it
	r, err := v.read()
	if err != nil {
		v.pulse.failed(err)
		a.close()
		return err
	}
	v.resync(r, heard, a.stream)
	err = v.receive(a, r.revision)
	v.ended = err
	v.disconnect(a, err)
	return err
}

// connect returns the first attempt that etcd confirms, one of those before included. One that takes long is not waited
// for alone: another is made beside it, on another stream, and thus perhaps through another endpoint.
//
// That one of those before was refused says nothing of now: after an outage all of them have been waiting for etcd, and are told
// together that it has no leader yet.
func (v *view) connect() (*attempt, error) {
	since := time.Now()
	v.attempt()
	late := time.NewTimer(confirmFirst)
	defer late.Stop()
	within := time.NewTimer(confirmMost)
	defer within.Stop()
	for more := 1; ; {
		select {
		case a := <-v.opened:
			v.attempts--
			if a.err == nil {
				return a, nil
			}
			v.leaveStream(a.stream)
			if !a.since.Before(since) {
				return nil, v.explain(a.err)
			}
			if v.attempted.Before(since) { // there were too many
				v.attempt()
			}
		case <-late.C:
			v.leaveStream(v.stream)
			v.attempt()
			late.Reset(confirmFirst << more)
			more++
		case <-within.C:
			v.leaveStream(v.stream)
			return nil, v.explain(fmt.Errorf("%w: %w", errNotConfirmed, context.DeadlineExceeded))
		case cmd := <-v.commands:
			v.obey(cmd)
		case <-v.ctx.Done():
			return nil, v.ctx.Err()
		}
	}
}

// attempt starts one, if there are not too many under way.
func (v *view) attempt() {
	if v.attempts < fewAttempts || time.Since(v.attempted) > nextAttempt {
		v.attempts++
		v.attempted = time.Now()
		start(v.hub, v.rng, v.stream, v.opened, v.superseded)
	}
}

// leaveStream has the next watches opened on another stream: this one may be the trouble, as after the expiry of a
// token.
func (v *view) leaveStream(stream int64) {
	if v.stream == stream {
		v.stream++
	}
}

// disconnect ends the watches of a view that was live.
func (v *view) disconnect(a *attempt, err error) {
	asked := v.pulse.failed(err)
	v.hub.quiet(v, a.stream)
	a.close()
	// On a stream of its own an answer to what was asked before must not be taken for one to what is asked next.
	if v.rng.woven() || !errors.Is(err, rpctypes.ErrCompacted) {
		v.leaveStream(a.stream)
	}
	// If the stream ended by itself a question may have come after, and have opened it anew. A prompt is likely to, for what
	// the end of a stream cuts off is a reason for one: also when the view is released just then.
	gone := v.ctx.Err() == nil || v.rng.woven() && a.ended.Load()
	if asked && gone && v.hub.alone(v, a.stream) {
		reap(v.hub, v.rng, a.stream)
	}
}

// explain names the endpoints, while followers come and go.
func (v *view) explain(err error) error {
	said := make(chan error, 1)
	go func() { said <- call.Explain(v.ctx, v.hub.client, err) }()
	return await(v, said)
}

// read reads the range, while followers come and go.
func (v *view) read() (*reading, error) {
	type outcome struct {
		r   *reading
		err error
	}
	came := make(chan outcome, 1)
	go func() {
		r, err := read(v.ctx, v.hub.client, v.rng)
		came <- outcome{r, err}
	}()
	o := await(v, came)
	return o.r, o.err
}

// await waits for what is certain to come, while followers come and go.
func await[T any](v *view, c <-chan T) T {
	for {
		select {
		case got := <-c:
			return got
		case cmd := <-v.commands:
			v.obey(cmd)
		}
	}
}

// resync makes what was read the content and hands on the difference. heard is what followers knew of when the read was
// sent.
func (v *view) resync(r *reading, heard, stream int64) {
	why := opened
	if v.synced {
		replaced := v.replaced(r, heard)
		if replaced {
			v.generation++
			v.heard.Forget(heard) // that was another history's
		}
		why = v.reason(replaced)
	}
	diff := v.content.replace(r.entries)
	first := !v.synced
	v.synced, v.revision, v.lastRead, v.cluster = true, r.revision, r.revision, r.cluster
	v.supersede()
	v.countResync(why)
	c := v.step(diff)
	if c.Reset = v.rng.tail; first {
		c = v.everything()
	}
	v.tell(c)
	v.pulse.readAt(r.sent, r.revision, stream) // in between: the status never says more than was told, and Live never more than the status
	for _, f := range v.followers {
		f.obs.Live()
	}
	v.reach()
}

// replaced reports whether a reading is from another history than the one the view knows. What several watches
// brought without order is not complete up to any revision, so there only the revision itself tells.
func (v *view) replaced(r *reading, heard int64) bool {
	return r.revision < max(v.revision, heard) || r.cluster != v.cluster ||
		v.rng.ordered() && v.content.contradict(r.entries, v.revision)
}

// supersede lets the other attempts close what they open.
func (v *view) supersede() {
	close(v.superseded)
	v.superseded = make(chan struct{})
	v.attempts = 0
	select {
	case <-v.silent: // about the stream before
	default:
	}
}

// pause waits for d while followers come and go.
func (v *view) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-v.ctx.Done():
			return
		case cmd := <-v.commands:
			v.obey(cmd)
		}
	}
}

// wake tells the view that its stream is silent.
func (v *view) wake() {
	select {
	case v.silent <- struct{}{}:
	default:
	}
}

// obey takes in a follower, which is told at once what is known, or drops one, or a mark.
func (v *view) obey(cmd command) {
	switch {
	case cmd.await != nil:
		v.marks = append(v.marks, cmd.await)
		v.reach()
		return
	case cmd.forget != nil:
		v.marks = slices.DeleteFunc(v.marks, func(m *mark) bool { return m == cmd.forget })
		return
	case cmd.leave != nil:
		for i, f := range v.followers {
			if f == cmd.leave {
				v.followers = append(v.followers[:i:i], v.followers[i+1:]...)
				break
			}
		}
		return
	}
	v.followers = append(v.followers, cmd.join)
	if v.synced {
		c := v.everything()
		c.Joined = true
		cmd.join.obs.Changed(c)
	}
	switch why := v.pulse.why(); why {
	case nil:
		cmd.join.obs.Live()
	case errNotSynced: //nolint:errorlint // the very error that was set: nothing is known yet
	default:
		cmd.join.obs.Stale(why)
	}
}

// reach says which marks are reached.
func (v *view) reach() {
	if len(v.marks) == 0 || !v.synced {
		return
	}
	now := v.step(nil)
	v.marks = slices.DeleteFunc(v.marks, func(m *mark) bool {
		if m.holds(now, v.content) {
			close(m.reached)
			return true
		}
		return false
	})
}

// everything is the first change that a follower gets.
func (v *view) everything() Change {
	c := v.step(v.content.all())
	c.Initial, c.Reset = true, v.rng.tail
	return c
}

// step is a change to the present revision.
func (v *view) step(events []Event) Change {
	c := Change{Revision: v.revision, Complete: v.revision, Generation: v.generation, Events: events}
	if !v.rng.ordered() {
		c.Complete = v.lastRead
	}
	return c
}

func (v *view) tell(c Change) {
	for _, f := range v.followers {
		f.obs.Changed(c)
	}
}
