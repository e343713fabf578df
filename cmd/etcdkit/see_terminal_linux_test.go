package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/registry"
)

// wide makes a terminal so many columns wide.
func (t *terminal) wide(columns uint16) {
	t.t.Helper()
	if err := unix.IoctlSetWinsize(int(t.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: columns}); err != nil {
		t.t.Fatal(err)
	}
}

// watches starts a command before a terminal, as a process of its own that Ctrl-C reaches.
func (t *terminal) watches(args ...string) *exec.Cmd {
	t.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "TERM=xterm", "NO_COLOR=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.tty, t.tty, t.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.t.Fatal(err)
	}
	t.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// clears ends what is watched by Ctrl-C.
func (t *terminal) clears(cmd *exec.Cmd) {
	t.t.Helper()
	t.types("\x03")
	if err := cmd.Wait(); err != nil {
		t.t.Errorf("%v", err)
	}
}

func TestALineIsWatchedInPlace(t *testing.T) {
	t.Parallel()
	s := seeShell(t, sharedEtcd(t), "inspect")
	term := newTerminal(t)
	term.wide(80)
	cmd := term.watches("inspect", s.root+"/orders", "-w", "--endpoints", s.endpoint)
	term.shows(s.rootedText("./orders: free"))
	held, err := lock.NewMutex(s.seeSession(10*time.Second), s.root+"/orders").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := term.shows("of 10s")
	s.holds(seen, "./orders: free\x1b[K", "\x1b[1A\r", "./orders: mutex; 1 holds it\x1b[K", "\x1b[1mSTATE  TOKEN", "LEFT\x1b[0m\x1b[K", "holds ")
	if err := held.Unlock(context.Background()); err != nil {
		t.Fatal(err)
	}
	term.shows("\x1b[3A\r" + s.rootedText("./orders: free"))
	term.clears(cmd)
}

func TestATableFitsTheTerminalAndKeepsWhatIsCopied(t *testing.T) {
	s := servicesShell(t, sharedEtcd(t))
	const long = "mail-7d9f8c6b5-abcde"
	s.announce(registry.Instance{Service: "mail", ID: long, Addr: "10.0.0.7:8080", Zone: "eu-central-1b", Version: "1.4.0", Metadata: map[string]string{"commit": strings.Repeat("3f2a", 10)}})
	for _, colour := range []bool{true, false} {
		for _, columns := range []uint16{80, 200} {
			t.Setenv("TERM", "xterm")
			if t.Setenv("NO_COLOR", "1"); colour {
				t.Setenv("NO_COLOR", "")
			}
			term := newTerminal(t)
			term.wide(columns)
			code := make(chan int, 1)
			go func() {
				code <- execute([]string{"services", "mail", "--endpoints", s.endpoint, "--prefix", s.root}, term.tty, term.tty, term.tty)
			}()
			term.ends(code, 0)
			seen := term.shows("10.0.0.7:8080")
			if colour != strings.Contains(seen, "\x1b[1mID ") || !colour && strings.Contains(seen, "\x1b") {
				t.Errorf("colour %t: %q", colour, seen)
			}
			row := ""
			for line := range strings.Lines(seen) {
				if strings.HasPrefix(line, long+"  ready  10.0.0.7:8080  ") {
					row = strings.TrimSpace(line)
				}
			}
			if n := len([]rune(row)); row == "" || n > int(columns) || strings.HasSuffix(row, "…") != (columns == 80) {
				t.Errorf("%d columns:\n%s", columns, seen)
			}
		}
	}
}
