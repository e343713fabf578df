// Package telemetry_test reads back what the packages report to OpenTelemetry.
package telemetry_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

var (
	reader = metric.NewManualReader()
	spans  = tracetest.NewSpanRecorder()
)

func TestMain(m *testing.M) {
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	etcdtest.Main(m)
}

// read returns what is measured now under a name, and nil if there is nothing.
func read(ctx context.Context, name string) (metricdata.Aggregation, error) {
	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		return nil, err
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m.Data, nil
			}
		}
	}
	return nil, nil
}

// point is a measurement: a sum's or a gauge's value, or the number of those in a histogram.
type point struct {
	value float64
	attrs map[string]string
}

// points returns what is measured now under a name.
func points(t *testing.T, name string) []point {
	t.Helper()
	data, err := read(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var all []point
	add := func(value float64, set attribute.Set) {
		p := point{value, map[string]string{}}
		for _, kv := range set.ToSlice() {
			p.attrs[string(kv.Key)] = kv.Value.String()
		}
		all = append(all, p)
	}
	switch data := data.(type) {
	case nil:
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(float64(p.Value), p.Attributes)
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Value, p.Attributes)
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			add(float64(p.Value), p.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(float64(p.Count), p.Attributes)
		}
	default:
		t.Fatalf("%s: unexpected aggregation %T", name, data)
	}
	return all
}

// value is the sum of what is measured now under a name with these attributes, key and value in turn; tests are told apart by the
// attributes that name their queue, service and so on, or run one after the other.
func value(t *testing.T, name string, attrs ...string) float64 {
	t.Helper()
	sum := 0.0
next:
	for _, p := range points(t, name) {
		for i := 0; i < len(attrs); i += 2 {
			if p.attrs[attrs[i]] != attrs[i+1] {
				continue next
			}
		}
		sum += p.value
	}
	return sum
}
