package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/queue"
)

// Fewer series: queues are not told apart, and a tenth of the traces are sent.
func Example_less() {
	var (
		metrics *prometheus.Exporter // see observe
		spans   trace.SpanExporter
	)
	meters := metric.NewMeterProvider(metric.WithReader(metrics), metric.WithView(metric.NewView(
		metric.Instrument{Name: "etcdkit.queue.*"},
		metric.Stream{AttributeFilter: attribute.NewDenyKeysFilter("etcdkit.queue.name")},
	)))
	tracers := trace.NewTracerProvider(trace.WithBatcher(spans), trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(0.1))))
	otel.SetMeterProvider(meters)
	otel.SetTracerProvider(tracers)
}

// One process of a fleet reports all queues, whichever leads.
func Example_report() {
	var (
		ctx    context.Context
		client *clientv3.Client
	)
	_ = election.Run(ctx, client, "reports queues", "", nil, func(ctx context.Context, _ *election.Term) error {
		return queue.Report(ctx, client, nil)
	})
}

// What the page shows is in this package, line for line.
func TestThePageShowsThisProgram(t *testing.T) {
	page, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, name := range []string{"observe.go", "serve.go", "page_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(text)
	}
	indent := regexp.MustCompile(`(?m)^[ \t]+`)
	code := indent.ReplaceAllString(sources.String(), "")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		t.Fatalf("the page has %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(code, indent.ReplaceAllString(b[1], "")) {
			t.Errorf("this is on the page, and not in the program:\n%s", b[1])
		}
	}
}
