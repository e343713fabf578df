//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// caught are the signals that are a command's while there is one.
var caught = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTSTP,
}

// Signals are those that this program is sent. While a command runs they are forwarded to it; otherwise those that ask for it end
// a context.
type Signals struct {
	cancel context.CancelCauseFunc
	came   chan os.Signal
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	process *Process
	pending syscall.Signal // the one that ended the context
	asked   bool           // one came that asks for the end
}

// Catch catches signals, and returns a context that ends with [exit.ErrInterrupted] at the first SIGINT, SIGTERM, SIGHUP or SIGQUIT
// that comes while no command runs. Those that are ignored (nohup) stay so. Close it.
func Catch(ctx context.Context) (context.Context, *Signals) {
	s := &Signals{came: make(chan os.Signal, 16), done: make(chan struct{})}
	ctx, s.cancel = context.WithCancelCause(ctx)
	exit.Catch(s.came, caught...)
	go func() {
		for {
			select {
			case one := <-s.came:
				s.take(one)
			case <-s.done:
				return
			}
		}
	}()
	return ctx, s
}

// Close has signals do again what they do by themselves, and ends the context.
func (s *Signals) Close() {
	signal.Stop(s.came)
	close(s.done)
	s.cancel(nil)
}

// Asked reports whether a signal has come that asks for the end, of the command or of the program.
func (s *Signals) Asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// take does what a signal asks for.
func (s *Signals) take(one os.Signal) {
	sig, ok := one.(syscall.Signal)
	if !ok {
		return
	}
	s.mu.Lock()
	p := s.process
	if p != nil {
		select {
		case <-p.done:
			p = nil
		default:
		}
	}
	switch sig {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		if s.asked = true; p == nil {
			s.pending = sig
			s.cancel(exit.ErrInterrupted)
		}
	default:
	}
	s.mu.Unlock()
	switch {
	case p != nil:
		p.Signal(sig)
	case sig == syscall.SIGTSTP:
		suspend()
	}
}

// to forwards signals to a process, and the one that came just before it was started; or to none.
func (s *Signals) to(p *Process) {
	s.mu.Lock()
	s.process = p
	pending := s.pending
	if p == nil && s.asked {
		s.cancel(exit.ErrInterrupted)
	}
	s.mu.Unlock()
	if p != nil && pending != 0 {
		p.Signal(pending)
	}
}
