//go:build unix

package etcdproc

import (
	"os"
	"syscall"
)

const (
	sigTerm = syscall.SIGTERM
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// lifelineFiles is what Spawn hands down as file descriptor 3.
func lifelineFiles(r *os.File) []*os.File { return []*os.File{r} }

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }
