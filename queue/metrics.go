package queue

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// What is measured, as docs/metrics.md promises it. The gauges are in gauges.go.
var (
	scope = telemetry.For("queue")

	pushedJobs = scope.Counter("etcdkit.queue.pushed", "{job}", "Jobs that this process has pushed.")
	attempts   = scope.Counter("etcdkit.queue.attempts", "{attempt}", "Deliveries that ended, by how. A lost one is counted by who puts its job back.")
	handling   = scope.Seconds("etcdkit.queue.handling", "How long handlers took.")
	waiting    = scope.Seconds("etcdkit.queue.waited", "From when a job was due to its delivery.")
)

// queueName is the attribute that names the queue, and stateName that of what jobs are in.
const (
	queueName = attribute.Key("etcdkit.queue.name")
	stateName = attribute.Key("etcdkit.queue.state")
)

// outcome is how a delivery ended.
type outcome int

const (
	endLost outcome = iota // and of a claim, as long as it does not end otherwise
	endAcked
	endRetried
	endDead
	endReleased
	endUncounted
)

// outcomes are the values of the attribute.
var outcomes = [endUncounted]string{endLost: "lost", endAcked: "acked", endRetried: "retried", endDead: "dead", endReleased: "released"}

// measures are what is measured of one queue: what it is attributed to is made once.
type measures struct {
	name    string
	pushing string // names of spans
	process string
	queue   metric.MeasurementOption
	ended   [len(outcomes)]metric.MeasurementOption
}

func newMeasures(name string) *measures {
	m := &measures{name: name, pushing: "push " + name, process: "process " + name, queue: telemetry.Attributes(queueName.String(name))}
	for o, text := range outcomes {
		m.ended[o] = telemetry.Attributes(queueName.String(name), telemetry.Outcome.String(text))
	}
	return m
}

// pushed counts jobs that are in the queue now, and were not before.
func (m *measures) pushed(ctx context.Context, n int) {
	if n > 0 && pushedJobs.Enabled(ctx) {
		pushedJobs.Add(ctx, int64(n), m.queue)
	}
}

// attempt counts the end of a delivery.
func (m *measures) attempt(ctx context.Context, o outcome) {
	if o != endUncounted && attempts.Enabled(ctx) {
		attempts.Add(ctx, 1, m.ended[o])
	}
}

// settled counts the end of a delivery that was to end so, by what has become of that. If the session has ended first, it is for who puts the
// job back to count: nobody else knows of those of a process that was killed, and each is to be counted once.
func (s *shift) settled(o outcome, err error) {
	switch {
	case err == nil:
		s.measures.attempt(s.values, o)
	case errors.Is(err, errClaimDeleted):
		s.measures.attempt(s.values, endLost)
	}
}

// round is a handler's run, as it is measured.
type round struct {
	span  trace.Span
	since time.Time // zero if nobody wants to know
}

// begin measures from a handler's call on. The context is for the handler.
func (m *measures) begin(c *claim) (context.Context, round) {
	ctx, span := m.processing(c)
	r := round{span: span}
	if handling.Enabled(ctx) {
		r.since = time.Now()
	}
	if waiting.Enabled(ctx) {
		waiting.Record(ctx, max(0, time.Since(c.place.at())).Seconds(), m.queue)
	}
	return ctx, r
}

// end is called when the handler has returned, and what it returned was acted upon.
func (m *measures) end(ctx context.Context, c *claim, r round) {
	if r.since.IsZero() && !r.span.IsRecording() {
		return
	}
	o := c.outcome()
	if !r.since.IsZero() {
		handling.Record(ctx, time.Since(r.since).Seconds(), m.ended[o])
	}
	m.processed(r.span, o)
}

// outcome is how the delivery ends, as far as that is known.
func (c *claim) outcome() outcome {
	c.shift.mu.Lock()
	defer c.shift.mu.Unlock()
	return c.ending
}
