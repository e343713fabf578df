package demo

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// shows is the URL of a process that shows a page.
func shows(t *testing.T, page string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) }))
	t.Cleanup(server.Close)
	return server.URL
}

// federated is the page of a federation of sources, and its status.
func federated(sources ...source) (string, int) {
	recorded := httptest.NewRecorder()
	f := newFederation(func() []source { return sources })
	f.ServeHTTP(recorded, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	body, _ := io.ReadAll(recorded.Body)
	return string(body), recorded.Code
}

func TestAFederationSaysWhoseEachMetricIs(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	page, code := federated(
		source{"etcd", "m0", shows(t, "# TYPE leases gauge\nleases 3\n")},
		source{"orders", "a", shows(t, "# HELP calls Calls.\n# TYPE calls counter\ncalls{to=\"b\"} 7\n# TYPE wait histogram\nwait_bucket{le=\"1\"} 2\nwait_bucket{le=\"+Inf\"} 3\nwait_sum 4\nwait_count 3\n")},
		source{"orders", "b", shows(t, "# HELP calls Calls.\n# TYPE calls counter\ncalls{to=\"a\"} 8\n")},
		source{"orders", "c", gone.URL},
		source{"orders", "d", shows(t, "this is no page of metrics\n")},
	)
	want := `# HELP calls Calls.
# TYPE calls counter
calls{to="b",job="orders",instance="a"} 7
calls{to="a",job="orders",instance="b"} 8
# TYPE leases gauge
leases{job="etcd",instance="m0"} 3
# HELP up 1 if the process has shown its metrics.
# TYPE up gauge
up{job="etcd",instance="m0"} 1
up{job="orders",instance="a"} 1
up{job="orders",instance="b"} 1
up{job="orders",instance="c"} 0
up{job="orders",instance="d"} 0
# TYPE wait histogram
wait_bucket{job="orders",instance="a",le="1"} 2
wait_bucket{job="orders",instance="a",le="+Inf"} 3
wait_sum{job="orders",instance="a"} 4
wait_count{job="orders",instance="a"} 3
`
	if page != want || code != http.StatusOK {
		t.Errorf("code %d, %s\nwant %s", code, page, want)
	}
}

// A process that is frozen must not cost Prometheus the whole page.
func TestAFederationWaitsForNoProcessLongerThanItIsWaitedFor(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	frozen := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	t.Cleanup(frozen.Close)
	t.Cleanup(func() { close(stuck) })
	recorded := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	request.Header.Set(patienceHeader, "0.2")
	began := time.Now()
	newFederation(func() []source { return []source{{"orders", "d", frozen.URL}} }).ServeHTTP(recorded, request)
	if took := time.Since(began); took > scrapeWithin/2 {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(recorded.Body.String(), `up{job="orders",instance="d"} 0`) {
		t.Errorf("%s", recorded.Body)
	}
}

func TestAFederationDoesNotMixWhatIsNotTheSame(t *testing.T) {
	page, code := federated(
		source{"orders", "a", shows(t, "# TYPE calls counter\ncalls 7\n")},
		source{"orders", "b", shows(t, "# TYPE calls gauge\ncalls 8\n")},
	)
	if code != http.StatusInternalServerError || !strings.Contains(page, "calls is a GAUGE of b, and a COUNTER of others") {
		t.Errorf("code %d, %s", code, page)
	}
}
