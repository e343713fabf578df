package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	// scrapeWithin bounds how long a process may take to show its metrics: a frozen one never does.
	scrapeWithin = 2 * time.Second

	// patienceHeader is where Prometheus says how many seconds it waits for the whole page. The processes have half of that.
	patienceHeader = "X-Prometheus-Scrape-Timeout-Seconds"

	// mostMetrics bounds a page; a member's has some 200 KiB.
	mostMetrics = 16 << 20

	// upName is the metric that says which pages could be had, as in Prometheus.
	upName = "up"
)

// The labels that tell whose a metric is.
const (
	jobLabel      = "job"
	instanceLabel = "instance"
)

// source is a process that has metrics to show.
type source struct {
	job, instance string
	url           string
}

// page is what a source has shown.
type page struct {
	source
	families map[string]*dto.MetricFamily
	err      error
}

// federation serves the metrics of many processes as one page, each with labels that say whose it is. What cannot be read is
// left out, and up is 0 for it.
type federation struct {
	client  *http.Client
	sources func() []source
}

func newFederation(sources func() []source) *federation {
	return &federation{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, sources: sources}
}

// ServeHTTP asks all sources at once.
func (f *federation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	within := scrapeWithin
	if patience, err := strconv.ParseFloat(r.Header.Get(patienceHeader), 64); err == nil && patience > 0 {
		within = min(within, time.Duration(patience*float64(time.Second)/2))
	}
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	sources := f.sources()
	pages := make([]page, len(sources))
	var asked sync.WaitGroup
	for i, s := range sources {
		asked.Go(func() {
			pages[i].source = s
			pages[i].families, pages[i].err = f.read(ctx, s.url)
		})
	}
	asked.Wait()
	all, err := merged(pages)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	out := expfmt.NewEncoder(w, format)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := out.Encode(all[name]); err != nil {
			return // whoever asked has gone
		}
	}
}

// read reads a page.
func (f *federation) read(ctx context.Context, url string) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(response.Body, mostMetrics))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err) // and half a page is none
	}
	return families, nil
}

// merged is all pages as one.
func merged(pages []page) (map[string]*dto.MetricFamily, error) {
	all := map[string]*dto.MetricFamily{upName: {Name: new(upName), Help: new("1 if the process has shown its metrics."), Type: dto.MetricType_GAUGE.Enum()}}
	for _, p := range pages {
		up := 1.0
		if p.err != nil {
			up = 0
		}
		all[upName].Metric = append(all[upName].Metric, p.own(&dto.Metric{Gauge: &dto.Gauge{Value: &up}}))
		for name, family := range p.families {
			known := all[name]
			if known == nil {
				known = &dto.MetricFamily{Name: family.Name, Help: family.Help, Type: family.Type}
				all[name] = known
			}
			if known.GetType() != family.GetType() {
				return nil, fmt.Errorf("%s is a %v of %s, and a %v of others", name, family.GetType(), p.instance, known.GetType())
			}
			for _, m := range family.Metric {
				known.Metric = append(known.Metric, p.own(m))
			}
		}
	}
	return all, nil
}

// own says of a metric whose it is.
func (s source) own(m *dto.Metric) *dto.Metric {
	m.Label = append(m.Label,
		&dto.LabelPair{Name: new(jobLabel), Value: &s.job},
		&dto.LabelPair{Name: new(instanceLabel), Value: &s.instance})
	return m
}

// listenLocally opens an address that metrics are to be read from: without a host on this machine only.
func listenLocally(ctx context.Context, addr string) (net.Listener, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// serveMetrics serves pages on a listener until the returned function is called.
func serveMetrics(listener net.Listener, pages http.Handler) (stop func() error) {
	server := &http.Server{Handler: pages, ReadHeaderTimeout: scrapeWithin}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() error {
		err := server.Close()
		if failed := <-ended; !errors.Is(failed, http.ErrServerClosed) {
			err = errors.Join(err, failed)
		}
		return err
	}
}
