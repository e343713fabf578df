// Package exit says how the command ends: its codes, the errors that mean one, and the signal that ends it early.
package exit

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Codes of the command.
const (
	Failed      = 1   // it could not be done, or was not wanted when asked
	Misused     = 2   // the command line cannot be carried out, whatever the world is like
	Conflict    = 3   // somebody else has changed what was to be changed
	TakenBack   = 4   // a rollout was taken back
	NotObtained = 124 // what a command was to hold was not to be had in time
	Lost        = 125 // what a command held was lost while it ran, and it was stopped
	CannotRun   = 126 // the command cannot be run, as a shell says it
	NotFound    = 127 // ... and if there is none of that name
	Interrupted = 130 // as a shell says it of Ctrl-C
)

// ErrInterrupted is the end of a command that was told to stop before it was through.
var ErrInterrupted = errors.New("interrupted")

// coded is an error with a code of its own.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

// With returns err as one that ends the command with a code.
func With(code int, err error) error { return coded{err, code} }

// Status returns an error that ends the command with a code, and is not told: somebody else has said what there is to say.
func Status(code int) error { return coded{silent{}, code} }

// Silent reports whether an error is not to be told.
func Silent(err error) bool { return errors.Is(err, silent{}) }

type silent struct{}

func (silent) Error() string { return "ended" }

// Usage returns err as one of usage.
func Usage(err error) error { return coded{err, Misused} }

// Code is what the command ends with after err.
func Code(err error) int {
	own, known := errors.AsType[coded](err)
	switch {
	case err == nil:
		return 0
	case known:
		return own.code
	case errors.Is(err, ErrInterrupted):
		return Interrupted
	}
	return Failed
}

// Arguments has an error about a command's arguments known as one of usage.
func Arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return Usage(err)
		}
		return nil
	}
}

// Interruptible returns a context that ends with the first SIGINT, SIGTERM or SIGHUP. A second one ends the process, and
// with it all that it has started. One that is ignored, as SIGHUP is under nohup, stays so. A reader that has gone away ends nothing:
// whoever prints sees an error.
func Interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	Catch(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(ErrInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); signal.Stop(signals); signal.Stop(pipe) }
}

// Catch has signals sent to a channel, but for those that this process was started to ignore.
func Catch(to chan<- os.Signal, signals ...os.Signal) {
	for _, one := range signals {
		if !signal.Ignored(one) {
			signal.Notify(to, one)
		}
	}
}
