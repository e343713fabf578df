package turn

import (
	"context"
	"errors"
	"sync"

	"github.com/etcdkit/etcdkit/fence"
)

// errReleased is the cause of a hold's context after its release: no loss, its owner asked for it.
var errReleased = errors.New("released by its owner")

// Hold is a place that owns. It is safe for concurrent use.
type Hold struct {
	place *Place
	ctx   *owned
	end   context.CancelCauseFunc
	slots slots

	once     sync.Once
	released chan struct{} // closed when etcd has answered the release
	result   error         // of the release; read after released
}

// Own makes a hold of a place whose turn has come.
func Own(p *Place) *Hold {
	h := &Hold{place: p, released: make(chan struct{}), slots: slots{claiming: make(chan struct{}, 1)}}
	inner, end := context.WithCancelCause(p.sess.Context())
	h.ctx, h.end = &owned{Context: inner, hold: h, end: end}, end
	if p.seat != nil {
		p.sess.Go(h.watchSeat) // whatever brought the turn also sees the key go
	} else {
		p.leaves = append(p.leaves, p.watchOwn(h.lose))
	}
	context.AfterFunc(inner, p.standUp)
	return h
}

// Context ends when the place no longer owns: released, lost, or with the session. The cause of anything but a
// release is fence.ErrLost.
func (h *Hold) Context() context.Context { return h.ctx }

// Work returns ctx, ended also with the hold and by its cause, for what is done while holding.
func (h *Hold) Work(ctx context.Context) (context.Context, context.CancelFunc) {
	inner, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.ctx, func() { end(context.Cause(h.ctx)) })
	return &owned{Context: inner, hold: h, end: end}, func() { stop(); end(nil) }
}

// Guard proves the hold.
func (h *Hold) Guard() fence.Guard { return h.place.Guard() }

// Release ends the hold and leaves the line. Its context ends first. ctx bounds the wait for etcd's
// answer; a later call waits again, and returns the same result once it is known.
func (h *Hold) Release(ctx context.Context) error {
	h.once.Do(func() {
		h.end(errReleased) // a no-op if it has ended already
		lost := context.Cause(h.ctx)
		if lost == errReleased { //nolint:errorlint // the very cause that was set
			lost = nil
		}
		started := h.place.sess.Go(func(life context.Context) {
			defer close(h.released)
			h.result = h.place.remove(life, h.slots.giveBack(h.place)...)
			if lost != nil {
				h.result = lost
			}
		})
		if !started {
			h.result = context.Cause(h.place.sess.Context())
			close(h.released)
		}
	})
	return h.place.await(ctx, h.released, func() error { return h.result })
}

// lose ends the hold because its key is gone.
func (h *Hold) lose(why error) {
	h.end(h.place.errPlaceLost(why))
	h.place.sess.Probe() // if the whole lease is gone, the session should not learn it last
}

// watchSeat waits for the key to be seen gone, until the hold ends.
func (h *Hold) watchSeat(context.Context) {
	select {
	case <-h.place.seat.lost:
		h.lose(h.place.seat.why)
	case <-h.ctx.Done():
	}
}

// owned is a context that ends with a hold. It looks at the clock as its session's does, and names the line that is
// held.
type owned struct {
	context.Context
	hold *Hold
	end  context.CancelCauseFunc // of Context
}

// Err is the context's, after the session has looked at the clock.
func (o *owned) Err() error {
	if life := o.hold.place.sess.Context(); life.Err() != nil {
		o.end(context.Cause(life))
	}
	return o.Context.Err()
}

// Value answers for the line that is held, and for everything else as the context below.
func (o *owned) Value(key any) any {
	if id, ok := key.(lineID); ok && id == o.hold.place.id() {
		return o.hold
	}
	return o.Context.Value(key)
}
