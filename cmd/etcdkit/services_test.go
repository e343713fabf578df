package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
)

// servicesShell is a shell of services, whose flags say where the test's instances are.
func servicesShell(t *testing.T, endpoint string) *shell {
	s := seeShell(t, endpoint, "services")
	s.root = strings.TrimPrefix(s.root, "/")
	return s
}

// announce registers an instance from this process.
func (s *shell) announce(i registry.Instance) *registry.Registration {
	s.t.Helper()
	r, err := registry.Register(s.t.Context(), s.client(), i, &registry.Options{Prefix: s.root})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

// registering is etcdkit register of a test's service.
func (s *shell) registering(args ...string) *run {
	s.t.Helper()
	return launch(s.t, append([]string{"register", "--endpoints", s.endpoint, "--prefix", s.root}, args...)...)
}

// becomes waits until the instance mail/a is in a state, or "gone".
func (s *shell) becomes(state string) *registry.Instance {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	key := s.root + "/mail/a"
	for range s.client().Watch(ctx, key, clientv3.WithCreatedNotify()) {
		resp, err := s.client().Get(ctx, key)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			if state == "gone" {
				return nil
			}
			continue
		}
		if i, err := registry.DecodeJSON("mail", "a", resp.Kvs[0].Value); err == nil && i.State.String() == state {
			return i
		}
	}
	s.t.Fatalf("mail/a is not %s", state)
	return nil
}

// states are what mail/a was, from the beginning.
func (s *shell) states() (all []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	end := s.put(s.root+"/end", "")
	for resp := range s.client().Watch(ctx, s.root+"/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		for _, ev := range resp.Events {
			switch {
			case ev.Kv.ModRevision == end:
				return all
			case ev.Type == clientv3.EventTypeDelete:
				all = append(all, "gone")
			default:
				if i, err := registry.DecodeJSON("mail", "a", ev.Kv.Value); err == nil {
					all = append(all, i.State.String())
				}
			}
		}
	}
	return all
}

