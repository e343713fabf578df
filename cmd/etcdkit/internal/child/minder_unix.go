//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import (
	"bufio"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

const (
	// minderName is what a minder is called among the processes, and how it knows itself.
	minderName = "etcdkit-minder"

	// wake bounds how late a deadline is noticed after a suspension, in which timers stand still.
	wake = 100 * time.Millisecond

	// again is how often what must die is killed, until it is gone: it may be starting others.
	again = 10 * time.Millisecond

	// haltWithin is how long a command that wants the terminal may take to stop for a Ctrl-Z.
	haltWithin = time.Second

	never = time.Hour
)

// Main turns a process that Start has started into a minder, and then does not return. Call it first in main.
func Main() {
	if len(os.Args) < 6 || os.Args[0] != minderName {
		return
	}
	in, err := strconv.Atoi(os.Args[1])
	out, err2 := strconv.Atoi(os.Args[2])
	grace, err3 := strconv.ParseInt(os.Args[3], 10, 64)
	if errors.Join(err, err2, err3) != nil {
		return
	}
	syscall.CloseOnExec(in)
	syscall.CloseOnExec(out)
	m := &minder{to: os.NewFile(uintptr(out), "out"), grace: time.Duration(grace)}
	m.mind(os.NewFile(uintptr(in), "in"), os.Args[4], os.Args[5:])
	os.Exit(0)
}

// minder is what a minder knows.
type minder struct {
	to    *os.File
	grace time.Duration

	pid    int     // the command's, and its group's
	until  instant // when it must be dead, 0 for no matter
	told   bool    // it was told to end
	early  bool    // ... before it had ended by itself
	halt   instant // until when it has to stop for a Ctrl-Z
	kill   bool    // it is to be killed, again and again until it is gone
	killed bool    // ... and the program knows
	ended  bool    // it has ended, with status; what it has started may not have
	status syscall.WaitStatus
	last   bool // there is no child any more
}

// mind runs a command to its end.
func (m *minder) mind(in *os.File, path string, args []string) {
	// To the kernel a parent is a thread: this one must live for as long as the command does.
	runtime.LockOSThread()
	// From the terminal, or sent to the group by somebody: they are the program's, and not to end a minder before the command. They
	// are caught and not ignored, which the command would inherit.
	exit.Catch(make(chan os.Signal, 1), caught...)
	adopt()
	call(minderName)
	heard := make(chan message)
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if got, ok := parse(lines.Text()); ok {
				heard <- got
			}
		}
	}()
	for got := range heard {
		m.hear(got)
		if got.verb == begin {
			m.run(heard, path, args)
			return
		}
	}
}

// run starts the command and follows it.
func (m *minder) run(heard <-chan message, path string, args []string) {
	if m.due() {
		m.say(message{verb: failed})
		return
	}
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attributes()})
	if err != nil {
		errno, _ := errors.AsType[syscall.Errno](err)
		m.say(message{verb: failed, number: int64(errno)})
		return
	}
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // not before: the command would inherit it
	m.pid = pid
	m.say(message{verb: began, number: int64(pid)})
	waits := make(chan change)
	go watch(waits)
	timer := time.NewTimer(0)
	for {
		select {
		case got, more := <-heard:
			if !more { // the program is dead
				heard, m.kill = nil, true
			}
			m.hear(got)
		case c := <-waits:
			m.changed(c)
		case <-timer.C:
		}
		m.act()
		if m.ended && m.last && len(members(m.pid)) == 0 {
			told := int64(0)
			if m.early {
				told = 1
			}
			m.say(message{verb: over, number: int64(m.status), second: told})
			return
		}
		timer.Reset(m.next())
	}
}

// hear does what the program says.
func (m *minder) hear(got message) {
	switch got.verb {
	case deadline:
		if !m.told {
			m.until = instant(got.number)
		}
	case end:
		m.before(instant(got.number))
		m.terminate()
	case forward:
		if m.signal(syscall.Signal(got.number)); got.number == int64(syscall.SIGTSTP) {
			m.halt = now().add(haltWithin)
		}
	case resume:
		m.resume()
	}
}

