//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import "golang.org/x/sys/unix"

// foreground hands the terminal from one process group to another, if that has it; nobody else loses it. Whoever calls it is in the
// background perhaps, and has to ignore SIGTTOU.
func foreground(from, to int) bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(tty) }()
	if has, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP); err != nil || has != from {
		return false
	}
	return unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, to) == nil
}

// give hands the terminal to the command's group.
func give(group int) bool { return foreground(unix.Getpgrp(), group) }

// giveBack takes it back.
func giveBack(group int) { foreground(group, unix.Getpgrp()) }
