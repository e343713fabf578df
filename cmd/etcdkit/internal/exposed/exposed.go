// Package exposed has what etcdkit measures in a process shown to Prometheus, as docs/metrics.md says it is done.
package exposed

import (
	"net/http"

	promclient "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

// Install installs the process's provider of meters, and returns the page that shows what they have measured. Call it once.
func Install() (http.Handler, error) {
	registry := promclient.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	if err != nil {
		return nil, err
	}
	// Nothing is sent anywhere, so there is nothing to shut down.
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(exporter)))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}
