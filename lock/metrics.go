package lock

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/boottime"
	"github.com/etcdkit/etcdkit/internal/telemetry"
	"github.com/etcdkit/etcdkit/internal/turn"
)

var (
	scope = telemetry.For("lock")

	waits = scope.Seconds("etcdkit.lock.wait", "How long a lock was waited for.")
	holds = scope.Seconds("etcdkit.lock.held", "How long a lock was held.")
)

// What spans and measurements are told apart by. A name is an attribute of spans only: there may be any number.
const (
	attrKind  = attribute.Key("etcdkit.lock.kind")
	attrName  = attribute.Key("etcdkit.lock.name")
	attrToken = attribute.Key("etcdkit.token")
)

// kind is the sort of lock that is asked for.
type kind int

const (
	mutex kind = iota
	reader
	writer
	semaphore
)

// outcome is what came of asking for a lock, or of holding it.
type outcome int

const (
	acquired outcome = iota
	locked
	cancelled
	failed
	released
	lost
)

var (
	kinds    = [...]string{mutex: "mutex", reader: "reader", writer: "writer", semaphore: "semaphore"}
	outcomes = [...]string{
		acquired: "acquired", locked: "locked", cancelled: "cancelled", failed: "failed", released: "released", lost: "lost",
	}

	// measured are the attributes of all measurements.
	measured = func() (all [len(kinds)][len(outcomes)]metric.MeasurementOption) {
		for k := range kinds {
			for o := range outcomes {
				all[k][o] = telemetry.Attributes(attrKind.String(kinds[k]), telemetry.Outcome.String(outcomes[o]))
			}
		}
		return all
	}()
)

// record measures how long it is since an instant.
func record(ctx context.Context, in metric.Float64Histogram, since boottime.Instant, k kind, o outcome) {
	in.Record(context.WithoutCancel(ctx), boottime.Now().Sub(since).Seconds(), measured[k][o])
}

// asking is the time from when a lock is asked for to when it is known what came of it.
type asking struct {
	kind  kind
	since boottime.Instant // 0 if nobody measures it
	trail *trail           // nil if nobody traces it
}

// measure begins to measure an asking, if somebody does.
func (k kind) measure(ctx context.Context) asking {
	a := asking{kind: k}
	if waits.Enabled(ctx) {
		a.since = boottime.Now()
	}
	return a
}

// ask is measure, and begins the span, which is in the context that it returns.
func (l line) ask(ctx context.Context) (context.Context, asking) {
	a := l.kind.measure(ctx)
	ctx, span := scope.Start(ctx, "lock", trace.SpanKindInternal)
	if span.IsRecording() {
		span.SetAttributes(attrName.String(l.name), attrKind.String(kinds[l.kind]))
		a.trail = newTrail(span)
	}
	return ctx, a
}

// answered ends the asking with what came of it.
func (a asking) answered(ctx context.Context, held *Held, err error) {
	if a.since == 0 && a.trail == nil {
		return
	}
	o := outcomeOf(ctx, err)
	if a.since != 0 {
		record(ctx, waits, a.since, a.kind, o)
	}
	if a.trail != nil {
		a.trail.answered(held, o)
	}
}

// outcomeOf is an error of locking in one word: its text may name anything.
func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case err == nil:
		return acquired
	case errors.Is(err, ErrLocked):
		return locked
	case ctx.Err() != nil:
		return cancelled
	}
	return failed
}

// holding is one hold, as it is measured.
type holding struct {
	kind  kind
	since boottime.Instant
}

// begin returns the witness of a hold that begins, or nil if nobody measures holds.
func (k kind) begin(ctx context.Context) turn.Witness {
	if !holds.Enabled(ctx) {
		return nil
	}
	return &holding{kind: k, since: boottime.Now()}
}

// Ended measures the hold. One that its owner has given back lasted until etcd has said so: until then nobody else could have it.
func (h *holding) Ended(how turn.End) {
	o := released
	if how == turn.Lost {
		o = lost
	}
	record(context.Background(), holds, h.since, h.kind, o)
}
