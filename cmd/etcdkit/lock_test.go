//go:build linux || darwin

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// lockShell runs lock and elect on one etcd, with a name of its own.
type lockShell struct {
	t    *testing.T
	etcd string
	name string
	cli  *clientv3.Client
}

func newLockShell(t *testing.T) *lockShell {
	t.Helper()
	s := &lockShell{t: t, etcd: sharedEtcd(t), name: "test/" + rand.Text()}
	var err error
	if s.cli, err = clientv3.New(clientv3.Config{Endpoints: []string{s.etcd}, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cli.Close() })
	return s
}

// args are a command line on the etcd; NAME stands for the name.
func (s *lockShell) args(args []string) []string {
	all := append([]string(nil), args...)
	for i, a := range all {
		if a == "NAME" {
			all[i] = s.name
		}
	}
	return append([]string{all[0], "--endpoints", s.etcd}, all[1:]...)
}

func (s *lockShell) launch(args ...string) *run {
	s.t.Helper()
	return launch(s.t, s.args(args)...)
}

// ends runs a command that must end with a code, and these words on standard error.
func (s *lockShell) ends(code int, words string, args ...string) string {
	s.t.Helper()
	var out, errs string
	var got int
	if code == exit.Misused { // no process is needed for that
		var o, e bytes.Buffer
		got = execute(s.args(args), strings.NewReader(""), &o, &e)
		out, errs = o.String(), e.String()
	} else {
		out, errs, got = do(s.t, s.args(args)...)
	}
	if got != code || !strings.Contains(errs, words) || words == "" && errs != "" {
		s.t.Errorf("%q: code %d, stderr %q, stdout %q; want %d and %q", args, got, errs, out, code, words)
	}
	return out
}

// free fails the test if anything is left in line.
func (s *lockShell) free() {
	s.t.Helper()
	left, err := s.cli.Get(s.t.Context(), s.name+"/", clientv3.WithPrefix())
	if err != nil || left.Count > 0 {
		s.t.Errorf("left in line: %v, %v", left, err)
	}
}

func TestACommandIsRunUnderALockAndTold(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	told := `echo "$ETCDKIT_NAME $ETCDKIT_KEY $ETCDKIT_TOKEN $ETCDKIT_SLOT$ETCDKIT_VALUE"; exit 7`
	last := int64(0)
	for _, test := range []struct {
		args []string
		rest string
	}{
		{[]string{"lock", "NAME"}, ""},
		{[]string{"lock", "NAME", "--shared"}, ""},
		{[]string{"lock", "NAME", "--semaphore", "3", "--weight", "2"}, "0"},
		{[]string{"lock", "NAME", "--try"}, ""},
		{[]string{"elect", "NAME", "--value", "10.0.0.7:80"}, "10.0.0.7:80"},
		{[]string{"elect", "NAME", "--value", "x", "--try"}, "x"},
	} {
		fields := strings.Fields(s.ends(7, "", append(test.args, "--", "sh", "-c", told)...))
		if len(fields) < 3 || fields[0] != s.name || !strings.HasPrefix(fields[1], s.name+"/") || strings.Join(fields[3:], "") != test.rest {
			t.Errorf("%q: %q", test.args, fields)
			continue
		}
		token, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || token <= last {
			t.Errorf("%q: the token %q comes after %d", test.args, fields[2], last)
		}
		last = token
		s.free()
	}
}

