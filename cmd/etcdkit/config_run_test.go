package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// shared is the etcd of the tests that hurt none.
var shared struct {
	sync.Mutex
	cluster *etcdproc.Cluster
}

// newEtcd starts an etcd.
func newEtcd(ctx context.Context) (*etcdproc.Cluster, error) {
	return etcdproc.Start(ctx, etcdproc.Config{NoFsync: true, CheapPasswords: true})
}

// sharedEtcd is where the shared etcd is.
func sharedEtcd(t *testing.T) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		c, err := newEtcd(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster = c
	}
	return shared.cluster.Endpoint(0)
}

// ownEtcd starts an etcd for one test.
func ownEtcd(t *testing.T) string {
	t.Helper()
	c, err := newEtcd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c.Endpoint(0)
}

// stopShared stops the shared etcd.
func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		return nil
	}
	return shared.cluster.Stop(context.Background())
}

// shell runs the commands of one kind against an etcd, in this process.
type shell struct {
	t        *testing.T
	kind     string // config, if not queue
	endpoint string
	root     string // what the keys of the test are below
	in       io.Reader
}

// newShell is a shell on the shared etcd.
func newShell(t *testing.T) *shell { return shellOn(t, sharedEtcd(t)) }

func shellOn(t *testing.T, endpoint string) *shell {
	return &shell{t: t, kind: "config", endpoint: endpoint, root: "/test/" + rand.Text(), in: strings.NewReader("")}
}

// result is what a command has printed, and its exit code.
type result struct {
	t         *testing.T
	args      []string
	out, errs string
	code      int
}

// run runs etcdkit config, or queue. The first slash of a word that begins with ./ is the root of the test's keys.
func (s *shell) run(args ...string) *result {
	s.t.Helper()
	var out, errs bytes.Buffer
	r := &result{t: s.t, args: s.rooted(args)}
	r.code = execute(append([]string{s.kind, "--endpoints", s.endpoint}, r.args...), s.in, &out, &errs)
	r.out, r.errs = out.String(), errs.String()
	for what, text := range map[string]string{"stdout": r.out, "stderr": r.errs} {
		if strings.ContainsAny(text, "\x1b\r") {
			s.t.Errorf("%q: %s is no terminal and gets %q", args, what, text)
		}
	}
	return r
}

func (s *shell) rooted(args []string) []string {
	rooted := make([]string, len(args))
	for i, a := range args {
		if rest, ok := strings.CutPrefix(a, "./"); ok {
			a = strings.TrimSuffix(s.root+"/"+rest, "/")
			if strings.HasSuffix(rest, "/") {
				a += "/"
			}
		}
		rooted[i] = a
	}
	return rooted
}

// ok runs a command that must succeed, and returns what it prints.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("%q: code %d, stderr %q", r.args, r.code, r.errs)
	}
	return r.out
}

// fails runs a command that must end with a code, print nothing and say one line, or two if it is one of usage, with these words in
// the first of the last ones.
func (s *shell) fails(code int, words string, args ...string) *result {
	s.t.Helper()
	r := s.run(args...)
	lines := strings.Split(strings.TrimSuffix(r.errs, "\n"), "\n")
	said := lines[len(lines)-1]
	if code == 2 && len(lines) > 1 {
		if !strings.HasPrefix(said, "See: etcdkit "+s.kind) {
			s.t.Errorf("%q: the last line is %q", r.args, said)
		}
		said = lines[len(lines)-2]
	}
	if r.code != code || r.out != "" || !strings.HasPrefix(said, "etcdkit "+s.kind) || !strings.Contains(said, s.rootedText(words)) {
		s.t.Errorf("%q: code %d, stdout %q, stderr %q; want code %d and %q", r.args, r.code, r.out, r.errs, code, words)
	}
	return r
}

func (s *shell) rootedText(text string) string { return strings.ReplaceAll(text, "./", s.root+"/") }

// prints fails the test unless a command prints these words, in this order.
func (s *shell) prints(args []string, words ...string) string {
	s.t.Helper()
	out := s.ok(args...)
	s.holds(out, words...)
	return out
}

// holds fails the test unless a text holds words, in this order.
func (s *shell) holds(text string, words ...string) {
	s.t.Helper()
	rest := text
	for _, w := range words {
		_, after, found := strings.Cut(rest, s.rootedText(w))
		if !found {
			s.t.Errorf("no %q in its place in:\n%s", w, text)
			return
		}
		rest = after
	}
}

// objects runs a command with -o json, and returns the objects it prints.
func (s *shell) objects(args ...string) []map[string]any {
	s.t.Helper()
	return objectsOf(s.t, s.ok(append(args, "-o", "json")...))
}

func objectsOf(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(text) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, o)
	}
	return all
}

// object is objects of a command that prints one.
func (s *shell) object(args ...string) map[string]any {
	s.t.Helper()
	all := s.objects(args...)
	if len(all) != 1 {
		s.t.Fatalf("%q: %d objects", args, len(all))
	}
	return all[0]
}

// client is a client of the etcd.
func (s *shell) client() *clientv3.Client {
	s.t.Helper()
	cli, _ := client(s.t, s.endpoint)
	return cli
}

// put writes a key by other means.
func (s *shell) put(key, value string) int64 {
	s.t.Helper()
	resp, err := s.client().Put(s.t.Context(), s.rooted([]string{key})[0], value)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.GetRevision()
}

// limits is what the instances of tests read.
type limits struct {
	Rate int `json:"rate"`
}

var errRate = errors.New("a rate above 100")

// instance reads a key with an Identity. It refuses rates above 100, and reports that it fails with 66.
func (s *shell) instance(key, id string, labels map[string]string) *config.Value[limits] {
	s.t.Helper()
	v, err := config.Open(s.t.Context(), s.client(), s.rooted([]string{key})[0], &config.Options[limits]{
		Identity: config.Identity{ID: id, Labels: labels, TTL: 2e9},
		Validate: func(l limits) error {
			if l.Rate > 100 {
				return errRate
			}
			return nil
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for snapshot := range v.Changes(context.Background()) {
			if snapshot.Value.Rate == 66 {
				_ = v.Report(errors.New("too many\nerrors\x1b[31m"))
			}
		}
	}()
	s.t.Cleanup(func() { v.Close(); <-done })
	return v
}

// eventually runs a command with -o json whenever something has changed below etcdkit/, until it prints what is wanted.
func (s *shell) eventually(wanted func(o map[string]any) bool, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	changes := s.client().Watch(ctx, "etcdkit/config/"+s.root, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for range changes {
		if o := s.object(args...); wanted(o) {
			return
		}
	}
	s.t.Fatalf("%q: at last %v", args, s.ok(args...))
}

// noSecret fails the test if a text is among what a command has printed.
func (r *result) noSecret(text string) {
	r.t.Helper()
	if strings.Contains(r.out+r.errs, text) {
		r.t.Errorf("%q: %q is shown: %q, %q", r.args, text, r.out, r.errs)
	}
}
