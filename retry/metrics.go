package retry

import (
	"context"
	"runtime"
	"time"
	"weak"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

var (
	scope          = telemetry.For("retry")
	failedAttempts = scope.Counter("etcdkit.retry.attempts", "{attempt}", "Attempts that failed, by their error and by whether the call was tried again.")
	_              = scope.Observe("etcdkit.retry.breakers", "{breaker}", "Breakers that let nothing, or one call, through.", observeBreakers)
)

// breakers are those that have opened once. Nobody closes a Breaker for good, so they are held weakly.
var breakers telemetry.Live[weak.Pointer[Breaker]]

// observe reports the failure of an attempt to metrics, and to the span that ctx carries. final is nil if the call is
// tried again after wait. Texts of errors stay out: a function's own may hold anything. An attempt that ended because its
// caller gave up is not reported: it says nothing.
func (c *call) observe(ctx context.Context, err error, wait time.Duration, final error) {
	span := trace.SpanFromContext(ctx)
	counted, traced := failedAttempts.Enabled(ctx), span.IsRecording()
	if !counted && !traced {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 5)
	attrs = append(attrs, attribute.String("error.type", errorType(err)), attribute.Bool("etcdkit.retry.again", final == nil))
	if c.method != "" {
		attrs = append(attrs, attribute.String("rpc.method", c.method))
	}
	if counted {
		failedAttempts.Add(ctx, 1, metric.WithAttributes(attrs...))
	}
	if traced {
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

// show has the breaker, which opens for the first time, counted from now on, for as long as anybody has it.
func (b *Breaker) show() {
	b.shown = true
	ref := weak.Make(b)
	breakers.Add(ref)
	runtime.AddCleanup(b, breakers.Remove, ref)
}

// observeBreakers reports how many breakers are not closed.
func observeBreakers(_ context.Context, put telemetry.Put) {
	in := map[BreakerState]int{}
	for _, ref := range breakers.All() {
		if b := ref.Value(); b != nil {
			in[b.State()]++
		}
	}
	for _, state := range [...]BreakerState{BreakerOpen, BreakerHalfOpen} {
		put(float64(in[state]), telemetry.Attributes(attribute.String("etcdkit.retry.state", state.String())))
	}
}
