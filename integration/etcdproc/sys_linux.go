package etcdproc

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sysProcAttr gives the process a group of its own, so that a Ctrl-C in the terminal reaches only the parent, which
// then stops its children in order; and has the kernel kill it with the thread that started it: the one protection
// that also reaches a frozen process. Process.run keeps that thread alive.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitStopped returns once every thread of the child has stopped. A signal is only pending when kill returns:
// without this wait a "frozen" process still does a little work.
func waitStopped(ctx context.Context, pid int) error {
	for {
		// WNOWAIT leaves the state where it is: this must not eat what os.Process.Wait waits for.
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("etcdproc: waiting for process %d to stop: %w", pid, err)
		case info.Signo != 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcdproc: process %d did not stop: %w", pid, context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}
