package queue

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/telemetry"
	"github.com/etcdkit/etcdkit/retry"
)

// Attributes of spans, by the semantic conventions for messaging. No item is among them, and no text of an error: it may hold one.
const (
	messagingSystem    = attribute.Key("messaging.system")
	messagingOperation = attribute.Key("messaging.operation.name")
	messagingType      = attribute.Key("messaging.operation.type")
	messagingQueue     = attribute.Key("messaging.destination.name")
	messagingID        = attribute.Key("messaging.message.id")
	messagingCount     = attribute.Key("messaging.batch.message_count")
	attemptNumber      = attribute.Key("etcdkit.queue.attempt")
	errorType          = attribute.Key("error.type")
)

// traceparent is the trace that ctx belongs to, or "".
func traceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// pushSpan begins the span of a push, which its jobs carry.
func (m *measures) pushSpan(ctx context.Context) (context.Context, trace.Span) {
	return scope.Start(ctx, m.pushing, trace.SpanKindProducer)
}

// pushDone ends the span of a push of so many jobs. ids are those that were written.
func (m *measures) pushDone(span trace.Span, jobs int, ids []string, err error) {
	if !span.IsRecording() {
		return
	}
	defer span.End()
	span.SetAttributes(messagingSystem.String("etcdkit"), messagingQueue.String(m.name), messagingOperation.String("push"), messagingType.String("send"))
	switch {
	case jobs != 1:
		span.SetAttributes(messagingCount.Int(jobs))
	case len(ids) == 1:
		span.SetAttributes(messagingID.String(ids[0]))
	}
	if err != nil {
		span.SetAttributes(errorType.String(typeOf(err)))
		span.SetStatus(codes.Error, "")
	}
}

// typeOf is an error in one of few words.
func typeOf(err error) string {
	var pushed *PushError
	switch known := retry.EtcdError(err); {
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrTooLarge):
		return "too large"
	case known != nil:
		return known.Error()
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline exceeded"
	case errors.As(err, &pushed):
		return "_OTHER"
	}
	return "invalid" // refused before anything was sent
}

// processing begins the span of a handler's run, within the trace of the push and with a link to it.
func (m *measures) processing(c *claim) (context.Context, trace.Span) {
	ctx, span := scope.Start(c.ctx, m.process, trace.SpanKindConsumer)
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(messagingSystem.String("etcdkit"), messagingQueue.String(m.name), messagingOperation.String("process"), messagingType.String("process"),
		messagingID.String(c.id()), attemptNumber.Int(c.attempt))
	push := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": c.record.Trace})
	if from := trace.SpanContextFromContext(push); from.IsValid() {
		span.AddLink(trace.Link{SpanContext: from})
	}
	return ctx, span
}

// processed ends it.
func (m *measures) processed(span trace.Span, o outcome) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(telemetry.Outcome.String(outcomes[o]))
	switch o {
	case endRetried, endDead, endLost:
		span.SetStatus(codes.Error, "")
	case endAcked, endReleased, endUncounted:
	}
	span.End()
}
