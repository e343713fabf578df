package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

// terminal is a real one, with nobody before it but the test.
type terminal struct {
	t     *testing.T
	keys  *os.File // where the test types
	tty   *os.File // what the command has
	ended chan struct{}

	mu   sync.Mutex
	seen strings.Builder // guarded by mu
	more chan struct{}   // guarded by mu; closed when there is more
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, keys: keys, tty: tty, ended: make(chan struct{}), more: make(chan struct{})}
	go term.watch()
	t.Cleanup(func() {
		tty.Close()
		<-term.ended // the last one has closed the terminal
		keys.Close()
	})
	return term
}

// watch reads what is shown until nobody has the terminal open any more.
func (t *terminal) watch() {
	defer close(t.ended)
	buffer := make([]byte, 4096)
	for {
		n, err := t.keys.Read(buffer)
		if err != nil {
			return
		}
		t.mu.Lock()
		t.seen.Write(buffer[:n])
		close(t.more)
		t.more = make(chan struct{})
		t.mu.Unlock()
	}
}

// shows waits until the terminal has shown some words, and returns all that it has shown.
func (t *terminal) shows(words string) string {
	t.t.Helper()
	deadline := time.After(soon)
	for {
		t.mu.Lock()
		seen, more := t.seen.String(), t.more
		t.mu.Unlock()
		if strings.Contains(seen, words) {
			return seen
		}
		select {
		case <-more:
		case <-deadline:
			t.t.Fatalf("no %q within %v in:\n%s", words, soon, seen)
		}
	}
}

// types types.
func (t *terminal) types(text string) {
	t.t.Helper()
	if _, err := t.keys.WriteString(text); err != nil {
		t.t.Fatal(err)
	}
}

// hides waits until what is typed is not shown.
func (t *terminal) hides() {
	t.t.Helper()
	deadline := time.After(soon)
	for {
		if state, err := unix.IoctlGetTermios(int(t.tty.Fd()), unix.TCGETS); err != nil {
			t.t.Fatal(err)
		} else if state.Lflag&unix.ECHO == 0 {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.t.Fatal("what is typed is shown")
		}
	}
}

// runs begins a command before the terminal.
func (t *terminal) runs(s *shell, args ...string) (code <-chan int) {
	t.t.Helper()
	came := make(chan int, 1)
	go func() {
		came <- execute(append([]string{"config", "--endpoints", s.endpoint}, s.rooted(args)...), t.tty, t.tty, t.tty)
	}()
	return came
}