// Each code of the help's table.
func TestExitCodesOfLockAndElect(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"lock", "elect"} {
		s.ends(0, "", command, "NAME", "--", "true")
		s.ends(3, "", command, "NAME", "--", "sh", "-c", "exit 3")
		s.ends(128+9, "", command, "NAME", "--", "sh", "-c", "kill -9 $$")
		s.ends(exit.CannotRun, "permission denied", command, "NAME", "--", dir+"/text")
		s.ends(exit.NotFound, "etcdkit "+command+": no-such-command: command not found\n", command, "NAME", "--", "no-such-command")
		// ... before anything is asked of etcd.
		for what, want := range map[string]int{"no-such-command": exit.NotFound, "true": exit.Failed} {
			if _, errs, code := do(t, command, s.name, "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--", what); code != want || strings.Count(errs, "\n") != 1 {
				t.Errorf("%s: code %d, stderr %q", what, code, errs)
			}
		}
		for words, args := range map[string][]string{
			"NAME is missing":               {},
			"NAME is empty":                 {"", "--", "true"},
			"-- is missing":                 {"NAME", "true"},
			"the command to run is missing": {"NAME", "--"},
			`unexpected argument "two"`:     {"NAME", "two", "--", "true"},
			"--ttl 1s: TTL 1s is under":     {"NAME", "--ttl", "1s", "--", "true"},
			"--ttl 0s":                      {"NAME", "--ttl", "0s", "--", "true"},
			"--grace 5s: with a TTL of 10s": {"NAME", "--grace", "5s", "--", "true"},
			"--grace -1s":                   {"NAME", "--grace", "-1s", "--", "true"},
			"--try and --timeout":           {"NAME", "--try", "--timeout", "1s", "--", "true"},
			"--timeout 0s":                  {"NAME", "--timeout", "0s", "--", "true"},
		} {
			s.ends(exit.Misused, words, append([]string{command}, args...)...)
		}
		holder := s.launch(command, "NAME", "--", "sh", "-c", "echo held; exec sleep 1000")
		holder.expect("held")
		s.ends(exit.NotObtained, s.name, command, "NAME", "--try", "--", "echo", "never")
		s.ends(exit.NotObtained, "not obtained in time", command, "NAME", "--timeout", "100ms", "--", "echo", "never")
		waiter := s.launch(command, "NAME", "--", "echo", "never")
		lockWaitKeys(t, s.cli, s.name+"/", 2)
		waiter.signal(syscall.SIGINT)
		if out, code := waiter.wait(); code != exit.Interrupted || out != "" || !strings.HasSuffix(waiter.errs.String(), "etcdkit "+command+": interrupted\n") {
			t.Errorf("code %d, stdout %q, stderr %q", code, out, &waiter.errs)
		}
		holder.signal(syscall.SIGTERM)
		if out, code := holder.wait(); code != 128+15 || holder.errs.Len() > 0 {
			t.Errorf("code %d, stdout %q, stderr %q", code, out, &holder.errs)
		}
		s.free()
		out, _, code := do(t, command, "--help")
		for _, n := range []int{exit.Failed, exit.Misused, exit.NotObtained, exit.Lost, exit.CannotRun, exit.NotFound, exit.Interrupted} {
			if !strings.Contains(out, fmt.Sprintf("\n%5d  ", n)) || code != 0 {
				t.Errorf("%d is not in the help of %s:\n%s", n, command, out)
			}
		}
	}
	for words, args := range map[string][]string{
		"--shared and --semaphore":          {"--shared", "--semaphore", "2"},
		"--semaphore 0":                     {"--semaphore", "0"},
		"--weight goes with --semaphore":    {"--weight", "2"},
		"--weight 3: it must be 1 to 2":     {"--semaphore", "2", "--weight", "3"},
		"unknown flag: --restart":           {"--restart"},
		`invalid argument "many" for "--se`: {"--semaphore", "many"},
	} {
		s.ends(exit.Misused, words, append(append([]string{"lock", "NAME"}, args...), "--", "true")...)
	}
	s.ends(exit.Misused, "--try and --restart", "elect", "NAME", "--try", "--restart", "--", "true")
}

func TestReadersAndPermitsAreHeldTogether(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--shared"}, {"--semaphore", "2"}} {
		s := newLockShell(t)
		args := append([]string{"lock", "NAME"}, flags...)
		var both []*run
		slots := ""
		for range 2 {
			r := s.launch(append(args, "--", "sh", "-c", `echo "held $ETCDKIT_SLOT"; read end`)...)
			slots += r.expect("held ")
			both = append(both, r)
		}
		if len(flags) == 2 && slots != "01" && slots != "10" {
			t.Errorf("slots %q", slots)
		}
		s.ends(exit.NotObtained, "held by somebody else, or waited for", "lock", "NAME", "--try", "--", "true")
		for _, r := range both {
			r.signal(syscall.SIGTERM)
			r.wait()
		}
		s.free()
	}
	s := newLockShell(t)
	holder := s.launch("lock", "NAME", "--semaphore", "2", "--", "sh", "-c", `echo held; exec sleep 1000`)
	holder.expect("held")
	s.ends(exit.Failed, "size", "lock", "NAME", "--semaphore", "3", "--", "true")
	holder.signal(syscall.SIGTERM)
	holder.wait()
}

// Who waits is told whom for, in one line and only if it lasts.
func TestWhoWaitsIsToldWhomFor(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	for command, words := range map[string]string{"lock": "held by " + filepath.Base(os.Args[0]) + " on ", "elect": "led by me\n"} {
		flags := []string{command, "NAME"}
		if command == "elect" {
			flags = append(flags, "--value", "me")
		}
		holder := s.launch(append(flags, "--", "sh", "-c", "echo held; exec sleep 1000")...)
		holder.expect("held")
		_, errs, code := do(t, s.args([]string{command, "NAME", "--timeout", "2s", "--", "true"})...)
		lines := strings.SplitAfter(errs, "\n")
		if code != exit.NotObtained || len(lines) != 3 || !strings.HasPrefix(lines[0], "etcdkit "+command+": waiting for "+s.name+", "+words) {
			t.Errorf("code %d, stderr %q", code, errs)
		}
		if _, errs, _ := do(t, s.args([]string{command, "NAME", "-q", "--timeout", "2s", "--", "true"})...); strings.Count(errs, "\n") != 1 {
			t.Errorf("stderr %q", errs)
		}
		holder.signal(syscall.SIGTERM)
		holder.wait()
	}
}

