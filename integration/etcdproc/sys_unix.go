//go:build unix && !linux

package etcdproc

import (
	"context"
	"syscall"
)

func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitStopped does not wait: there is no way to see a stop here without eating the exit status.
func waitStopped(context.Context, int) error { return nil }
