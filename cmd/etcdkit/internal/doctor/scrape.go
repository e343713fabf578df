package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// mostMetrics bounds a page of metrics; a member's has some 200 KiB.
const mostMetrics = 16 << 20

var errNoAddress = errors.New("no address for metrics is known")

// metricsURL is where the member behind an endpoint that was given serves its metrics.
func metricsURL(p *Patient, i int) string {
	if len(p.MetricsURLs) == len(p.Endpoints) {
		return metricsOf(p, p.MetricsURLs[i])
	}
	return metricsOf(p, p.Endpoints[i])
}

// metricsOf is the address of the metrics at an endpoint, as etcd has it; "" if it is none of HTTP.
func metricsOf(p *Patient, endpoint string) string {
	if !strings.Contains(endpoint, "://") {
		scheme := "http://"
		if p.TLS() != nil {
			scheme = "https://"
		}
		endpoint = scheme + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return ""
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/metrics"
	}
	return u.String()
}

// gauges are a member's metrics as they were at one moment.
type gauges map[string]*dto.MetricFamily

// scrape reads the metrics of a member, with the TLS of the patient.
func scrape(ctx context.Context, p *Patient, s *site) (gauges, error) {
	if s.metrics == "" {
		return nil, errNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: p.TLS(), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	// A page elsewhere is not the member's, and would be shown the certificate.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", s.metrics, resp.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	g, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, mostMetrics))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.metrics, err)
	}
	return g, nil
}

// value is the sum of a gauge's or a counter's values.
func (g gauges) value(name string) (sum float64, ok bool) {
	family := g[name]
	if family == nil {
		return 0, false
	}
	for _, m := range family.Metric {
		switch {
		case m.Gauge != nil:
			sum += m.Gauge.GetValue()
		case m.Counter != nil:
			sum += m.Counter.GetValue()
		case m.Untyped != nil:
			sum += m.Untyped.GetValue()
		}
	}
	return sum, len(family.Metric) > 0
}

// quantiles are, of each series of a histogram that is wanted and has so many samples, the bound that a share of them is under.
func (g gauges) quantiles(name string, q float64, least uint64, wanted func(labels map[string]string) bool) []time.Duration {
	family := g[name]
	if family == nil {
		return nil
	}
	var all []time.Duration
	for _, m := range family.Metric {
		labels := map[string]string{}
		for _, l := range m.Label {
			labels[l.GetName()] = l.GetValue()
		}
		if h := m.GetHistogram(); h.GetSampleCount() >= least && wanted(labels) {
			all = append(all, quantile(h, q))
		}
	}
	return all
}

// quantile interpolates within the bucket, as Prometheus does. Samples over the last bound count as that.
func quantile(h *dto.Histogram, q float64) time.Duration {
	rank, below, low := q*float64(h.GetSampleCount()), uint64(0), 0.0
	for _, b := range h.Bucket {
		high := b.GetUpperBound()
		if float64(b.GetCumulativeCount()) >= rank {
			if math.IsInf(high, 1) {
				break
			}
			if in := b.GetCumulativeCount() - below; in > 0 {
				low += (high - low) * (rank - float64(below)) / float64(in)
			}
			break
		}
		below, low = b.GetCumulativeCount(), high
	}
	if math.IsInf(low, 1) {
		low = 0
	}
	return time.Duration(low * float64(time.Second))
}
