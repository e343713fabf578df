package batch

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// Close has everything sent that is buffered, and returns when it has its fate: nil, or the failures that no Flush has
// returned. Operations that come after it began are refused with [ErrClosed].
//
// If ctx ends before, what was not sent is [ErrNotApplied] and what was sent and is not answered is [ErrUnknown], each with
// [ErrClosed] and the error of ctx for a reason; Close returns that error too. In any case it returns promptly, and nothing of
// the Writer runs any more. It may be called any number of times, and always returns the same; of several contexts the one
// that ends first counts.
func (w *Writer) Close(ctx context.Context) error {
	if w.end() {
		go w.finish()
	}
	select {
	case <-w.closed:
	case <-ctx.Done():
		select {
		case <-w.closed: // both, and nothing is left to be abandoned
		default:
			w.abandon(fmt.Errorf("%w: %w", ErrClosed, cause.Of(ctx)))
			<-w.closed
		}
	}
	return w.result
}

// end refuses operations from now on. It reports whether it did not do so before.
func (w *Writer) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.ended = true
	close(w.closing) // wakes who stands in line for room
	return true
}

// finish is the first Close, from when the Writer takes no more. life ends when any Close gives up.
func (w *Writer) finish() {
	w.mu.Lock()
	err := w.await(w.life)
	if w.buffer.open > 0 {
		err = w.scuttle()
	}
	w.mu.Unlock()
	w.flights.Wait() // promptly: they are over, or life is

	w.mu.Lock()
	w.timer.Stop()
	w.result = errors.Join(err, w.failures.take())
	w.mu.Unlock()
	w.abandon(ErrClosed)
	close(w.closed)
}

// scuttle gives up what was not sent. What is in flight learns from life, which has ended, that it is to land. mu is held.
func (w *Writer) scuttle() error {
	cause := context.Cause(w.life)
	w.record(w.buffer.drop(fate{verdict: ErrNotApplied, reason: cause}))
	return cause
}
