//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

const (
	// look is how often a deadline is looked at that may have been put off.
	look = 50 * time.Millisecond

	// slack is how long after the deadline a minder that has not done its work is killed, and the command with it.
	slack = 100 * time.Millisecond

	// sayWithin is how long a minder has to take what it is told: it does nothing else, unless it is frozen.
	sayWithin = 100 * time.Millisecond

	// killWithin is how long what is killed may take to be gone.
	killWithin = 2 * time.Second
)

var errMinder = errors.New("the process that minded it was killed, and it was killed too")

// alone is set if every descendant of this process is a command's.
var alone atomic.Bool

// Alone says that this program starts no processes but commands: then what is left of one whose minder was killed can be told from
// others, and is killed. It is for main; tests that start other processes do not call it.
func Alone() { alone.Store(true) }

// Process is a command that runs. It is safe for concurrent use.
type Process struct {
	cmd    Command
	minder *exec.Cmd
	pid    int
	said   chan message
	stop   chan struct{} // closed by the first Stop
	done   chan struct{} // closed when status is set
	status Status

	mu     sync.Mutex // guards what follows, and orders what is said
	to     *os.File
	until  instant // the deadline as the minder knows it, 0 for none
	told   bool    // Stop was called
	late   instant // when to kill the minder, 0 for never
	buried bool    // the minder was killed
}

// Start runs a command. Its errors are of [exit], with the code 126 or 127, if the command cannot be run, and [ErrLate].
func Start(c Command) (*Process, error) {
	p := &Process{cmd: c, said: make(chan message), stop: make(chan struct{}), done: make(chan struct{})}
	from, err := p.spawn()
	if err != nil {
		return nil, exit.With(exit.CannotRun, err)
	}
	ended := make(chan struct{})
	go p.listen(from, ended)
	go func() {
		_ = p.minder.Wait() // what there is to know it has said before
		// Should somebody else have got hold of the pipe: nothing comes that is not there yet.
		_ = from.SetReadDeadline(time.Now().Add(slack))
		close(ended)
	}()
	if c.Until != nil {
		p.put(p.deadline())
	}
	p.say(message{verb: begin})
	if c.Signals != nil { // from here on: the command may be there before it is known here
		c.Signals.to(p)
	}
	first, ok := <-p.said
	switch {
	case ok && first.verb == began:
		p.pid = int(first.number)
	default:
		p.bury()
		<-ended
		for range p.said { // it comes too late
		}
		closing(p.to)
		if c.Signals != nil {
			c.Signals.to(nil)
		}
		return nil, p.refused(first, ok)
	}
	go p.run()
	return p, nil
}

// refused is why a command has not begun.
func (p *Process) refused(m message, ok bool) error {
	switch {
	case ok && m.verb == failed && m.number != 0:
		return unrunnable(p.cmd.Args[0], syscall.Errno(m.number))
	case ok && m.verb == failed:
		return ErrLate
	}
	return exit.With(exit.CannotRun, errors.New("the process that was to mind the command could not be started"))
}

// spawn starts the minder, and returns where it speaks.
func (p *Process) spawn() (from *os.File, err error) {
	self, err := executable()
	if err != nil {
		return nil, err
	}
	if alone.Load() {
		adopt()
	}
	hears, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer closing(hears)
	from, says, err := os.Pipe()
	if err != nil {
		closing(to)
		return nil, err
	}
	defer closing(says)
	// Under the numbers that they have: 3 and on may be files that the command is to inherit.
	in, err := inherited(hears)
	out, err2 := inherited(says)
	if err = errors.Join(err, err2); err == nil {
		c := exec.Command(self)
		c.Args = append([]string{minderName, strconv.Itoa(in), strconv.Itoa(out), strconv.FormatInt(int64(p.cmd.Grace), 10), p.cmd.Path}, p.cmd.Args...)
		c.Env = append(os.Environ(), p.cmd.Env...)
		c.Stdin, c.Stdout, c.Stderr = p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr
		c.WaitDelay = slack
		p.minder, p.to = c, to
		err = c.Start()
	}
	if err != nil {
		closing(from)
		closing(to)
		return nil, fmt.Errorf("starting this program again: %w", err)
	}
	return from, nil
}

// closing closes an end of a pipe: nothing is written that could be lost.
func closing(f *os.File) { _ = f.Close() }

// inherited has a file stay open in processes that are started from here on, and returns its number there.
func inherited(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		var failed error
		if err = raw.Control(func(n uintptr) { fd, failed = int(n), stayOpen(n) }); err == nil {
			err = failed
		}
	}
	return fd, err
}

