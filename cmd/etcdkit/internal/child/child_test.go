//go:build linux

package child_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 30 * time.Second

// asProgram has this test program start a command and wait for it, to be killed or frozen.
// asLosing, too, has the deadline put off once only.
const (
	asProgram = "CHILD_TEST_PROGRAM"
	asLosing  = "CHILD_TEST_LOSING"
)

func TestMain(m *testing.M) {
	child.Main()
	if script := os.Getenv(asProgram); script != "" {
		program(script)
	}
	os.Exit(m.Run())
}

// program runs a script under a deadline that is put off for as long as this runs.
func program(script string) {
	child.Alone()
	began := time.Now()
	p, err := child.Start(child.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", script}, Stdout: os.Stdout, Stderr: os.Stderr, Grace: 200 * time.Millisecond,
		Until: func() time.Time {
			if os.Getenv(asLosing) != "" && time.Since(began) > time.Second {
				return began.Add(3 * time.Second)
			}
			return time.Now().Add(2 * time.Second)
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := p.Wait()
	os.Exit(s.Code)
}

// fifo is a pipe with a name that ends for its reader when nobody has it open any more who has opened it by name.
type fifo struct {
	t    *testing.T
	name string
	file *os.File
}

func newFIFO(t *testing.T) *fifo {
	t.Helper()
	f := &fifo{t: t, name: filepath.Join(t.TempDir(), "fifo")}
	if err := syscall.Mkfifo(f.name, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// line returns the first line, once there is somebody who writes it.
func (f *fifo) line() string {
	f.t.Helper()
	if f.file == nil {
		opened := make(chan error, 1)
		go func() {
			var err error
			f.file, err = os.Open(f.name)
			opened <- err
		}()
		select {
		case err := <-opened:
			if err != nil {
				f.t.Fatal(err)
			}
		case <-time.After(soon):
			f.t.Fatal("nobody has opened the pipe")
		}
		f.t.Cleanup(func() { f.file.Close() })
	}
	var line []byte
	for one := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; {
		if err := f.file.SetReadDeadline(time.Now().Add(soon)); err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.file.Read(one); err != nil {
			f.t.Fatalf("after %q: %v", line, err)
		}
		line = append(line, one[0])
	}
	return strings.TrimSpace(string(line))
}

// ends waits until nobody has the pipe open any more.
func (f *fifo) ends() {
	f.t.Helper()
	if err := f.file.SetReadDeadline(time.Now().Add(soon)); err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, f.file); err != nil {
		f.t.Fatalf("somebody lives: %v", err)
	}
}

// run starts a script.
func run(t *testing.T, c child.Command, script string) *child.Process {
	t.Helper()
	c.Path, c.Args = "/bin/sh", []string{"sh", "-c", script}
	p, err := child.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(0)
		p.Wait()
	})
	return p
}

// ended waits for the end of a command.
func ended(t *testing.T, p *child.Process) child.Status {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(soon):
		t.Fatal("the command has not ended")
	}
	return p.Wait()
}

