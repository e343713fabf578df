package etcdproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// stopTimeout bounds how long Freeze waits for the kernel, and what a killed process's leftovers may take.
const stopTimeout = 5 * time.Second

// Command describes a process to [Spawn].
type Command struct {
	// Child is the name of the registered child, see [Child].
	Child string

	// Args are its arguments, os.Args[1:] there.
	Args []string

	// Env is added to the environment, "key=value" each.
	Env []string

	// Dir is its working directory. Default the parent's.
	Dir string

	// Stderr, if set, receives what the process writes to stderr. Its last lines are kept anyhow, for the error of
	// a process that fails.
	Stderr io.Writer
}

// Process is a child that [Spawn] started: this program, executed again. All methods are safe for concurrent use.
//
// It does not outlive its parent, however that dies. (A process frozen at that moment does, except on Linux.)
type Process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *tail
	lines  lines
	done   chan struct{} // closed when the process is gone and err is set
	err    error
}

// ExitError is how a process ended that did not exit with code 0.
type ExitError struct {
	Name   string // the child's
	PID    int
	Code   int    // -1 if a signal ended it
	Reason string // "exit status 3", "signal: killed"
	Stderr string // its last lines
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("etcdproc: %s (process %d): %s", e.Name, e.PID, e.Reason)
	if e.Stderr != "" {
		s += "\n" + e.Stderr
	}
	return s
}

// Spawn executes this program again, as the registered child that the command names. The caller owns the process
// and must Close it.
func Spawn(c Command) (*Process, error) {
	// A program that does not call Main would run as itself in every child, and start children there, for ever.
	if _, isChild := os.LookupEnv(childEnv); isChild || !mainCalled.Load() {
		return nil, fmt.Errorf("etcdproc: the program must call etcdproc.Main first thing in its main or TestMain")
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("etcdproc: %w", err)
	}
	p := &Process{name: c.Child, stderr: &tail{also: c.Stderr}, done: make(chan struct{})}
	p.lines.more = make(chan struct{})
	cmd := exec.Command(exe, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(append(os.Environ(), c.Env...), childEnv+"="+c.Child)
	cmd.Stderr = p.stderr
	cmd.WaitDelay = stopTimeout
	cmd.SysProcAttr = sysProcAttr()

	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	stdin, toStdin := pipe()
	fromStdout, stdout := pipe()
	lifeline, held := pipe()
	// The process's end of each pipe is closed here once it has its own.
	theirs, ours := []*os.File{stdin, stdout, lifeline}, []*os.File{toStdin, fromStdout, held}
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close() // nothing was written that could be lost; one that was not opened is nil
		}
	}
	if err != nil {
		closeAll(theirs)
		closeAll(ours)
		return nil, fmt.Errorf("etcdproc: %w", err)
	}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	if cmd.ExtraFiles = lifelineFiles(lifeline); cmd.ExtraFiles != nil {
		cmd.Env = append(cmd.Env, lifelineEnv+"=1")
	}
	p.cmd, p.stdin = cmd, toStdin

	started := make(chan error, 1)
	go p.run(started, fromStdout, func() { closeAll(ours) })
	err = <-started
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("etcdproc: starting %s: %w", c.Child, err)
	}
	return p, nil
}

// run starts the process, reads what it says and waits for its end.
func (p *Process) run(started chan<- error, stdout io.Reader, cleanup func()) {
	// To the kernel a parent is a thread: the one that started the process must live until it is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.lines.readFrom(stdout)
	}()
	err := p.cmd.Wait()
	select {
	case <-read:
	case <-time.After(stopTimeout): // a child of its own holds the pipe
	}
	cleanup()
	<-read
	if state := p.cmd.ProcessState; state == nil || !state.Success() {
		exit := &ExitError{Name: p.name, PID: p.PID(), Code: -1, Reason: fmt.Sprint(err), Stderr: p.stderr.String()}
		if state != nil {
			exit.Code, exit.Reason = state.ExitCode(), state.String()
		}
		p.err = exit
	}
	close(p.done)
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process is gone and its id is free.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns nil while the process runs and after it has exited with code 0, and an [*ExitError] otherwise.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Wait waits for the end of the process and returns what Err then returns, or the cause of ctx if that ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("etcdproc: waiting for %s (process %d): %w", p.name, p.PID(), context.Cause(ctx))
	}
}

// Line returns the next line that the process has written to stdout, without its end. It waits for one, and returns
// io.EOF when there will be none.
func (p *Process) Line(ctx context.Context) (string, error) { return p.lines.next(ctx) }

// Expect skips lines up to and including the first that starts with prefix, and returns what follows prefix there.
func (p *Process) Expect(ctx context.Context, prefix string) (string, error) {
	for {
		line, err := p.Line(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				select {
				case <-p.done:
					err = errors.Join(err, p.err)
				case <-ctx.Done():
				}
			}
			return "", fmt.Errorf("etcdproc: %s (process %d) did not say %q: %w", p.name, p.PID(), prefix, err)
		}
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return rest, nil
		}
	}
}

// Say writes a line to the process's stdin.
func (p *Process) Say(line string) error {
	_, err := io.WriteString(p.stdin, line+"\n")
	return err
}

// Stderr returns the last lines that the process has written to stderr.
func (p *Process) Stderr() string { return p.stderr.String() }

// Kill ends the process with SIGKILL, frozen or not, and returns once it is gone. It had no chance to do anything.
// Killing one that is gone does nothing.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("etcdproc: killing %s (process %d): %w", p.name, p.PID(), err)
	}
	<-p.done
	return nil
}

// Terminate asks the process to end, with SIGTERM, and wakes it if it is frozen. It does not wait. Asking one that
// is gone does nothing.
func (p *Process) Terminate() error {
	err := p.signal(sigTerm)
	if err == nil {
		err = p.signal(sigCont)
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Freeze stops the process with SIGSTOP and returns once it does nothing any more: its connections stay open, its
// kernel goes on acknowledging and accepting for it, and all its timers wait. Thaw wakes it.
func (p *Process) Freeze() error {
	if err := p.signal(sigStop); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return waitStopped(ctx, p.PID())
}

// Thaw lets a frozen process go on, with SIGCONT. It does nothing to one that is not frozen.
func (p *Process) Thaw() error { return p.signal(sigCont) }

// Close kills the process if it still runs. It is idempotent.
func (p *Process) Close() error { return p.Kill() }

func (p *Process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("etcdproc: %v to %s (process %d): %w", s, p.name, p.PID(), err)
	}
	return nil
}

// lines is a queue of lines without a bound: a process that talks must not be stopped by a parent that does not
// listen.
type lines struct {
	mu    sync.Mutex // guards all
	queue []string
	ended bool
	more  chan struct{} // closed and replaced when queue or ended changes
}

func (l *lines) readFrom(r io.Reader) {
	buf := bufio.NewReader(r)
	for {
		line, err := buf.ReadString('\n')
		l.mu.Lock()
		if line != "" {
			l.queue = append(l.queue, strings.TrimRight(line, "\r\n"))
		}
		l.ended = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *lines) next(ctx context.Context) (string, error) {
	for {
		l.mu.Lock()
		if len(l.queue) > 0 {
			line := l.queue[0]
			l.queue = l.queue[1:]
			l.mu.Unlock()
			return line, nil
		}
		ended, more := l.ended, l.more
		l.mu.Unlock()
		if ended {
			return "", io.EOF
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// tailSize is how much of what a process writes to stderr is kept.
const tailSize = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	also io.Writer

	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	t.mu.Unlock()
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
