package batch

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdkit/etcdkit/internal/cause"
)

var (
	// ErrNotApplied is the fate of an operation that was not written, and will not be. What it is joined with says why.
	ErrNotApplied = errors.New("batch: not applied")

	// ErrUnknown is the fate of an operation that may have been written, or may yet be: it was sent, and no answer came
	// that says. What it is joined with says why.
	ErrUnknown = errors.New("batch: unknown whether applied")

	// ErrClosed is returned for operations on a Writer that was closed, and is the reason why an operation was not applied that
	// Close could not send in its time.
	ErrClosed = errors.New("batch: writer is closed")

	// ErrTooLarge is returned for an operation that alone is larger than Options.MaxBytes. Nothing was sent.
	ErrTooLarge = errors.New("batch: operation is too large")
)

// Pending is an operation that a [Writer] has taken. It is a handle: copies are the same, it may be dropped, and it is safe for
// concurrent use.
type Pending struct {
	writer *Writer
	write  *write
	number int // among the operations that write stands for, from 1
}

// Done is closed when the operation's fate is known.
func (p Pending) Done() <-chan struct{} {
	p.writer.mu.Lock()
	defer p.writer.mu.Unlock()
	if p.write.done == nil {
		p.write.done = make(chan struct{})
		if p.write.settled {
			close(p.write.done)
		}
	}
	return p.write.done
}

// Wait waits until the operation's fate is known. It returns nil and the revision at which the operation was applied; or
// an error that is [ErrNotApplied] or [ErrUnknown], and wraps the reason. A fate that is known is returned whatever ctx says;
// if ctx ends before, the error is that of ctx, and neither of the two.
//
// A delete of a key that did not exist is applied like any other, at a revision that may be that of an earlier write. An
// operation that was superseded ([Pending.Superseded]) shares the fate of the one that took its place.
func (p Pending) Wait(ctx context.Context) (revision int64, err error) {
	done := p.Done()
	select {
	case <-done:
	default:
		select {
		case <-done:
		case <-ctx.Done():
			return 0, fmt.Errorf("batch: waiting for the fate of %.128q: %w", p.write.key, cause.Of(ctx))
		}
	}
	f := p.write.fate // not written to any more
	if f.verdict != nil {
		return 0, fmt.Errorf("%w: %.128q: %w", f.verdict, p.write.key, f.reason)
	}
	return f.revision, nil
}

// Superseded reports whether a later operation on the same key has taken this one's place before it was sent: then this
// one was not written, and its fate is that of the later one. Once the fate is known it does not change any more.
func (p Pending) Superseded() bool {
	p.writer.mu.Lock()
	defer p.writer.mu.Unlock()
	return p.number < p.write.made
}
