package turn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/etcdkit/etcdkit/fence"
)

// errReleased is the cause of a hold's context after its release: no loss, its owner asked for it.
var errReleased = errors.New("released by its owner")

// answerMost is how long who releases under the hold's own context waits for etcd's answer.
const answerMost = 10 * time.Second

// errNotAnswered is why that wait ended.
var errNotAnswered = fmt.Errorf("no answer within %v", answerMost)

// Hold is a place that owns. It is safe for concurrent use.
type Hold struct {
	place   *Place
	witness Witness // nil for none
	ctx     *owned
	end     context.CancelCauseFunc
	slots   slots

	standing func() bool   // keeps the context's end from ending what the place uses; false if it has
	leaving  atomic.Bool   // somebody releases
	released chan struct{} // closed when etcd has answered the release
	handed   bool          // the release has made another place the owner; read after released
	result   error         // of the release; read after released
}

// End is how a hold has ended.
type End int

// The ways in which a hold ends.
const (
	Released    End = iota // given back by its owner
	Transferred            // handed over by its owner
	Lost                   // it may not have been its owner's any more when it ended
)

// Witness is told, once, how a hold has ended: when it is lost, or else when it is known what became of its release.
type Witness interface {
	// Ended must not wait for anything.
	Ended(how End)
}

// Own makes a hold of a place whose turn has come. The witness may be nil.
func Own(p *Place, w Witness) *Hold {
	h := &Hold{place: p, witness: w, released: make(chan struct{}), slots: slots{claiming: make(chan struct{}, 1)}}
	inner, end := context.WithCancelCause(p.sess.Context())
	h.ctx, h.end = &owned{Context: inner, hold: h, end: end}, end
	if p.seat != nil {
		p.sess.Go(h.watchSeat) // whatever brought the turn also sees the key go
	} else {
		p.leaves = append(p.leaves, p.watchOwn(h.lose))
	}
	h.standing = context.AfterFunc(inner, h.fall)
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
//
// While the caller waits it is done in his goroutine: to wake another one for it would make it a tenth slower. If ctx ends
// before etcd has answered, it goes on in another.
func (h *Hold) Release(ctx context.Context) error {
	ctx, free := h.bound(ctx)
	defer free()
	remove := func(life context.Context) error { return h.place.remove(life, h.slots.giveBack(h.place)...) }
	if settle := h.leave(); settle != nil {
		life := h.place.sess.Context()
		// Not with ctx's deadline: whoever repeats a call gives up before one that is too near, and it is not to be given up.
		here, cancel := join(life, ctx)
		defer cancel()
		if here.Err() != nil {
			h.beside(remove, settle)
		} else if err := remove(here); errors.Is(err, errUnresolved) && life.Err() == nil {
			h.beside(remove, settle)
		} else {
			settle(err)
		}
	}
	return h.place.await(ctx, h.released, func() error { return h.result })
}

// leave ends the hold. The first call returns what to do when it is known what became of the key, all others nil.
func (h *Hold) leave() (settle func(error)) {
	if !h.leaving.CompareAndSwap(false, true) {
		return nil
	}
	stand := h.standing() // until it is settled: it would be beside the deletion
	h.end(errReleased)    // a no-op if it has ended already
	lost := context.Cause(h.ctx)
	return func(result error) {
		if h.result = result; lost != errReleased { //nolint:errorlint // the very cause that was set
			h.result = lost
		}
		if stand {
			h.testify()
		}
		close(h.released)
		if stand {
			h.place.standUp()
		}
	}
}

// fall ends what the place uses once the hold has ended without its owner.
func (h *Hold) fall() {
	if h.witness != nil {
		h.witness.Ended(Lost)
	}
	h.place.standUp()
}

// testify tells the witness what came of a release.
func (h *Hold) testify() {
	switch {
	case h.witness == nil:
	case errors.Is(h.result, fence.ErrLost):
		h.witness.Ended(Lost)
	case h.handed:
		h.witness.Ended(Transferred)
	default:
		h.witness.Ended(Released)
	}
}

// beside deletes the key in a goroutine of the session's, for as long as that lasts.
func (h *Hold) beside(remove func(life context.Context) error, settle func(error)) {
	if !h.place.sess.Go(func(life context.Context) { settle(remove(life)) }) {
		settle(context.Cause(h.place.sess.Context()))
	}
}

// bound returns ctx for the wait for the answer to a release. If ctx is the hold's own, as it is in the hands of who works under
// the hold, then the release itself ends it: that is no reason to wait no longer.
func (h *Hold) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Value(h.place.id()) != h {
		return ctx, func() {}
	}
	free, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); cause != errReleased { //nolint:errorlint // the very cause that was set
			cancel(cause)
			return
		}
		most, why := answerMost, errNotAnswered
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < most {
			most, why = time.Until(deadline), context.DeadlineExceeded
		}
		late := time.AfterFunc(most, func() { cancel(why) })
		context.AfterFunc(free, func() { late.Stop() })
	})
	return free, func() { stop(); cancel(nil) }
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