func TestTheExitCodeIsThatOfAShell(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]child.Status{
		"exit 0": {}, "exit 7": {Code: 7}, "kill -TERM $$": {Code: 143, Signal: syscall.SIGTERM}, "kill -KILL $$": {Code: 137, Signal: syscall.SIGKILL},
	} {
		if got := ended(t, run(t, child.Command{}, script)); got.Code != want.Code || got.Signal != want.Signal || got.Stopped || got.Err != nil {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
}

func TestInputOutputAndEnvironmentPassThrough(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	c := child.Command{Env: []string{"CHILD_X=y"}, Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs}
	ended(t, run(t, c, `read line; echo "$line $CHILD_X"; echo bad >&2`))
	if out.String() != "in y\n" || errs.String() != "bad\n" {
		t.Errorf("%q, %q", &out, &errs)
	}
}

func TestWhatCannotBeRunHasTheCodesOfAShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"text": 0o600, "script": 0o700, "odd": 0o700} {
		text := map[string]string{"text": "x", "script": "#!/nowhere/sh\n", "odd": "no program"}[name]
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{
		"no-such-command": exit.NotFound, dir + "/none": exit.NotFound, dir + "/text": exit.CannotRun, dir: exit.CannotRun,
	} {
		if _, err := child.Find(name); exit.Code(err) != want {
			t.Errorf("%s: %v has the code %d, want %d", name, err, exit.Code(err), want)
		}
	}
	for name, want := range map[string]int{"script": exit.NotFound, "odd": exit.CannotRun} {
		path, err := child.Find(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := child.Start(child.Command{Path: path, Args: []string{name}}); exit.Code(err) != want {
			t.Errorf("%s: %v has the code %d, want %d", name, err, exit.Code(err), want)
		}
	}
}

// stubborn ignores SIGTERM, and so does what it starts: one process in its group, and one that leaves it as daemons do. Its pipe is
// open for as long as any of them lives.
func stubborn(f *fifo) string {
	return `exec 9>` + f.name + `; trap "" TERM; sleep 1000 & setsid sh -c "sleep 1000 & echo orphan >&9" & echo up >&9; while :; do sleep 1000; done`
}

func (f *fifo) up() {
	f.t.Helper()
	f.line()
	f.line()
}

func TestStopIsSIGTERMAndThenSIGKILLForAll(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	p := run(t, child.Command{}, `trap "exit 3" TERM; echo up >`+f.name+`; while :; do sleep 0.01; done`)
	f.line()
	p.Stop(soon)
	if s := ended(t, p); s.Code != 3 || !s.Stopped {
		t.Errorf("%+v", s)
	}
	f = newFIFO(t)
	p = run(t, child.Command{}, stubborn(f))
	f.up()
	began := time.Now()
	p.Stop(300 * time.Millisecond)
	s := ended(t, p)
	f.ends()
	if took := time.Since(began); s.Signal != syscall.SIGKILL || !s.Stopped || took < 300*time.Millisecond {
		t.Errorf("%+v after %v", s, took)
	}
}

func TestTheDeadlineIsPutOffAndThenKept(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	until := time.Now().Add(2 * time.Second)
	last := time.Now().Add(time.Second)
	p := run(t, child.Command{Grace: 200 * time.Millisecond, Until: func() time.Time {
		if now := time.Now(); now.Before(last) {
			until = now.Add(2 * time.Second)
		}
		return until
	}}, stubborn(f))
	f.up()
	s := ended(t, p)
	f.ends()
	if late := time.Since(until); s.Signal != syscall.SIGKILL || !s.Stopped || s.Err != nil || late < 0 {
		t.Errorf("%+v %v after the deadline", s, late)
	}
	if _, err := child.Start(child.Command{Path: "/bin/true", Args: []string{"true"}, Until: time.Now}); !errors.Is(err, child.ErrLate) {
		t.Errorf("%v", err)
	}
}

func TestWhatACommandLeavesBehindEndsWithIt(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	p := run(t, child.Command{Grace: 100 * time.Millisecond}, `exec 9>`+f.name+`; sleep 1000 & setsid sh -c "trap '' TERM; echo up >&9; while :; do sleep 1000; done" & exit 5`)
	f.line()
	if s := ended(t, p); s.Code != 5 || s.Stopped {
		t.Errorf("%+v", s)
	}
	f.ends()
}

// begin starts this program as one that runs a script.
func begin(t *testing.T, script string, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), asProgram+"="+script), env...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

func TestAllDieWithTheProgram(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	c := begin(t, stubborn(f))
	f.up()
	began := time.Now()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	f.ends()
	if took := time.Since(began); took > time.Second { // the deadline would have come after two
		t.Errorf("that took %v", took)
	}
}

// The kernel kills the command with its minder, also if the program can do nothing.
func TestTheCommandDiesWithItsMinder(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	c := begin(t, `trap "" TERM; exec 9>`+f.name+`; echo up >&9; exec sleep 1000`)
	f.line()
	if err := errors.Join(c.Process.Signal(syscall.SIGSTOP), syscall.Kill(minderOf(t, c.Process.Pid), syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	f.ends()
}

func TestAFrozenProgramDoesNotPutTheDeadlineOff(t *testing.T) {
	t.Parallel()
	f := newFIFO(t)
	c := begin(t, stubborn(f))
	f.up()
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.ends()
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _ = c.Wait(); c.ProcessState.ExitCode() != 137 {
		t.Errorf("%v", c.ProcessState)
	}
}

// minderOf returns the minder of a program.
func minderOf(t *testing.T, program int) int {
	t.Helper()
	list, err := os.ReadFile("/proc/" + strconv.Itoa(program) + "/task/" + strconv.Itoa(program) + "/children")
	if err == nil && len(bytes.Fields(list)) == 0 { // started by another of its threads
		files, _ := filepath.Glob("/proc/" + strconv.Itoa(program) + "/task/*/children")
		for _, file := range files {
			one, _ := os.ReadFile(file)
			list = append(list, one...)
		}
	}
	if len(bytes.Fields(list)) != 1 {
		t.Skipf("the kernel does not say who descends from whom: %q, %v", list, err)
	}
	pid, err := strconv.Atoi(string(bytes.Fields(list)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestAllDieWithTheMinderOrWhenItIsFrozen(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		f := newFIFO(t)
		var env []string
		if sig == syscall.SIGSTOP {
			env = []string{asLosing + "=1"}
		}
		c := begin(t, stubborn(f), env...)
		f.up()
		if err := syscall.Kill(minderOf(t, c.Process.Pid), sig); err != nil {
			t.Fatal(err)
		}
		f.ends()
		if _ = c.Wait(); c.ProcessState.ExitCode() != 137 {
			t.Errorf("%v: %v", sig, c.ProcessState)
		}
	}
}
