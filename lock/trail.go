package lock

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/telemetry"
	"github.com/etcdkit/etcdkit/internal/turn"
)

// trail is the span of one who asks for a lock, and what leads from it to the holder's.
//
// The holder's trace is in the value of its key, which is read beside the wait. The answer may come when the wait is over: then
// the lock is had already, and the span is ended late, as of then.
type trail struct {
	span  trace.Span
	asked bool         // somebody has been sent to find the holder; the asker's alone
	at    time.Time    // when the asking was answered
	open  atomic.Int32 // how many may still write to the span: the asker, and whoever finds the holder
}

func newTrail(span trace.Span) *trail {
	t := &trail{span: span}
	t.open.Store(1)
	return t
}

// waits is what is to be called when a place must wait, or nil.
func (a asking) waits(ctx context.Context) func(*turn.Place) {
	if a.trail == nil {
		return nil
	}
	return func(p *turn.Place) {
		if a.trail.asked { // its key was deleted, and it comes again: there is one that it has waited for the longest
			return
		}
		a.trail.asked = true
		a.trail.open.Add(1)
		p.Before(ctx, a.trail.link)
	}
}

// link leads to the holder, as its key's value says; it may be anything.
func (t *trail) link(value []byte) {
	defer t.done()
	carrier := propagation.MapCarrier{"traceparent": decodeOwner(value).Trace}
	holder := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if holder.IsValid() {
		t.span.AddLink(trace.Link{SpanContext: holder})
	}
}

// answered says what came of the asking. That a lock is not free is an answer to who only tries, and no error.
func (t *trail) answered(held *Held, o outcome) {
	t.span.SetAttributes(telemetry.Outcome.String(outcomes[o]))
	switch o {
	case acquired:
		t.span.SetAttributes(attrToken.Int64(int64(held.Guard().Token)))
	case cancelled, failed:
		t.span.SetStatus(codes.Error, outcomes[o])
	default:
	}
	t.at = time.Now()
	t.done()
}

// done ends the span when nobody writes to it any more.
func (t *trail) done() {
	if t.open.Add(-1) == 0 {
		t.span.End(trace.WithTimestamp(t.at))
	}
}
