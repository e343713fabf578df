//go:build unix

package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheGateway(t *testing.T) {
	t.Parallel()
	bin := build(t)
	t.Run("fails no request in a rolling restart", func(t *testing.T) { rollingRestart(t, bin) })
	t.Run("fails no GET when an instance is killed", func(t *testing.T) { killed(t, bin) })
	t.Run("says who is missing, and goes on with who comes", func(t *testing.T) { nobodyLeft(t, bin) })
	t.Run("is not ready before it stops", func(t *testing.T) { stopsItself(t, bin) })
}

// Each instance drains, stops and comes back, while the others answer; requests of any kind.
func rollingRestart(t *testing.T, bin string) {
	s := open(t, bin)
	running := map[string]func(){}
	for _, id := range []string{"a", "b"} {
		p := s.backend(t, id)
		says(t, s.gateway, ": "+id+" at ", "has come")
		running[id] = func() { stops(t, p) }
	}
	gets, posts := s.callers(t, 4, http.MethodGet, ""), s.callers(t, 2, http.MethodPost, "an order")
	for range 3 {
		for _, id := range []string{"a", "b"} {
			gets.await(t, 10, "a", "b")
			posts.await(t, 10, "a", "b")
			running[id]()
			says(t, s.gateway, ": "+id+" at ", "is draining")
			says(t, s.gateway, ": "+id+" at ", "has gone: left")
			p := s.backend(t, id)
			running[id] = func() { stops(t, p) }
		}
	}
	gets.await(t, 10, "a", "b")
	posts.await(t, 10, "a", "b")
	for kind, l := range map[string]*load{"GET": gets, "POST": posts} {
		l.stop()
		if failed := l.failures(); len(failed) > 0 {
			t.Errorf("%d of %d %ss have failed, the first: %s", len(failed), l.all, kind, failed[0])
		}
		t.Logf("%d %ss", l.all, kind)
	}
}

// One of two is killed with requests under way. A GET may be sent twice: those that it had are sent to the other one. What may
// not fails, and so does what has a body that cannot be read again, until the instance is left out or gone from etcd.
func killed(t *testing.T, bin string) {
	s := open(t, bin)
	s.backend(t, "a")
	says(t, s.gateway, ": a at ", "has come")
	b := s.backend(t, "b", shortLived)
	says(t, s.gateway, ": b at ", "has come")
	gets, posts := s.callers(t, 4, http.MethodGet, ""), s.callers(t, 2, http.MethodPost, "an order")
	gets.await(t, 20, "a", "b")
	posts.await(t, 20, "a", "b")
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	gets.await(t, 100, "a")
	says(t, s.gateway, ": b at ", "has gone: expired")
	gets.stop()
	if failed := gets.failures(); len(failed) > 0 {
		t.Errorf("%d of %d GETs have failed, the first: %s", len(failed), gets.all, failed[0])
	}
	// Those that were under way are all that may still fail.
	posts.await(t, 10, "a")
	before := posts.failures()
	posts.await(t, 50, "a")
	posts.stop()
	if after := posts.failures(); len(after) > len(before) {
		t.Errorf("a POST has failed after the instance was gone: %s", after[len(before)])
	}
	for _, failure := range before {
		if !strings.HasPrefix(failure, "502 ") || !strings.Contains(failure, s.service) {
			t.Errorf("a POST has failed with %s", failure)
		}
	}
	// Five running leave it out; beside them fail those that were under way, one a caller.
	if n := len(before); n > 10 {
		t.Errorf("%d of %d POSTs have failed", n, posts.all)
	}
	t.Logf("%d GETs; %d of %d POSTs have failed", gets.all, len(before), posts.all)
}

func nobodyLeft(t *testing.T, bin string) {
	s := open(t, bin)
	nobody := func(when string) {
		t.Helper()
		status, answer, err := s.send(http.MethodGet, "/"+s.service+"/", "")
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(answer, s.service) {
			t.Errorf("%s: %d %q, %v", when, status, answer, err)
		}
	}
	nobody("before anybody has come")
	a := s.backend(t, "a", shortLived)
	comes(t, s, "a")
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	says(t, s.gateway, "has gone: expired")
	nobody("when the last one was killed")
	b := s.backend(t, "b")
	comes(t, s, "b")
	stops(t, b)
	says(t, s.gateway, "has gone: left")
	nobody("when the last one has left")

	// While others are there, too, traffic goes to one that comes within a second.
	c := s.backend(t, "c")
	comes(t, s, "c")
	gets := s.callers(t, 2, http.MethodGet, "")
	gets.await(t, 10, "c")
	s.backend(t, "d")
	start := time.Now()
	gets.await(t, 1, "d")
	if took := time.Since(start); took > time.Second {
		t.Errorf("%v until it is called", took)
	}
	stops(t, c)
	gets.await(t, 10, "d")
	gets.stop()
	if failed := gets.failures(); len(failed) > 0 {
		t.Errorf("%d of %d GETs have failed, the first: %s", len(failed), gets.all, failed[0])
	}
}

// comes asks until an instance that has just been registered answers, for a second.
func comes(t *testing.T, s *site, id string) {
	t.Helper()
	for start := time.Now(); ; {
		status, answer, err := s.send(http.MethodGet, "/"+s.service+"/", "")
		if answer == "hello from "+id {
			return
		}
		if took := time.Since(start); took > time.Second {
			t.Fatalf("%s has not answered after %v, but %d %q, %v", id, took, status, answer, err)
		}
	}
}

func stopsItself(t *testing.T, bin string) {
	s := open(t, bin, "-grace", "1s")
	s.backend(t, "a")
	comes(t, s, "a")
	expect := func(when, path string, want int) {
		t.Helper()
		if status, answer, err := s.send(http.MethodGet, path, ""); status != want {
			t.Errorf("%s: %s is %d %q, %v", when, path, status, answer, err)
		}
	}
	expect("while it runs", "/readyz", http.StatusOK)
	expect("while it runs", "/healthz", http.StatusOK)
	if err := s.gateway.Terminate(); err != nil {
		t.Fatal(err)
	}
	says(t, s.gateway, "stopping")
	expect("told to stop", "/readyz", http.StatusServiceUnavailable)
	expect("told to stop", "/healthz", http.StatusOK)
	expect("told to stop", "/"+s.service+"/", http.StatusOK)
	ends(t, s.gateway)
}
