//go:build !unix

package etcdproc

import (
	"context"
	"os"
	"syscall"
)

// There is only killing here.
var (
	sigTerm os.Signal = os.Kill
	sigStop os.Signal = unsupported("stop")
	sigCont os.Signal = unsupported("continue")
)

// unsupported is a signal that os.Process.Signal refuses.
type unsupported string

func (s unsupported) Signal()        {}
func (s unsupported) String() string { return string(s) }

func sysProcAttr() *syscall.SysProcAttr { return nil }

func waitStopped(context.Context, int) error { return nil }

// lifelineFiles is empty: files cannot be handed down.
func lifelineFiles(*os.File) []*os.File { return nil }

func closeOnExec(int) {}
