package follow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/etcdkit/etcdkit/internal/call"
)

// hubs holds the hub of every client that has a view.
var hubs = struct {
	sync.Mutex
	of   map[*clientv3.Client]*hub // guarded by Mutex, as are every hub's views and questions, and every view's refs and users
	made int                       // how many there have been
}{of: map[*clientv3.Client]*hub{}}

// hub is what the views of one client share: their index, and the questions about progress. etcd answers such
// a question once for a whole stream, and client/v3 sends watches with the same outgoing metadata
// through one stream; so one question a second serves all views.
type hub struct {
	client    *clientv3.Client
	number    int // tells its streams from other hubs', whose clients may share one Watcher
	views     map[string]*view
	woven     int64               // how many views with streams of their own there have been
	questions map[int64]*question // those under way, by stream
	asking    sync.WaitGroup      // those who send them
	cancel    context.CancelFunc
	done      chan struct{}
}

// question is one that is being sent.
type question struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// Follower is one observer's hold on a view. Make one with [Attach].
type Follower struct {
	view   *view
	recipe Recipe
	obs    Observer
	once   sync.Once
}

// Attach has obs told of everything in rng, through client: the current state once it is known, and then each
// change. It does not wait. Close the follower to stop.
func Attach(client *clientv3.Client, rng Range, obs Observer) *Follower {
	v := acquire(client, rng)
	f := &Follower{view: v, recipe: rng.recipe, obs: obs}
	v.commands <- command{join: f}
	return f
}

// Status says how current the view is. It does no I/O and does not allocate.
func (f *Follower) Status() Status { return f.view.pulse.status() }

// Heard tells the view of a revision that etcd has answered with elsewhere. A view that was cut off then sees by a later
// read that history was replaced, also if it has never been at that revision itself. It does not wait.
func (f *Follower) Heard(revision int64) { f.view.heard.Raise(revision) }

// errReleased is what waiting for a view returns that has ended.
var errReleased = errors.New("view closed")

// Reached waits until the observers have been told of everything up to a revision. ctx bounds it; its cause is returned.
func (f *Follower) Reached(ctx context.Context, revision int64) error {
	m := f.mark(func(c Change, _ entries) bool { return revision <= c.Complete })
	select {
	case <-m.reached:
		return nil
	case <-f.view.done:
		return errReleased
	case <-ctx.Done():
		f.forget(m)
		return context.Cause(ctx)
	}
}

// mark has the view say when something holds of it. It is forgotten when nobody waits any more, so that marks do not gather.
func (f *Follower) mark(holds func(Change, entries) bool) *mark {
	m := &mark{holds, make(chan struct{})}
	select {
	case f.view.commands <- command{await: m}:
	case <-f.view.done:
	}
	return m
}

func (f *Follower) forget(m *mark) {
	select {
	case f.view.commands <- command{forget: m}:
	case <-f.view.done:
	}
}

// Close stops the telling: no method of the observer is called once it returns. The view ends with its last
// follower. Close is idempotent, and must not be called from the observer's own methods.
func (f *Follower) Close() {
	f.once.Do(func() {
		f.view.commands <- command{leave: f} // taken between two calls of the observer
		release(f.view, f.recipe)
	})
}

// acquire returns the view of rng, started if there was none, with one more reference.
func acquire(client *clientv3.Client, rng Range) *view {
	hubs.Lock()
	defer hubs.Unlock()
	h := hubs.of[client]
	if h == nil {
		ctx, cancel := context.WithCancel(context.Background())
		hubs.made++
		h = &hub{
			client:    client,
			number:    hubs.made,
			views:     map[string]*view{},
			questions: map[int64]*question{},
			cancel:    cancel,
			done:      make(chan struct{}),
		}
		hubs.of[client] = h
		go h.run(ctx)
	}
	v := h.views[rng.id()]
	if v == nil {
		v = newView(h, rng)
		h.views[rng.id()] = v
		go v.run()
	}
	v.refs++
	v.users[rng.recipe]++
	return v
}

