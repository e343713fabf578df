//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import "golang.org/x/sys/unix"

// onTerminal does something with the terminal of this process, if it has one and a process group has that. It reports whether it did.
func onTerminal(group int, do func(tty int) bool) bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(tty) }()
	has, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && has == group && do(tty)
}

// foreground hands the terminal from one process group to another, if that has it; nobody else loses it. Whoever calls it is in the
// background perhaps, and has to ignore SIGTTOU.
func foreground(from, to int) bool {
	return onTerminal(from, func(tty int) bool { return unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, to) == nil })
}

// inForeground reports whether this process may use the terminal.
func inForeground() bool { return onTerminal(unix.Getpgrp(), func(int) bool { return true }) }

// give hands the terminal to the command's group.
func give(group int) bool { return foreground(unix.Getpgrp(), group) }

// giveBack takes it back.
func giveBack(group int) { foreground(group, unix.Getpgrp()) }