func TestServicesAndTheirInstancesAreListed(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	if r := s.run("--prefix", s.root); r.code != 0 || r.out != "" || r.errs != "no services\n" {
		t.Errorf("%+v", r)
	}
	s.announce(registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80", Zone: "eu-1b", Version: "1.4.0", Metadata: map[string]string{"z": "1", "commit": "3f2a\x1b[31m"}})
	s.announce(registry.Instance{Service: "mail", ID: "b", Addr: "10.0.0.8:80", State: registry.Draining, Zone: "eu-1a"})
	s.announce(registry.Instance{Service: "shop/cart", ID: "c", Addr: "10.0.0.9:80", State: registry.Starting})
	s.put(s.root+"/mail/bad\x1b", `{"Addr":"nowhere"}`)
	s.put(s.root+"/mail/bare", `{"Addr":"10.0.0.10:80"}`)
	s.prints([]string{"--prefix", s.root}, "SERVICE    READY  STARTING  DRAINING  MALFORMED  ZONES        VERSIONS\n",
		"mail           2         0         1          1  eu-1a eu-1b  1.4.0\n", "shop/cart      0         1         0          0\n")
	s.prints([]string{"mail", "--prefix", s.root}, "ID ", "STATE ", "ADDR ", "ZONE ", "VERSION  LEFT ", "METADATA, PROBLEMS\n",
		"a  ", "ready ", "10.0.0.7:80 ", "eu-1b  1.4.0 ", "of 10s ", "commit=3f2a [31m z=1", "b  ", "draining ",
		"bad  ", "malformed ", "instance name ", "bare ", "ready ", "without a lease: it stays when its process dies\n")
	all := s.objects("mail", "--prefix", s.root)
	if len(all) != 4 || all[0]["state"] != "ready" || all[0]["metadata"].(map[string]any)["z"] != "1" || all[0]["grantedSeconds"] != 10.0 || all[2]["state"] != "malformed" {
		t.Errorf("%v", all)
	}
	if all := s.objects("--prefix", s.root); len(all) != 2 || all[0]["service"] != "mail" || all[0]["malformed"] != 1.0 || all[1]["starting"] != 1.0 {
		t.Errorf("%v", all)
	}
	s.fails(1, "none: no instances", "none", "--prefix", s.root)
	s.fails(1, "shop: no instances", "shop", "--prefix", s.root)
	s.fails(1, `service name "mail/" refused: it ends in a slash`, "mail/")
}

func TestServicesAreWatched(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	one := launch(t, "services", "mail", "--endpoints", s.endpoint, "--prefix", s.root, "--watch")
	a := s.announce(registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80"})
	s.holds(one.expect(""), "came     a  ready  10.0.0.7:80")
	all := launch(t, "services", "--endpoints", s.endpoint, "--prefix", s.root, "-w", "-o", "json")
	if o := objectsOf(t, all.expect(""))[0]; o["service"] != "mail" || o["ready"] != 1.0 || o["time"] == nil {
		t.Errorf("%v", o)
	}
	if err := a.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.holds(one.expect(""), "changed  a  draining")
	if o := objectsOf(t, all.expect(""))[0]; o["ready"] != 0.0 || o["draining"] != 1.0 {
		t.Errorf("%v", o)
	}
	_ = a.Close(t.Context())
	s.holds(one.expect(""), "gone     a")
	if o := objectsOf(t, all.expect(""))[0]; o["draining"] != 0.0 {
		t.Errorf("%v", o)
	}
	for _, r := range []*run{one, all} {
		r.signal(syscall.SIGTERM)
		if _, code := r.wait(); code != 0 || r.errs.Len() > 0 {
			t.Errorf("code %d, stderr %q", code, &r.errs)
		}
	}
}

func TestAnInstanceIsAnnouncedWhileACommandRuns(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	r := s.registering("mail", "10.0.0.7:80", "--id", "a", "--zone", "eu", "--version", "2", "--weight", "7", "--meta", "x=1", "--meta", "y=2", "--ttl", "5s",
		"--", "sh", "-c", "echo up $0; read line; exit 7", "arg")
	if got := r.expect("up "); got != "arg" {
		t.Errorf("%q", got)
	}
	if _, code := r.wait(); code != 7 || !strings.Contains(r.errs.String(), "mail/a: announced at 10.0.0.7:80\n") || !strings.HasSuffix(r.errs.String(), "etcdkit register: the command has ended with 7\n") {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	states := strings.Join(s.states(), " ") // the command has ended at once: it may have been ready before, or not
	if states != "starting ready draining gone" && states != "starting draining gone" {
		t.Errorf("%s", states)
	}
	r.nothingLeft()

	// Drained before the command is told to end, and gone after it has.
	r = s.registering("mail", "10.0.0.7:80", "--id", "a", "--zone", "eu", "--weight", "7", "--meta", "x=1", "--drain", "700ms", "--",
		"sh", "-c", `trap 'echo told; exit 3' TERM; echo up; while :; do sleep 0.01; done`)
	r.expect("up")
	if i := s.becomes("ready"); i.Zone != "eu" || i.Weight != 7 || i.Metadata["x"] != "1" {
		t.Errorf("%+v", i)
	}
	r.signal(syscall.SIGTERM)
	s.becomes("draining")
	began := time.Now()
	r.expect("told")
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("told to end %v after callers could know", took)
	}
	if _, code := r.wait(); code != 3 {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	if states := s.states(); strings.Join(states[len(states)-4:], " ") != "starting ready draining gone" {
		t.Errorf("%v", states)
	}
	r.nothingLeft()
}

func TestAnInstanceIsAnnouncedUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	r := s.registering("mail", "10.0.0.7:80", "--id", "a", "--drain", "0s")
	s.becomes("ready")
	r.signal(syscall.SIGINT)
	if out, code := r.wait(); code != 0 || out != "" {
		t.Errorf("code %d, %q, stderr %q", code, out, &r.errs)
	}
	if got := strings.Join(s.states(), " "); got != "ready draining gone" {
		t.Errorf("%s", got)
	}
}

// exists waits for a file.
func exists(t *testing.T, file string) {
	t.Helper()
	deadline := time.After(soon)
	for {
		if _, err := os.Stat(file); err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("there is no %s within %v", file, soon)
		}
	}
}

func TestAHealthCommandDecidesWhetherAnInstanceIsReady(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	file := filepath.Join(t.TempDir(), "healthy")
	r := s.registering("mail", "10.0.0.7:80", "--id", "a", "--health-cmd", "cat "+file+" || { touch "+file+".missed; false; }", "--health-interval", "3s", "--health-timeout", "3s",
		"--health-failures", "2", "--drain", "0s", "--", "sh", "-c", "echo up; exec sleep 1000")
	r.expect("up")
	s.becomes("starting")
	exists(t, file+".missed") // it starts so before it is looked at
	healthy := func(yes bool) {
		t.Helper()
		err := os.Remove(file)
		if yes {
			err = os.WriteFile(file, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	healthy(true)
	s.becomes("ready")
	healthy(false)
	s.becomes("starting")
	healthy(true)
	s.becomes("ready")
	r.signal(syscall.SIGTERM)
	if _, code := r.wait(); code != 143 {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	s.holds(r.errs.String(), "health command: exit code 1: cat: ", "No such file", "health command: passed\n", "health command: exit code 1", "ended by a signal: terminated")
	r.nothingLeft()
}

func TestAnInstanceIsDrainedFromOutside(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	drain := s.as("drain")
	r := s.registering("mail", "10.0.0.7:80", "--id", "a", "--drain", "0s", "--", "sh", "-c", "echo up; exec sleep 1000")
	r.expect("up")
	s.becomes("ready")
	drain.prints([]string{"mail", "a", "--prefix", s.root}, "mail/a: draining\n")
	s.prints([]string{"mail", "--prefix", s.root}, "a ", "draining ")
	if o := drain.object("mail", "a", "--prefix", s.root, "--undo"); o["done"] != "undone" || o["id"] != "a" {
		t.Errorf("%v", o)
	}
	s.becomes("ready")
	drain.fails(1, "drain: mail/none: no such instance", "mail", "none", "--prefix", s.root)
	s.put(s.root+"/mail/foreign", `{"Addr":"10.0.0.8:80"}`)
	drain.fails(1, "drain: mail/foreign: its process does not answer; callers see it as draining until it writes", "mail", "foreign", "--prefix", s.root, "--timeout", "300ms")
	if all := s.objects("mail", "--prefix", s.root); all[1]["state"] != "draining" || !strings.HasPrefix(all[1]["problem"].(string), "asked to be draining by ") {
		t.Errorf("%v", all)
	}
	r.signal(syscall.SIGINT)
	r.wait()
	s.holds(r.errs.String(), "asked from outside; state: draining; by: ", "asked from outside; state: ready")
}

func TestBadInputOfServicesRegisterAndDrainIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := seeShell(t, "127.0.0.1:1", "register") // nothing is sent
	for words, args := range map[string][]string{
		`services: unexpected argument "b"`:                      {"services", "a", "b"},
		"services: -o yaml":                                      {"services", "-o", "yaml"},
		`services: prefix name "x/" refused: it ends in a slash`: {"services", "--prefix", "x/"},
		"drain: SERVICE is missing":                              {"drain"},
		"drain: ID is missing":                                   {"drain", "mail"},
		"drain: --timeout 0s: it must be positive":               {"drain", "mail", "a", "--timeout", "0s"},
		"register: SERVICE is missing":                           {"register"},
		"register: ADDR is missing":                              {"register", "mail", "--", "true"},
		`register: unexpected argument "true": the command come`: {"register", "mail", "a:1", "true"},
		"register: COMMAND is missing after --":                  {"register", "mail", "a:1", "--"},
		"register: --drain -1s: it must not be negative":         {"register", "mail", "a:1", "--drain", "-1s"},
		"register: --grace -1s: it must not be negative":         {"register", "mail", "a:1", "--grace", "-1s"},
		"register: --ttl 1s: it must be whole seconds":           {"register", "mail", "a:1", "--ttl", "1s"},
		"register: --health-failures 1: it must be 2 at least":   {"register", "mail", "a:1", "--health-failures", "1"},
		"register: --health-interval 0s":                         {"register", "mail", "a:1", "--health-interval", "0s"},
		"register: --health-timeout 20s":                         {"register", "mail", "a:1", "--health-timeout", "20s"},
		`invalid argument "x" for "--meta" flag`:                 {"register", "mail", "a:1", "--meta", "x"},
	} {
		s.as(args[0]).fails(2, words, args[1:]...)
	}
	s.fails(127, "register: no-such-command: command not found", "mail", "a:1", "--", "no-such-command")
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(126, "permission denied", "mail", "a:1", "--", file)
	ran := filepath.Join(t.TempDir(), "ran")
	for _, args := range [][]string{{"services"}, {"services", "a", "-w"}, {"drain", "a", "b"}, {"register", "mail", "a:1"}, {"register", "mail", "a:1", "--", "touch", ran}} {
		at := len(args)
		for i, a := range args {
			if a == "--" {
				at = i
			}
		}
		with := append(append(append([]string{}, args[1:at]...), "--dial-timeout", "300ms"), args[at:]...)
		s.as(args[0]).fails(1, "no member answers: 127.0.0.1:1: ", with...)
	}
	on := seeShell(t, sharedEtcd(t), "register")
	on.fails(1, "Addr refused: it is not host:port", "mail", "nowhere", "--", "touch", ran)
	on.fails(1, `Addr "0.0.0.0:80" refused: it is an address to listen on`, "mail", "0.0.0.0:80", "--", "touch", ran)
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command was run")
	}
	locked := protected(t, "/test/")
	for _, args := range [][]string{{"services"}, {"register", "mail", "10.0.0.7:80"}, {"drain", "mail", "a"}} {
		seeShell(t, locked, args[0]).fails(1, "invalid user ID or password", append(args[1:], "--user", "root:wrong-one")...).noSecret("wrong-one")
		seeShell(t, locked, args[0]).fails(1, "permission denied", append(args[1:], "--user", "reader:letmein")...)
	}
	for _, kind := range []string{"services", "register", "drain"} {
		if out, errs, code := do(t, kind, "--help"); code != 0 || errs != "" || !strings.Contains(out, "Exit codes:") || !strings.Contains(out, "  130  interrupted") {
			t.Errorf("%s: code %d, %q, %q", kind, code, out, errs)
		}
	}
}

// A server behind register loses no request when it is stopped: callers have chosen others before it is told.
func TestCallersHaveChosenOthersBeforeTheCommandIsToldToEnd(t *testing.T) {
	t.Parallel()
	s := servicesShell(t, sharedEtcd(t))
	view, err := registry.Watch(t.Context(), s.client(), "mail", &registry.ViewOptions{Prefix: s.root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(view.Close)
	picker := registry.NewPicker(view, registry.RoundRobin, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := s.registering("mail", listener.Addr().String(), "--id", "a", "--drain", "500ms", "--", "sh", "-c", `trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.01; done`)
	r.expect("up")
	s.becomes("ready")
	r.signal(syscall.SIGTERM)
	r.expect("told")
	if pick, err := picker.Pick(""); err == nil {
		t.Errorf("still chosen: %+v", pick.Instance)
	}
	if _, code := r.wait(); code != 0 {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
}