// release drops a reference; the last one ends the view, and the last view its hub.
func release(v *view, recipe Recipe) {
	hubs.Lock()
	v.refs--
	v.users[recipe]--
	last := v.refs == 0
	lastView := false
	if last {
		delete(v.hub.views, v.rng.id())
		if lastView = len(v.hub.views) == 0; lastView {
			delete(hubs.of, v.hub.client)
		}
	}
	hubs.Unlock()
	if last {
		v.cancel()
		<-v.done
	}
	if lastView {
		v.hub.cancel()
		<-v.hub.done
	}
}

// run looks after the views until ctx ends.
func (h *hub) run(ctx context.Context) {
	defer close(h.done)
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	defer h.asking.Wait()
	for beat := 1; ; beat++ {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			ready, late := h.beat(ctx, now, beat%askEvery == 0)
			if late {
				call.Redial(h.client) // the connection may be down, and gRPC in no hurry
			}
			for stream, q := range ready {
				h.asking.Go(func() { h.ask(q.ctx, stream, q.question) })
			}
		}
	}
}

// due is a question that is to be sent.
type due struct {
	*question
	ctx context.Context
}

// beat wakes the views whose stream is silent and returns the streams that are to be asked. One that has not taken the last
// question yet is not given another. Late reports that an answer is missing.
func (h *hub) beat(ctx context.Context, now time.Time, ask bool) (ready map[int64]due, late bool) {
	hubs.Lock()
	defer hubs.Unlock()
	ready = map[int64]due{}
	for _, v := range h.views {
		stream, live := v.pulse.where()
		if !live {
			continue
		}
		asks, again, silent := v.pulse.beat(now, ask && h.questions[stream] == nil)
		late = late || again
		if silent {
			v.wake()
		}
		if !asks {
			continue
		}
		if _, there := ready[stream]; !there {
			qctx, cancel := context.WithTimeout(ctx, askEvery*beatEvery)
			ready[stream] = due{&question{cancel: cancel, done: make(chan struct{})}, qctx}
		}
	}
	for stream, q := range ready {
		h.questions[stream] = q.question
	}
	return ready, late
}

// prompt has a question sent for v alone, on a stream of its own: now, and not with the next beat. It reports whether one was. None is
// while one is being sent or, unless it is asked again, while one is open.
func (h *hub) prompt(v *view, stream int64, again bool) bool {
	hubs.Lock()
	defer hubs.Unlock()
	if h.questions[stream] != nil || !v.pulse.prompt(time.Now(), again) {
		return false
	}
	ctx, cancel := context.WithTimeout(v.ctx, askEvery*beatEvery)
	q := &question{cancel: cancel, done: make(chan struct{})}
	h.questions[stream] = q
	h.asking.Go(func() { h.ask(ctx, stream, q) })
	return true
}

// ask sends a question about progress.
func (h *hub) ask(ctx context.Context, stream int64, q *question) {
	defer close(q.done)
	defer q.cancel()
	// A question that cannot be asked is one that is not answered.
	_ = h.client.Watcher.RequestProgress(h.streamContext(ctx, stream))
	hubs.Lock()
	defer hubs.Unlock()
	if h.questions[stream] == q {
		delete(h.questions, stream)
	}
}

// quiet waits until no question is being sent on a stream that v is about to leave, unless others stay on it. For client/v3
// opens a stream for a question that finds none, and such a stream, without a watch, never ends.
func (h *hub) quiet(v *view, stream int64) {
	hubs.Lock()
	q := h.questions[stream]
	shared := h.shared(v, stream)
	hubs.Unlock()
	if q != nil && !shared {
		q.cancel()
		<-q.done
	}
}

// shared reports whether a view other than v is live on a stream. The caller holds hubs.
func (h *hub) shared(v *view, stream int64) bool {
	for _, other := range h.views {
		if other != v && other.pulse.on(stream) {
			return true
		}
	}
	return false
}

// alone is shared's opposite, for callers that do not hold hubs.
func (h *hub) alone(v *view, stream int64) bool {
	hubs.Lock()
	defer hubs.Unlock()
	return !h.shared(v, stream)
}

// streamContext is a context whose watches share one stream, apart from those of the application, of other hubs and of
// the other numbers. A member without a leader ends them at once.
func (h *hub) streamContext(ctx context.Context, stream int64) context.Context {
	ctx = clientv3.WithRequireLeader(ctx)
	return metadata.AppendToOutgoingContext(ctx, "etcdkit-stream", fmt.Sprintf("%d-%d", h.number, stream))
}