func TestSignalsAreForwardedAndTheLockGivenBackAfterTheEnd(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	script := `trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo int; exit 5' INT; echo up; while :; do sleep 0.02; done`
	holder := s.launch("lock", "NAME", "--", "sh", "-c", script)
	holder.expect("up")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGINT} {
		holder.signal(sig)
		holder.expect(map[syscall.Signal]string{syscall.SIGHUP: "hup", syscall.SIGUSR1: "usr1", syscall.SIGINT: "int"}[sig])
	}
	if _, code := holder.wait(); code != 5 {
		t.Errorf("code %d, stderr %q", code, &holder.errs)
	}
	s.free()
}

// The command is stopped also if etcd frees the lock first.
func TestALockThatIsTakenAwayStopsTheCommand(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"revoked", "deleted"} {
		s := newLockShell(t)
		holder := s.launch("lock", "NAME", "--ttl", "60s", "--", "sh", "-c", `trap "" TERM; echo up; while :; do sleep 1000; done`)
		holder.expect("up")
		<-time.After(400 * time.Millisecond) // from 250 ms on the key is watched
		kv := lockWaitKeys(t, s.cli, s.name+"/", 1).Kvs[0]
		var err error
		if way == "revoked" {
			_, err = s.cli.Revoke(t.Context(), clientv3.LeaseID(kv.Lease))
		} else {
			_, err = s.cli.Delete(t.Context(), string(kv.Key))
		}
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, code := holder.wait()
		if code != exit.Lost || !strings.Contains(holder.errs.String(), "lost while the command ran; it was stopped") || time.Since(began) > 20*time.Second {
			t.Errorf("%s: code %d after %v, stderr %q", way, code, time.Since(began), &holder.errs)
		}
		holder.noProcess()
	}
}

// lockDaemon ignores SIGTERM, and starts one in its group and one that leaves it, which do too.
const lockDaemon = `trap "" TERM; sleep 1000 & setsid sh -c 'sleep 1000 & echo away' & while :; do sleep 1000; done`

func TestTheCommandDiesWithItsWrapper(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	holder := s.launch("lock", "NAME", "--", "sh", "-c", lockDaemon)
	holder.expect("away")
	holder.signal(syscall.SIGKILL)
	holder.noProcess()
	holder.wait()
}

// A wrapper that is frozen does not renew, and does not stop anybody: the minder does, before the lock is another's.
func TestTheCommandOfAFrozenWrapperIsDeadBeforeTheLockIsAnothers(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	holder := s.launch("lock", "NAME", "--ttl", "2s", "--", "sh", "-c", lockDaemon)
	holder.expect("away")
	waiter := s.launch("lock", "NAME", "-q", "--ttl", "2s", "--", "sh", "-c", "echo held")
	lockWaitKeys(t, s.cli, s.name+"/", 2)
	holder.signal(syscall.SIGSTOP)
	waiter.expect("held")
	for _, pid := range holder.processes() {
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // one that has just gone has none
		if text := string(name); text == "sh\n" || text == "sleep\n" {
			t.Errorf("process %s lives: %s", pid, text)
		}
	}
	holder.signal(syscall.SIGCONT)
	if _, code := holder.wait(); code != exit.Lost {
		t.Errorf("code %d, stderr %q", code, &holder.errs)
	}
	waiter.wait()
}

func TestElectWithRestartLeadsAgain(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	r := s.launch("elect", "NAME", "--restart", "--ttl", "60s", "--", "sh", "-c", `echo "term $ETCDKIT_TOKEN"; exec sleep 1000`)
	last := int64(0)
	for n := range 3 {
		token, err := strconv.ParseInt(r.expect("term "), 10, 64)
		if err != nil || token <= last {
			t.Fatalf("token %d after %d, %v", token, last, err)
		}
		last = token
		switch kv := lockWaitKeys(t, s.cli, s.name+"/", 1).Kvs[0]; n {
		case 0: // the term is lost
			<-time.After(400 * time.Millisecond) // from 250 ms on the key is watched
			if _, err := s.cli.Delete(t.Context(), string(kv.Key)); err != nil {
				t.Fatal(err)
			}
		case 1: // the command ends
			r.signal(syscall.SIGUSR1)
		default:
			r.signal(syscall.SIGTERM)
		}
	}
	if _, code := r.wait(); code != 128+15 {
		t.Errorf("code %d", code)
	}
	if errs := r.errs.String(); !strings.Contains(errs, "; standing again\n") || !strings.Contains(errs, "the command has ended with 138; standing again in ") {
		t.Errorf("stderr %q", errs)
	}
	s.free()
}
