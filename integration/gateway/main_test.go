//go:build unix

// Package gateway_test runs the programs of examples/gateway as processes of their own, and stops and kills them under load.
package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// soon is the patience with what has no bound of its own; a busy machine may need it.
const soon = 20 * time.Second

// shortLived has a backend that is killed be gone soon. The others have the default: a lease of two seconds does not outlive every
// pause of a busy machine.
const shortLived = "-ttl=2s"

// program is a child that becomes another program, which is its first argument: a process that does not outlive the test.
const program = "program"

func TestMain(m *testing.M) {
	etcdproc.Child(program, func() {
		fmt.Fprintln(os.Stderr, syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
		os.Exit(1)
	})
	etcdtest.Main(m)
}

// build makes the programs, and returns the directory that holds them.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const gateway = "github.com/etcdkit/etcdkit/examples/gateway"
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+"/", gateway, gateway+"/backend").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// site is a gateway, the service behind it, and what is needed to start instances of that.
type site struct {
	bin     string
	service string
	gateway *etcdproc.Process
	url     string // of the gateway
	client  *http.Client
}

// open starts a gateway in front of a service without instances, for the test's time.
func open(t *testing.T, bin string, args ...string) *site {
	t.Helper()
	s := &site{bin: bin, service: strings.ReplaceAll(strings.Trim(etcdtest.Prefix(t), "/"), "/", "-")}
	s.gateway = s.start(t, "gateway", append([]string{"-listen", "127.0.0.1:0", "-services", s.service}, args...)...)
	_, s.url, _ = strings.Cut(says(t, s.gateway, "serving on "), "serving on ")
	base := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(base.CloseIdleConnections)
	s.client = &http.Client{Transport: base, Timeout: soon}
	return s
}

// backend starts an instance, and returns when it is registered.
func (s *site) backend(t *testing.T, id string, args ...string) *etcdproc.Process {
	t.Helper()
	p := s.start(t, "backend", append([]string{"-service", s.service, "-id", id, "-work", "5ms"}, args...)...)
	says(t, p, id+" serves on ")
	return p
}

func (s *site) start(t *testing.T, name string, args ...string) *etcdproc.Process {
	t.Helper()
	args = append([]string{filepath.Join(s.bin, name), "-etcd", strings.Join(etcdtest.Endpoints(), ",")}, args...)
	p, err := etcdproc.Spawn(etcdproc.Command{Child: program, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for t.Failed() {
			line, err := p.Line(context.Background())
			if err != nil {
				break
			}
			t.Logf("%s: %s", name, line)
		}
	})
	return p
}

// says waits for a line of a process that holds all of the texts, and returns it. Those before are skipped.
func says(t *testing.T, p *etcdproc.Process, texts ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		line, err := p.Line(ctx)
		if err != nil {
			t.Fatalf("process %d has not said %q: %v\n%s", p.PID(), texts, err, p.Stderr())
		}
		t.Logf("process %d: %s", p.PID(), line)
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			return line
		}
	}
}

// stops has a process end as it should when it is told to.
func stops(t *testing.T, p *etcdproc.Process) {
	t.Helper()
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
	ends(t, p)
}

// ends waits for the end of a process, which must be an orderly one.
func ends(t *testing.T, p *etcdproc.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// send makes one request of the gateway. It returns the status and the body.
func (s *site) send(method, path, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soon) // the test's ends before its cleanup
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(answer)), err
}

// load is callers that make one request of the service after the other.
type load struct {
	stop func() // returns when they have ended

	mu      sync.Mutex
	by      map[string]int // guarded by mu; how often each instance has answered
	all     int            // guarded by mu
	failed  []string       // guarded by mu; what came instead of an answer
	changed chan struct{}  // guarded by mu; closed with the next request, nil if nobody waits
}

// callers starts so many callers, for the test's time.
func (s *site) callers(t *testing.T, n int, method, body string) *load {
	t.Helper()
	l := &load{by: map[string]int{}}
	ending := make(chan struct{})
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for {
				select {
				case <-ending:
					return
				default:
					l.count(s.send(method, "/"+s.service+"/", body))
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(ending); callers.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *load) count(status int, answer string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all++
	if id, ok := strings.CutPrefix(answer, "hello from "); ok && status == http.StatusOK && err == nil {
		l.by[id]++
	} else {
		l.failed = append(l.failed, fmt.Sprintf("%d %q %v", status, answer, err))
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// failures returns what came instead of answers so far.
func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.failed...)
}

// await returns when so many more requests have been answered by each of the instances.
func (l *load) await(t *testing.T, more int, ids ...string) {
	t.Helper()
	want := map[string]int{}
	l.mu.Lock()
	for _, id := range ids {
		want[id] = l.by[id] + more
	}
	l.mu.Unlock()
	timeout := time.After(soon)
	for {
		l.mu.Lock()
		met := true
		for id, n := range want {
			met = met && l.by[id] >= n
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed, now := l.changed, fmt.Sprint(l.by)
		l.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not within %v: %d more answers of each of %v; there are %s, and %q", soon, more, ids, now, l.failures())
		}
	}
}
