package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// lockBefore starts a program before a terminal, as the leader of a session.
func lockBefore(t *testing.T, term *terminal, path string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "ETCDKIT="+os.Args[0], "PS1=ready> ")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// lockEnds waits for the end of a program.
func lockEnds(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != code {
		t.Errorf("%v, want %d", cmd.ProcessState, code)
	}
}

// The command has the terminal when it wants it, and Ctrl-C is the command's whether it has it or not.
func TestACommandUnderALockHasTheTerminal(t *testing.T) {
	t.Parallel()
	s := newLockShell(t)
	for types, code := range map[string]int{"words\n": 4, "\x03": 128 + 2} {
		term := newTerminal(t)
		cmd := lockBefore(t, term, os.Args[0], s.args([]string{"lock", "NAME", "--", "sh", "-c", `echo up; read line; echo "got $line"; exit 4`})...)
		term.shows("up")
		term.types(types)
		if code == 4 {
			term.shows("got words")
		}
		lockEnds(t, cmd, code)
	}
	term := newTerminal(t)
	cmd := lockBefore(t, term, os.Args[0], s.args([]string{"lock", "NAME", "--", "sh", "-c", `trap "exit 6" INT; echo up; while :; do sleep 0.02; done`})...)
	term.shows("up")
	term.types("\x03")
	lockEnds(t, cmd, 6)
	s.free()
}

// Ctrl-Z and fg do what they do without etcdkit in between.
func TestACommandUnderALockIsAJobOfItsShell(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash here")
	}
	s := newLockShell(t)
	term := newTerminal(t)
	shell := lockBefore(t, term, bash, "--norc", "--noprofile", "--noediting", "-i")
	term.shows("ready> ")
	term.types(`"$ETCDKIT" lock --endpoints ` + s.etcd + " " + s.name + ` -- sh -c 'read first; echo "u"p; read line; echo "got $line"; exit 4'` + "\n")
	term.types("first\n")
	term.shows("up\r\n") // so the command has the terminal: a Ctrl-Z in the midst of handing that over would be lost
	term.types("\x1a")
	term.shows("Stopped")
	term.shows("exit 4'\r\nready> ")
	term.types("fg\n")
	lockWaitKeys(t, s.cli, s.name+"/", 1)
	term.types("words\n")
	term.shows("got words")
	term.types("echo \"co\"de $?\n")
	term.shows("code 4")
	term.types("\"$ETCDKIT\" lock --endpoints " + s.etcd + " " + s.name + ` -- sh -c 'read line; echo "got $line"; exit 4' &` + "\n")
	term.shows("[1]")
	lockWaitKeys(t, s.cli, s.name+"/", 1)
	// It stops when it wants the terminal. bash wakes what it knows to be stopped, and nothing else.
	term.types("until [ -n \"$(jobs -s)\" ]; do sleep 0.05; done; echo still \"he\"re\n")
	term.shows("still here")
	term.types("fg\n")
	term.types("more\n")
	term.shows("got more")
	term.types("exit\n")
	lockEnds(t, shell, exitOfBash)
}

// exitOfBash is the code of a shell that ends after a command with the code 4.
const exitOfBash = 4