// before has the command dead at an instant at the latest.
func (m *minder) before(at instant) {
	if m.until == 0 || at < m.until {
		m.until = at
	}
}

// due reports whether it is time to end.
func (m *minder) due() bool { return m.until != 0 && now() >= m.until.add(-m.grace) }

// terminate tells the command to end, once.
func (m *minder) terminate() {
	if !m.told {
		m.told, m.early = true, !m.ended
		m.signal(syscall.SIGTERM)
	}
}

// act does what it is time for.
func (m *minder) act() {
	if m.ended && !m.last && !m.told { // it has left something behind
		m.told = true
		m.before(now().add(m.grace))
		for _, pid := range descendants(os.Getpid(), false) {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	if m.ended && !m.told && len(members(m.pid)) > 0 {
		m.before(now().add(m.grace))
		m.terminate()
	}
	if m.due() {
		m.terminate()
	}
	if m.kill = m.kill || m.until != 0 && now() >= m.until; m.kill {
		_ = syscall.Kill(-m.pid, syscall.SIGKILL)
		if !m.killed {
			m.killed = true
			m.say(message{verb: kills})
		}
		for _, pid := range descendants(os.Getpid(), false) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// next is how long there is nothing to do.
func (m *minder) next() time.Duration {
	switch {
	case m.kill, m.ended:
		return again
	case m.until == 0:
		return never
	}
	at := m.until
	if !m.told {
		at = at.add(-m.grace)
	}
	return min(max(time.Duration(at-now()), 0), wake)
}

// changed takes note of a change of a child, which may be an orphan.
func (m *minder) changed(c change) {
	m.last = m.last || c.last
	switch {
	case c.pid != m.pid:
	case c.status.Stopped():
		m.halted(c.status.StopSignal())
	default:
		m.ended, m.status = true, c.status
		giveBack(m.pid)
	}
}

// signal sends the command's group a signal. One that is stopped goes on, so that it can end.
func (m *minder) signal(s syscall.Signal) {
	if m.pid == 0 {
		return
	}
	_ = syscall.Kill(-m.pid, s) // there may be nobody any more
	if s == syscall.SIGTERM {
		_ = syscall.Kill(-m.pid, syscall.SIGCONT)
	}
}

// halted is a command that was stopped. If it wants the terminal, and the program may have it, then it gets it; otherwise the
// program is to stop as well, as its shell expects.
func (m *minder) halted(by syscall.Signal) {
	switch by {
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if give(m.pid) {
			_ = syscall.Kill(-m.pid, syscall.SIGCONT)
			if now() < m.halt { // a Ctrl-Z that came while it was stopped is gone with that
				_ = syscall.Kill(-m.pid, syscall.SIGTSTP)
			}
			return
		}
	case syscall.SIGTSTP:
		m.halt = 0
		giveBack(m.pid)
	default: // somebody has frozen it, and will thaw it
		return
	}
	m.say(message{verb: stopped, number: int64(by)})
}

// resume has the command go on after the program had stopped itself. If it wants the terminal it will stop for that.
func (m *minder) resume() { _ = syscall.Kill(-m.pid, syscall.SIGCONT) }

// say tells the program something; one that is dead is noticed elsewhere.
func (m *minder) say(what message) { _, _ = m.to.WriteString(what.line()) }

// change is one of a child.
type change struct {
	pid    int
	status syscall.WaitStatus
	last   bool // it was the last child
}

// watch passes on what becomes of the children, until there is none.
func watch(to chan<- change) {
	wait := func(options int) (c change, err error) {
		for {
			c.pid, err = syscall.Wait4(-1, &c.status, syscall.WUNTRACED|options, nil)
			if !errors.Is(err, syscall.EINTR) {
				return c, err
			}
		}
	}
	c, err := wait(0)
	for err == nil {
		var next change
		if next, err = wait(syscall.WNOHANG); err != nil {
			c.last = true
		}
		to <- c
		if c = next; err == nil && c.pid == 0 {
			c, err = wait(0)
		}
	}
	if !c.last && c.pid == 0 {
		to <- change{last: true}
	}
}
