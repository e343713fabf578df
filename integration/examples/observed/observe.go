package main

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

// observe has all that etcdkit does in this process measured and traced. Call it once, first of all, and what it returns last of all:
// that sends the spans that are left.
func observe(ctx context.Context) (shutdown func(context.Context) error, err error) {
	metrics, err := prometheus.New() // for promhttp.Handler
	if err != nil {
		return nil, err
	}
	spans, err := otlptracegrpc.New(ctx) // to where OTEL_EXPORTER_OTLP_ENDPOINT says
	if err != nil {
		return nil, err
	}
	meters := metric.NewMeterProvider(metric.WithReader(metrics))
	tracers := trace.NewTracerProvider(trace.WithBatcher(spans))
	otel.SetMeterProvider(meters)
	otel.SetTracerProvider(tracers)
	return func(ctx context.Context) error { return errors.Join(tracers.Shutdown(ctx), meters.Shutdown(ctx)) }, nil
}
