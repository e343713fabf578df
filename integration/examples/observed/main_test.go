package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

const soon = 20 * time.Second

// sink is a collector as far as traces go.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.Span // guarded by mu
	of    map[string]bool // guarded by mu: names of services
}

// Export takes spans in.
func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				s.of[a.Value.GetStringValue()] = true
			}
		}
		for _, scope := range resource.ScopeSpans {
			if scope.Scope.GetName() == "github.com/etcdkit/etcdkit/queue" {
				s.spans = append(s.spans, scope.Spans...)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// collect starts a collector, and has this process send to it.
func collect(t *testing.T) *sink {
	s := &sink{of: map[string]bool{}}
	listener := listen(t)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	t.Setenv("OTEL_SERVICE_NAME", "observed")
	return s
}

func listen(t *testing.T) net.Listener {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The service is run as it is, beside a collector: a mail that is posted is pushed, handled, seen by Prometheus and traced.
func TestTheServiceCanBeWatched(t *testing.T) {
	sink := collect(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	listener := listen(t)
	done := make(chan error, 1)
	go func() { done <- serve(ctx, etcdtest.Endpoints(), listener) }()

	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + listener.Addr().String()
	request := func(ctx context.Context, method, path, body string) string {
		r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, text)
		}
		return string(text)
	}
	request(t.Context(), http.MethodPost, "/mail", "a secret")

	for _, line := range []string{
		`etcdkit_queue_pushed_total{etcdkit_queue_name="mail",`,
		`etcdkit_queue_attempts_total{etcdkit_outcome="acked",etcdkit_queue_name="mail",`,
		`etcdkit_queue_handling_seconds_bucket{etcdkit_outcome="acked",etcdkit_queue_name="mail",`,
		`etcdkit_queue_waited_seconds_count{etcdkit_queue_name="mail",`,
		`etcdkit_queue_depth{etcdkit_queue_name="mail",etcdkit_queue_state="in_flight",`,
		`etcdkit_queue_oldest_age_seconds{etcdkit_queue_name="mail",`,
		`etcdkit_queue_workers{etcdkit_queue_name="mail",`,
	} {
		etcdtest.Eventually(t, soon, line, func(ctx context.Context) error {
			if text := request(ctx, http.MethodGet, "/metrics", ""); !strings.Contains(text, "\n"+line) {
				return fmt.Errorf("it is not in\n%s", text)
			}
			return nil
		})
	}
	stop()
	if err := etcdtest.Receive(t, soon, "the end of the service", done); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// check looks at what there is of one job.
func (s *sink) check(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := map[string]*tracev1.Span{}
	for _, span := range s.spans {
		byName[span.Name] = span
		if strings.Contains(span.String(), "a secret") {
			t.Errorf("the item is told: %v", span)
		}
	}
	push, process := byName["push mail"], byName["process mail"]
	if push == nil || process == nil || len(s.spans) != 2 || !s.of["observed"] {
		t.Fatalf("collected of %v: %v", s.of, s.spans)
	}
	if push.Kind != tracev1.Span_SPAN_KIND_PRODUCER || process.Kind != tracev1.Span_SPAN_KIND_CONSUMER {
		t.Errorf("the kinds are %v and %v", push.Kind, process.Kind)
	}
	if len(process.Links) != 1 || !bytes.Equal(process.Links[0].TraceId, push.TraceId) || !bytes.Equal(process.Links[0].SpanId, push.SpanId) {
		t.Errorf("the links of the handler's span are %v, want one to %x of %x", process.Links, push.SpanId, push.TraceId)
	}
	if !bytes.Equal(process.TraceId, push.TraceId) || !bytes.Equal(process.ParentSpanId, push.SpanId) {
		t.Errorf("the handler's span is not below that of the push")
	}
}
