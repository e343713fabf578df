//go:build !(linux || darwin || freebsd || openbsd || dragonfly)

package child

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// Main does nothing: there are no minders here.
func Main() {}

// Alone does nothing: there are no minders here.
func Alone() {}

// Signals ends a context with the first signal.
type Signals struct{ stop func() }

// Catch returns a context that ends with the first signal that asks for it.
func Catch(ctx context.Context) (context.Context, *Signals) {
	ctx, stop := exit.Interruptible(ctx)
	return ctx, &Signals{stop}
}

// Close has signals do again what they do by themselves.
func (s *Signals) Close() { s.stop() }

// Asked reports false: the context tells.
func (s *Signals) Asked() bool { return false }

// Process is a command that runs; there is none here.
type Process struct{}

// Start returns an error.
func Start(c Command) (*Process, error) {
	return nil, exit.With(exit.CannotRun, errors.New("commands cannot be run on this system, where nothing would stop them"))
}

// PID returns 0.
func (p *Process) PID() int { return 0 }

// Signal does nothing.
func (p *Process) Signal(syscall.Signal) {}

// Stop does nothing.
func (p *Process) Stop(time.Duration) {}

// Done is nil.
func (p *Process) Done() <-chan struct{} { return nil }

// Wait returns nothing.
func (p *Process) Wait() Status { return Status{} }
