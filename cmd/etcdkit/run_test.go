package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

const (
	// asCommand has this test program be the command itself, and markRun tells the processes of one run from others.
	asCommand = "ETCDKIT_TEST_AS_COMMAND"
	markRun   = "ETCDKIT_TEST_RUN"

	// soon is long enough for whatever should happen at once, on a busy machine.
	soon = 30 * time.Second
)

func TestMain(m *testing.M) {
	child.Main()
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	etcdproc.Main() // a member of the cluster that tests share is this program again
	// Many of these tests wait for something to be over: let them wait together.
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run is a command that runs, with a temporary directory of its own.
type run struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   io.Closer   // the end that it is read from
	lines chan string // what it prints, line by line; closed at its end
	errs  bytes.Buffer
	tmp   string
	mark  string
}

// launch starts the command. At the end of the test it must have left nothing.
func launch(t *testing.T, args ...string) *run {
	t.Helper()
	return launchIn(t, t.TempDir(), args...)
}

// launchIn is launch with a given directory for temporary files.
func launchIn(t *testing.T, tmp string, args ...string) *run {
	t.Helper()
	r := &run{t: t, tmp: tmp, lines: make(chan string, 1000)}
	r.mark = markRun + "=" + rand.Text()
	r.cmd = exec.Command(os.Args[0], args...)
	r.cmd.Env = append(os.Environ(), asCommand+"=1", r.mark, "TMPDIR="+r.tmp)
	r.cmd.Stderr = &r.errs
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.out = stdout
	go func() {
		defer close(r.lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			r.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

// expect returns the next line that starts with prefix, without it.
func (r *run) expect(prefix string) string {
	r.t.Helper()
	deadline := time.After(soon)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				_ = r.cmd.Wait()
				r.t.Fatalf("ended without having said %q; stderr: %s", prefix, &r.errs)
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest
			}
		case <-deadline:
			r.t.Fatalf("%q was not said within %v; stderr: %s", prefix, soon, &r.errs)
		}
	}
}

// signal sends the command a signal.
func (r *run) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// wait waits for the end, and returns what was printed since and the exit code.
func (r *run) wait() (string, int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 4*soon)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.cmd.Process.Kill() })
	defer stop()
	var out strings.Builder
	for line := range r.lines {
		fmt.Fprintln(&out, line)
	}
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	if ctx.Err() != nil {
		r.t.Errorf("it did not end by itself")
	}
	return out.String(), r.cmd.ProcessState.ExitCode()
}

// nothingLeft fails the test if a process or a file of the run is left.
func (r *run) nothingLeft() {
	r.t.Helper()
	if left := r.processes(); len(left) > 0 {
		r.t.Errorf("processes are left: %v", left)
	}
	if left, err := os.ReadDir(r.tmp); err != nil || len(left) > 0 {
		r.t.Errorf("files are left: %v, %v", left, err)
	}
}

// noProcess waits until no process of the run is left: those that the kernel kills take a moment.
func (r *run) noProcess() {
	r.t.Helper()
	deadline := time.After(soon)
	for {
		left := r.processes()
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			r.t.Fatalf("processes are left: %v", left)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// processes returns the ids of all processes of the run that are alive, as Linux has them.
func (r *run) processes() []string {
	r.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		r.t.Skipf("there is no /proc to look for processes in: %v", err)
	}
	var alive []string
	for _, file := range files {
		// One that has just gone cannot be read, and one that is dead has no environment.
		environment, _ := os.ReadFile(file)
		if bytes.Contains(environment, []byte(r.mark+"\x00")) {
			alive = append(alive, strings.Split(file, "/")[2])
		}
	}
	return alive
}

// do runs the command to its end.
func do(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	r := launch(t, args...)
	out, code = r.wait()
	return out, r.errs.String(), code
}
