// Package telemetry makes the instruments and spans of all packages, of the OpenTelemetry API. Until the application installs a provider
// they do nothing, and cost a load: whoever measures asks Enabled first, so that nothing is counted, timed or allocated.
//
// Instruments, spans and their attributes are a contract: docs/metrics.md. Names that nobody bounds (of locks, of keys of items) are
// attributes of spans, and never of metrics. Values of users are neither.
package telemetry

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// root is what the names of scopes begin with: one for each package.
const root = "github.com/etcdkit/etcdkit/"

// Attributes that several packages use.
const (
	// Outcome is how something ended.
	Outcome = attribute.Key("etcdkit.outcome")

	// Reason is why.
	Reason = attribute.Key("etcdkit.reason")
)

// Scope is the instruments of one package. Make it in a variable of the package: it does no work before the application has a provider.
type Scope struct {
	meter  metric.Meter
	tracer trace.Tracer
}

// For returns the scope of a package by its path in the module, as "lock".
func For(pkg string) Scope {
	return Scope{otel.Meter(root + pkg), otel.Tracer(root + pkg)}
}

// must returns an instrument. An error is about its name, which is constant, and comes with an instrument that does nothing.
func must[I any](instrument I, _ error) I { return instrument }

// Counter counts what happens. unit is in braces, as "{renewal}".
func (s Scope) Counter(name, unit, description string) metric.Int64Counter {
	return must(s.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description)))
}

// UpDown counts what there is.
func (s Scope) UpDown(name, unit, description string) metric.Int64UpDownCounter {
	return must(s.meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description)))
}

// Seconds measures durations from a millisecond to minutes.
func (s Scope) Seconds(name, description string) metric.Float64Histogram {
	return must(s.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)))
}

// Observe has a gauge of seconds, or of what else unit says, asked for when metrics are read. observe is called with what takes a value.
func (s Scope) Observe(name, unit, description string, observe func(ctx context.Context, put Put)) metric.Float64ObservableGauge {
	return must(s.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description),
		metric.WithFloat64Callback(func(ctx context.Context, o metric.Float64Observer) error {
			observe(ctx, func(value float64, attrs metric.MeasurementOption) { o.Observe(value, attrs) })
			return nil
		})))
}

// initial is the provider of spans that there is before the application installs one.
var initial = otel.GetTracerProvider()

// installed is set once another is known.
var installed atomic.Bool

// Tracing reports whether the application has installed a provider of spans.
func Tracing() bool {
	if installed.Load() {
		return true
	}
	if otel.GetTracerProvider() == initial {
		return false
	}
	installed.Store(true)
	return true
}

// none is a span that does nothing.
var none = trace.SpanFromContext(context.Background())

// Start begins a span if somebody is tracing; otherwise it returns ctx as it is, and a span that does nothing. Options are made, and
// attributes set, only where span.IsRecording: making them allocates.
func (s Scope) Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if !Tracing() {
		return ctx, none
	}
	return s.tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

// Attributes are those of a measurement, made once.
func Attributes(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}