// listen passes on what the minder says, until it has ended.
func (p *Process) listen(from *os.File, ended <-chan struct{}) {
	defer close(p.said)
	defer closing(from)
	for in := bufio.NewScanner(from); in.Scan(); {
		if m, ok := parse(in.Text()); ok {
			p.said <- m
		}
	}
	<-ended
}

// run follows the command to its end.
func (p *Process) run() {
	defer close(p.done)
	defer closing(p.to)
	tick := time.NewTicker(look)
	defer tick.Stop()
	stop := p.stop
	if p.cmd.Until == nil {
		tick.Stop()
	}
	for {
		select {
		case m, more := <-p.said:
			switch {
			case !more:
				p.killed()
				return
			case m.verb == stopped:
				if syscall.Signal(m.number) == syscall.SIGTSTP || !inForeground() { // else the shell has put us there meanwhile
					suspend()
				}
				p.say(message{verb: resume})
			case m.verb == kills: // it is at it: it has time to see to the end of all
				p.mu.Lock()
				p.late = now().add(killWithin)
				p.mu.Unlock()
			case m.verb == over:
				p.status = statusOf(syscall.WaitStatus(m.number), m.second != 0)
				for range p.said { // until the minder has ended, too
				}
				return
			}
		case <-tick.C:
			p.look()
		case <-stop:
			stop = nil
			tick.Reset(look)
		}
	}
}

// look puts the deadline off if it may be, and ends a minder that has let it pass.
func (p *Process) look() {
	if p.cmd.Until != nil {
		p.put(p.deadline())
	}
	p.mu.Lock()
	late := p.late != 0 && now() > p.late
	p.mu.Unlock()
	if late {
		p.bury()
	}
}

// deadline reads the clock first: if this process is frozen in between, the deadline is too early and not too late.
func (p *Process) deadline() instant {
	at := now()
	return at.add(time.Until(p.cmd.Until()))
}

// put tells the minder of a later deadline.
func (p *Process) put(until instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.told && until > p.until.add(time.Millisecond) {
		p.until, p.late = until, max(p.late, until.add(slack))
		p.sayLocked(message{verb: deadline, number: int64(until)})
	}
}

// Stop has the command end: it gets SIGTERM now, and SIGKILL after a grace, if its time is not up before. It does not wait.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := now().add(grace)
	if p.until == 0 || at < p.until {
		p.until, p.late = at, at.add(slack)
	}
	if !p.told {
		p.told = true
		close(p.stop)
	}
	p.sayLocked(message{verb: end, number: int64(at)})
}

// Signal sends the command's process group a signal.
func (p *Process) Signal(s syscall.Signal) { p.say(message{verb: forward, number: int64(s)}) }

// PID returns the id of the command, which is that of its process group.
func (p *Process) PID() int { return p.pid }

// Done is closed when the command, and what it has started, is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the command, and what it has started, is gone.
func (p *Process) Wait() Status {
	<-p.done
	return p.status
}

func (p *Process) say(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sayLocked(m)
}

// sayLocked tells the minder something, and ends one that does not listen.
func (p *Process) sayLocked(m message) {
	err := p.to.SetWriteDeadline(time.Now().Add(sayWithin))
	if err == nil {
		_, err = p.to.WriteString(m.line())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.buryLocked()
	} // another error is that of one that has ended
}

func (p *Process) bury() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buryLocked()
}

// buryLocked kills the minder. The kernel kills the command then, and killed does the rest.
func (p *Process) buryLocked() {
	if !p.buried {
		p.buried = true
		_ = p.minder.Process.Kill() // or it has ended already
	}
}

// killed is the end of a command whose minder was killed.
func (p *Process) killed() {
	p.mu.Lock()
	told := p.told || p.until != 0 && now() > p.until.add(-p.cmd.Grace)
	p.mu.Unlock()
	p.status = Status{Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL, Stopped: told, Err: errMinder}
	deadline := now().add(killWithin)
	for {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		left := p.left()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			return
		}
		if now() > deadline {
			p.status.Left = left
			return
		}
		<-time.After(look / 10)
	}
}

// left returns what still lives of a command whose minder was killed.
func (p *Process) left() []int {
	if alone.Load() {
		return descendants(os.Getpid(), true)
	}
	return members(p.pid)
}

// statusOf is a command's end as the kernel tells it.
func statusOf(w syscall.WaitStatus, told bool) Status {
	s := Status{Code: w.ExitStatus(), Stopped: told}
	if w.Signaled() {
		s.Signal = w.Signal()
		s.Code = 128 + int(s.Signal)
	}
	return s
}
