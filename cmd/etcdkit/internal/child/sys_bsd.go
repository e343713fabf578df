//go:build darwin || freebsd || openbsd || dragonfly

package child

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// now reads a clock that all processes share. It may stand still while the machine is suspended.
func now() instant {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic("child: " + err.Error()) // every system has this clock
	}
	return instant(at.Nano())
}

func executable() (string, error) { return os.Executable() }

// attributes are those of a command: a group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func adopt() {}

func call(string) {}

func stayOpen(fd uintptr) error {
	_, err := unix.FcntlInt(fd, unix.F_SETFD, 0)
	return err
}

// suspend stops this process, if it is a job of a shell, until it is told to go on.
func suspend() {
	session, err := unix.Getsid(unix.Getppid())
	own, err2 := unix.Getsid(0)
	group, err3 := unix.Getpgid(unix.Getppid())
	if errors.Join(err, err2, err3) != nil || session != own || group == unix.Getpgrp() {
		return
	}
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	if unix.Kill(unix.Getpid(), unix.SIGSTOP) == nil {
		<-resumed
	}
}

// descendants returns nobody: here only the group is known.
func descendants(int, bool) []int { return nil }

// members returns the leader of a group of which somebody lives, for all of them.
func members(group int) []int {
	if errors.Is(unix.Kill(-group, 0), unix.ESRCH) {
		return nil
	}
	return []int{group}
}