// ends waits for the end of a command.
func (t *terminal) ends(code <-chan int, want int) {
	t.t.Helper()
	select {
	case got := <-code:
		if got != want {
			t.tty.Close()
			<-t.ended // all that was printed has been shown
			t.t.Fatalf("code %d, want %d:\n%s", got, want, t.shows(""))
		}
	case <-time.After(soon):
		t.t.Fatalf("it has not ended within %v", soon)
	}
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

func TestOnATerminalSomebodyIsAskedAndSeesColours(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	s := newShell(t)
	s.ok("put", "./limits", "rate: 10\n")
	for _, test := range []struct {
		types string
		code  int
		says  string
		value string
	}{
		{"n\n", 1, "etcdkit config put: nothing was changed", "rate: 10\n"},
		{"\n", 1, "etcdkit config put: nothing was changed", "rate: 10\n"},
		{"\x04", 1, "etcdkit config put: nothing was changed", "rate: 10\n"}, // Ctrl-D
		{"yes\n", 0, "version 2 at revision", "rate: 20\n"},
	} {
		term := newTerminal(t)
		code := term.runs(s, "put", "./limits", "rate: 20\n")
		seen := term.shows(s.rootedText("Overwrite ./limits? [y/N] "))
		s.holds(seen, red+"-rate: 10"+plain, green+"+rate: 20"+plain)
		term.types(test.types)
		term.ends(code, test.code)
		term.shows(test.says)
		if got := s.ok("get", "./limits"); got != test.value {
			t.Errorf("after %q: %q", test.types, got)
		}
	}
	term := newTerminal(t)
	term.ends(term.runs(s, "get", "./limits"), 0)
	term.shows("rate: 20")
	term.ends(term.runs(s, "diff", "./limits"), 0)
	term.shows(red + "-rate: 10" + plain)
	s.put("./bytes", "\xff\x1b[31m")
	term.ends(term.runs(s, "get", "./bytes"), 1)
	term.shows("6 bytes that are no text: redirect them")
	s.ok("put", "./line", "no newline")
	term.ends(term.runs(s, "get", "./line"), 0)
	term.shows("no newline\r\n")
}

func TestWhatWasAgreedToIsWhatIsWritten(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s := newShell(t)
	s.ok("put", "./dev/limits", "1")
	s.ok("put", "./prod/limits", "0")
	s.ok("put", "./prod/limits", "start", "--yes")
	export := t.TempDir() + "/export.yaml"
	if err := os.WriteFile(export, []byte(s.ok("export", "./dev")), 0o600); err != nil {
		t.Fatal(err)
	}
	for question, args := range map[string][]string{
		"Overwrite ./prod/limits?":   {"put", "./prod/limits", "5"},
		"Delete ./prod/limits?":      {"delete", "./prod/limits"},
		"Roll ./prod/limits back to": {"rollback", "./prod/limits", "1"},
		"Write 1 key below ./prod?":  {"promote", "./dev", "./prod"},
		"Write 1 key?":               {"import", export, "--to", "./prod"},
		"Roll it out in 1 step?":     {"rollout", "./prod/limits", "7", "--step", "10%"},
	} {
		term := newTerminal(t)
		code := term.runs(s, args...)
		term.shows(s.rootedText(question))
		s.ok("put", "./prod/limits", question, "--yes") // somebody else is faster
		term.types("y\n")
		term.ends(code, 3)
		term.shows("changed by somebody else")
		if got := s.ok("get", "./prod/limits"); got != question {
			t.Errorf("%q: %q", args, got)
		}
	}
}

func TestACommandThatAsksCanBeInterrupted(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", "1")
	term := newTerminal(t)
	cmd := exec.Command(os.Args[0], append([]string{"config", "--endpoints", s.endpoint}, s.rooted([]string{"delete", "./limits"})...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term.shows("Delete ")
	term.types("\x03") // Ctrl-C
	term.shows("etcdkit config delete: interrupted")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("%v", err)
	}
	s.ok("get", "./limits")
}

// protected is an etcd with a user root and a user reader, who may read what is below prefix and change nothing.
func protected(t *testing.T, prefix string) (endpoint string) {
	t.Helper()
	endpoint = ownEtcd(t)
	cli, ctx := client(t, endpoint)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(cli.RoleAdd(ctx, "reading"))
	for _, p := range []string{prefix, "etcdkit/config/" + prefix} {
		must(cli.RoleGrantPermission(ctx, "reading", p, clientv3.GetPrefixRangeEnd(p), clientv3.PermissionType(clientv3.PermRead)))
	}
	must(cli.UserAdd(ctx, "root", "sesame"))
	must(cli.UserGrantRole(ctx, "root", "root"))
	must(cli.UserAdd(ctx, "reader", "letmein"))
	must(cli.UserGrantRole(ctx, "reader", "reading"))
	must(cli.AuthEnable(ctx))
	return endpoint
}

func TestAPasswordIsAskedForAndNeverSeen(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s := shellOn(t, protected(t, "/test/"))
	term := newTerminal(t)
	code := term.runs(s, "put", "./limits", "1", "--user", "root")
	term.shows("Password of root: ")
	term.hides()
	term.types("sesame\n")
	term.ends(code, 0)
	seen := term.shows("version 1 at revision")

	term = newTerminal(t)
	code = term.runs(s, "get", "./limits", "--user", "root")
	term.shows("Password of root: ")
	term.hides()
	term.types("wrong-one\n")
	term.ends(code, 1)
	seen += term.shows("etcdkit config get: ")
	for _, secret := range []string{"sesame", "wrong-one"} {
		if strings.Contains(seen, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	r := s.fails(1, `user "root" has no password, and there is no terminal to ask on: set ETCDCTL_PASSWORD`, "get", "./limits", "--user", "root")
	r.noSecret("sesame")
	s.fails(1, "invalid user ID or password", "get", "./limits", "--user", "root:wrong-one").noSecret("wrong-one")
	s.fails(1, "user name is empty", "get", "./limits")
	t.Setenv("ETCDCTL_PASSWORD", "letmein")
	if got := s.ok("get", "./limits", "--user", "reader"); got != "1" {
		t.Errorf("got %q", got)
	}
	s.prints([]string{"history", "./limits", "--user", "reader"}, "published")
	s.fails(1, "permission denied", "put", "./limits", "2", "--yes", "--user", "reader")
	t.Setenv("ETCDCTL_USER", "root:sesame")
	t.Setenv("ETCDCTL_PASSWORD", "")
	s.ok("put", "./limits", "2", "--yes")
}
