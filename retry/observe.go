package retry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"
)

// failedAttempts is made at the first failure, and does nothing until the application installs a meter provider.
var failedAttempts = sync.OnceValue(func() metric.Int64Counter {
	// An error comes with an instrument that does nothing.
	counter, _ := otel.Meter("github.com/etcdkit/etcdkit/retry").Int64Counter("etcdkit.retry.attempts",
		metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts that failed, by their error and by whether the call was tried again."))
	return counter
})

// observe reports the failure of an attempt to metrics, and to the span that ctx carries. final is nil if the call is
// tried again after wait. Texts of errors stay out: a function's own may hold anything. An attempt that ended because its
// caller gave up is not reported: it says nothing.
func (c *call) observe(ctx context.Context, err error, wait time.Duration, final error) {
	attrs := make([]attribute.KeyValue, 0, 5)
	attrs = append(attrs, attribute.String("error.type", errorType(err)), attribute.Bool("etcdkit.retry.again", final == nil))
	if c.method != "" {
		attrs = append(attrs, attribute.String("rpc.method", c.method))
	}
	failedAttempts().Add(ctx, 1, metric.WithAttributes(attrs...))
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		attrs = append(attrs, attribute.Int("etcdkit.retry.attempt", c.attempts), attribute.String("etcdkit.retry.wait", wait.String()))
		span.AddEvent("attempt failed", trace.WithAttributes(attrs...))
	}
}

// errorType is an error in one of few words: an etcd error's text, which is one of the table's, or a gRPC code.
func errorType(err error) string {
	if known := EtcdError(err); known != nil {
		return known.Error()
	}
	if s, ok := status.FromError(err); ok {
		return s.Code().String()
	}
	return status.FromContextError(err).Code().String()
}
