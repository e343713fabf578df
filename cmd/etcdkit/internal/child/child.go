package child

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"syscall"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// ErrLate is what Start returns when the deadline has come before the command could be started.
var ErrLate = errors.New("its time was up before it began")

// Command is what to run, and when it has to end.
type Command struct {
	Path string   // the program, as Find returns it
	Args []string // the command line: its name as it was given, and the arguments
	Env  []string // added to the environment, "key=value" each

	Stdin          io.Reader // files are handed on as they are
	Stdout, Stderr io.Writer

	// Grace is how long it has between SIGTERM and SIGKILL.
	Grace time.Duration

	// Until, if set, says when it must be dead: it gets SIGTERM a Grace before that. It is asked again and again while the command
	// runs, and may put the end off.
	Until func() time.Time

	// Signals, if set, are forwarded to it.
	Signals *Signals
}

// Status is how a command has ended.
type Status struct {
	Code    int            // the exit code, as a shell has it: 128+n for a signal
	Signal  syscall.Signal // the signal that ended it, 0 for none
	Stopped bool           // it was told to end, by Stop or because its time was up
	Left    []int          // processes that it has started and that could not be killed
	Err     error          // why nothing is known of its end: the minder has died. Then it was killed
}

// Find returns the program that a command line begins with. Its errors have the exit codes of a shell: 127 if it does not exist and
// 126 if it cannot be run.
func Find(name string) (path string, err error) {
	if path, err = exec.LookPath(name); err != nil {
		return "", unrunnable(name, err)
	}
	return path, nil
}

// unrunnable gives the error of a command that cannot be run its words and its exit code.
func unrunnable(name string, err error) error {
	code := exit.CannotRun
	if own, ok := errors.AsType[*exec.Error](err); ok {
		err = own.Err
	}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code, err = exit.NotFound, errors.New("command not found")
	case errors.Is(err, exec.ErrDot):
		err = errors.New("it is in the current directory: say so with ./")
	}
	return exit.With(code, fmt.Errorf("%s: %w", cli.Visible(name), err))
}
