package health_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/health"
	"github.com/etcdkit/etcdkit/registry"
)

// What repairs itself is a Checker, and what tells of work that outlives its term is a Func.
var (
	_ health.Checker = (*registry.Registration)(nil)
	_ health.Checker = (*registry.View)(nil)
	_ health.Checker = (*config.Value[int])(nil)
	_ health.Func    = (*election.Health)(nil).Check
)

var (
	errBad    = errors.New("bad")
	errWorse  = errors.New("worse")
	errClosed = errors.New("closed")
)

// switched is a Checker that is told what to say.
type switched struct{ err atomic.Pointer[error] }

func (s *switched) set(err error) { s.err.Store(&err) }

func (s *switched) Err() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// ask asks a handler as an orchestrator does.
func ask(t *testing.T, h http.Handler, method, target string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
	resp := w.Result()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func wantAnswer(t *testing.T, h http.Handler, target string, status int, body string) {
	t.Helper()
	if resp, got := ask(t, h, http.MethodGet, target); resp.StatusCode != status || got != body {
		t.Errorf("%s: got %d, %q; want %d, %q", target, resp.StatusCode, got, status, body)
	}
}

func TestReadinessFailsWhileACheckDoes(t *testing.T) {
	t.Parallel()
	one, two := &switched{}, &switched{}
	h := health.Readiness(map[string]health.Checker{"two": two, "one": one})
	wantAnswer(t, h, "/", 200, "ok\n")
	wantAnswer(t, h, "/?verbose", 200, "one: ok\ntwo: ok\n")
	two.set(errBad)
	wantAnswer(t, h, "/", 503, "two: bad\n")
	wantAnswer(t, h, "/?verbose=1", 503, "one: ok\ntwo: bad\n")
	one.set(errWorse)
	wantAnswer(t, h, "/", 503, "one: worse\ntwo: bad\n")
	one.set(nil)
	two.set(nil)
	wantAnswer(t, h, "/", 200, "ok\n")
}

func TestWithoutChecksAProcessIsReadyAndAlive(t *testing.T) {
	t.Parallel()
	wantAnswer(t, health.Readiness(nil), "/?verbose", 200, "ok\n")
	wantAnswer(t, health.Liveness(nil), "/?verbose", 200, "ok\n")
}

func TestLivenessFailsOnlyOfWhatIsForGood(t *testing.T) {
	t.Parallel()
	view, work := &switched{}, &switched{}
	h := health.Liveness(map[string]health.Fatal{
		"view": health.FatalIf(view, errClosed, errWorse),
		"work": health.FatalFunc(work.Err),
	})
	wantAnswer(t, h, "/?verbose", 200, "view: ok\nwork: ok\n")
	view.set(fmt.Errorf("mail: %w", errBad))
	wantAnswer(t, h, "/", 200, "ok\n")
	view.set(fmt.Errorf("mail: %w", errClosed))
	wantAnswer(t, h, "/", 503, "view: mail: closed\n")
	view.set(errors.Join(errBad, errWorse))
	wantAnswer(t, h, "/", 503, "view: bad; worse\n")
	view.set(nil)
	work.set(errBad)
	wantAnswer(t, h, "/", 503, "work: bad\n")
}

func TestOnlyTheErrorsThatMatterAreSeen(t *testing.T) {
	t.Parallel()
	c := &switched{}
	only := health.Only(c, errWorse, errClosed)
	for err, want := range map[error]bool{
		nil: false, errBad: false, errWorse: true, fmt.Errorf("x: %w", errClosed): true, errors.Join(errBad, errWorse): true,
	} {
		c.set(err)
		if got := only.Err(); want && !errors.Is(got, err) || !want && got != nil {
			t.Errorf("of %v it shows %v", err, got)
		}
	}
}

func TestAContextIsWellUntilItEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	c := health.Context(ctx)
	if err := c.Err(); err != nil {
		t.Error(err)
	}
	cancel(errBad)
	if err := c.Err(); !errors.Is(err, errBad) {
		t.Error(err)
	}
}

func TestOnlyGETAndHEADAreAnswered(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(health.Readiness(map[string]health.Checker{"a": health.Func(func() error { return errBad })}))
	defer server.Close()
	for method, status := range map[string]int{
		http.MethodGet: 503, http.MethodHead: 503, http.MethodPost: 405, http.MethodDelete: 405, http.MethodOptions: 405,
	} {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != status || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %v, %v", method, resp.StatusCode, resp.Header, err)
		}
		if allowed := resp.Header.Get("Allow"); status == 405 && allowed != "GET, HEAD" {
			t.Errorf("%s: allowed is %q", method, allowed)
		}
		if want := map[string]string{http.MethodGet: "a: bad\n", http.MethodHead: ""}[method]; status == 503 && string(body) != want {
			t.Errorf("%s: body %q", method, body)
		}
		if status == 503 && (resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %v", method, resp.Header)
		}
	}
}

// An error may repeat a key or an ID, which anybody may have written.
func TestTextsAreALineEachAndNotLong(t *testing.T) {
	t.Parallel()
	h := health.Readiness(map[string]health.Checker{
		"na\nme\x1b[31m": health.Func(func() error { return errors.New("a\r\nb: ok\x00\xff\u0085") }),
		"zlong":          health.Func(func() error { return errors.New("x" + strings.Repeat("é", 10_000)) }),
	})
	wantAnswer(t, h, "/", 503, "na; me[31m: a; b: ok\nzlong: x"+strings.Repeat("é", 511)+"\n")
}

func TestTheMapMayBeUsedAfterwards(t *testing.T) {
	t.Parallel()
	checks := map[string]health.Checker{"a": &switched{}}
	h := health.Readiness(checks)
	checks["b"] = health.Func(func() error { return errBad })
	wantAnswer(t, h, "/?verbose", 200, "a: ok\n")
}

func TestAProgrammersMistakesPanicOnTheFirstRun(t *testing.T) {
	t.Parallel()
	for what, f := range map[string]func(){
		"a nil Checker":       func() { health.Readiness(map[string]health.Checker{"a": nil}) },
		"a zero Fatal":        func() { health.Liveness(map[string]health.Fatal{"a": {}}) },
		"a nil func":          func() { health.FatalFunc(nil) },
		"no errors to matter": func() { health.FatalIf(&switched{}) },
		"nothing to look at":  func() { health.Only(nil, errBad) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "health: ") {
					t.Errorf("%s: %v", what, p)
				}
			}()
			f()
		}()
	}
}
