package child

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

// now reads a clock that goes on while the machine is suspended, as leases do.
func now() instant { return instant(boottime.Now()) }

// executable is this program, also if its file has been replaced since.
func executable() (string, error) { return "/proc/self/exe", nil }

// attributes are those of a command: a group of its own, and death with the minder.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// adopt has orphans among the descendants become children of this process.
func adopt() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // there since Linux 3.4; without it the group is stopped
}

// call gives this process its name in lists of processes, which is that of the file otherwise: exe.
func call(name string) { _ = os.WriteFile("/proc/self/comm", []byte(name), 0) }

func stayOpen(fd uintptr) error {
	_, err := unix.FcntlInt(fd, unix.F_SETFD, 0)
	return err
}

// suspend stops this process as the terminal would, which Go cannot undo having caught: not if there is nobody who could have it go
// on. It returns when it goes on.
func suspend() {
	if !controlled() {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// To this very thread: then it stops before the call returns.
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// controlled reports whether this process is part of a job: outside of its process group, but in its session, there is one above it.
func controlled() bool {
	all := map[int]process{}
	for _, p := range processes() {
		all[p.pid] = p
	}
	self := all[unix.Getpid()]
	for p, known := all[self.parent]; known; p, known = all[p.parent] {
		if p.group != self.group {
			session, err := unix.Getsid(p.pid)
			own, err2 := unix.Getsid(0)
			return err == nil && err2 == nil && session == own
		}
	}
	return false
}

// process is a line of the kernel's list.
type process struct {
	pid, parent, group int
	dead               bool
}

// processes returns what runs here.
func processes() []process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	all := make([]process, 0, len(files))
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has just gone
		}
		// pid (name) state ppid pgrp: the name may have blanks and brackets.
		fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
		if len(fields) < 3 {
			continue
		}
		var p process
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(file)))
		p.parent, _ = strconv.Atoi(string(fields[1]))
		p.group, _ = strconv.Atoi(string(fields[2]))
		p.dead = fields[0][0] == 'Z' || fields[0][0] == 'X'
		all = append(all, p)
	}
	return all
}

// descendants returns the processes that descend from one; those alone that live, if that is asked for.
func descendants(of int, alive bool) []int {
	children := map[int][]process{}
	for _, p := range processes() {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []int
	for next := []int{of}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			next = append(next, p.pid)
			if !alive || !p.dead {
				found = append(found, p.pid)
			}
		}
	}
	return found
}

// members returns the processes of a group that live. It asks the kernel before it looks at all there are.
func members(group int) []int {
	if unix.Kill(-group, 0) == unix.ESRCH {
		return nil
	}
	var found []int
	for _, p := range processes() {
		if p.group == group && !p.dead {
			found = append(found, p.pid)
		}
	}
	return found
}
