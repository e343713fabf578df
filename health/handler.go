package health

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// maxText bounds what is shown of a name or of an error, in bytes.
const maxText = 1 << 10

// Readiness returns a handler that answers whether the process should be given work: 200 while none of the checks has an
// error, else 503. See the package comment for what belongs into it.
//
// The body is text: "ok", or a line for each check that fails, with its name and error; with the query ?verbose a line for every
// check. Control characters are left out, and what is longer than 1 KiB is cut. Methods other than GET and HEAD are answered
// with 405. Nothing of it is to be cached. The map is copied; without checks the answer is 200, as the process does answer.
//
// The handler is safe for concurrent use. Readiness panics if a check is nil.
func Readiness(checks map[string]Checker) http.Handler { return newHandler(checks) }

// Liveness returns a handler that answers whether the process works at all: 503 if one of the checks has an error, as only
// a restart helps then, else 200. In all else it is as [Readiness].
//
// Something that the process closes on purpose while it ends fails its check too. Let the orchestrator's threshold be longer
// than that takes, or leave out what is closed early.
func Liveness(checks map[string]Fatal) http.Handler {
	all := make(map[string]Checker, len(checks))
	for name, f := range checks {
		all[name] = f.check
	}
	return newHandler(all)
}

// handler answers probes.
type handler struct{ checks []check }

type check struct {
	name    string
	checker Checker
}

func newHandler(checks map[string]Checker) *handler {
	h := &handler{}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if checks[name] == nil {
			panic(fmt.Sprintf("health: check %q is nil", name))
		}
		h.checks = append(h.checks, check{line(name), checks[name]})
	}
	return h
}

// ServeHTTP answers a probe.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	verbose := r.URL.Query().Has("verbose")
	status := http.StatusOK
	var body bytes.Buffer
	for _, c := range h.checks {
		switch err := c.checker.Err(); {
		case err != nil:
			status = http.StatusServiceUnavailable
			fmt.Fprintf(&body, "%s: %s\n", c.name, line(err.Error()))
		case verbose:
			fmt.Fprintf(&body, "%s: ok\n", c.name)
		}
	}
	if body.Len() == 0 {
		body.WriteString("ok\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // whoever has asked has gone
}

// line is a text as it can be shown on one line. Joined errors have a line each.
func line(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
