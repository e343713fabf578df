package batch

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// flush is one who waits until everything that was buffered up to a point has its fate.
type flush struct {
	upTo uint64 // the last write that it waits for
	left int    // how many of them have no fate
	done chan struct{}
}

// Flush sends what is buffered without waiting for company, and waits until every operation that was made before has its
// fate. It returns nil, or the failures that no Flush has returned yet, joined: each is [ErrNotApplied] or [ErrUnknown] and
// wraps the reason. Goroutines that share a Writer and want to know of their own operations only look at each [Pending].
//
// If ctx ends before, the error is that of ctx. The operations go on, and their failures are left to the next Flush.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.await(ctx)
}

// await is Flush, with the mutex held, which it gives up while it waits.
func (w *Writer) await(ctx context.Context) error {
	f := &flush{upTo: w.buffer.seq, left: w.buffer.open, done: make(chan struct{})}
	if f.left == 0 {
		return w.failures.take()
	}
	w.flushes = append(w.flushes, f)
	w.launch()
	w.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	w.mu.Lock()
	if f.left == 0 {
		return w.failures.take()
	}
	w.flushes = slices.DeleteFunc(w.flushes, func(g *flush) bool { return f == g })
	return fmt.Errorf("batch: %d keys have no fate yet: %w", f.left, cause.Of(ctx))
}

// record takes note of writes that have a fate now: their room is free, those who wait for them are a step further, and
// their failure is kept for Flush. They have all the same fate. mu is held.
func (w *Writer) record(settled []*write) {
	free := 0
	for _, s := range settled {
		free += cost(s)
		for _, f := range w.flushes {
			if s.seq <= f.upTo {
				f.left--
			}
		}
	}
	w.flushes = slices.DeleteFunc(w.flushes, func(f *flush) bool {
		if f.left == 0 {
			close(f.done)
		}
		return f.left == 0
	})
	w.failures.add(settled)
	w.room.give(free)
	w.launch()
}
