// Package latest holds the newest of a stream of values for any number of readers: each reader sees the
// current value first and then changes, and a slow one skips to the newest instead of holding others up.
// It is what stands behind every iter.Seq of etcdkit's public API. Of numbers that only rise, Max holds the highest.
package latest

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
)

// Cell is a value that readers follow. Make one with [New]. All methods are safe for concurrent use; reading
// is one atomic load.
type Cell[T any] struct {
	current atomic.Pointer[version[T]]
	mu      sync.Mutex // orders Set and Close
	closed  bool       // guarded by mu
}

// version is one value and the signal that it has been superseded.
type version[T any] struct {
	value T
	next  chan struct{} // closed when a newer version is current, or the cell is closed
	last  atomic.Bool   // the cell was closed with this version
}

// New returns a cell that holds v.
func New[T any](v T) *Cell[T] {
	c := &Cell[T]{}
	c.current.Store(&version[T]{value: v, next: make(chan struct{})})
	return c
}

// Get returns the newest value.
func (c *Cell[T]) Get() T { return c.current.Load().value }

// Ptr returns the newest value in place, shared by every reader: it must not be written to.
func (c *Cell[T]) Ptr() *T { return &c.current.Load().value }

// Set makes v the newest value and wakes those who follow. After Close it does nothing.
func (c *Cell[T]) Set(v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	old := c.current.Load()
	// The new version is in place before the old one is declared superseded, so that whoever is woken finds it.
	c.current.Store(&version[T]{value: v, next: make(chan struct{})})
	close(old.next)
}

// Close ends every Seq once it has yielded the newest value. Get goes on answering. Close is idempotent.
func (c *Cell[T]) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	v := c.current.Load()
	v.last.Store(true)
	close(v.next)
}

// Seq yields the current value and then each newer one, skipping those that a slow reader missed. It ends when
// ctx is done or the cell is closed.
func (c *Cell[T]) Seq(ctx context.Context) iter.Seq[T] {
	return func(yield func(T) bool) {
		for p := range c.Ptrs(ctx) {
			if !yield(*p) {
				return
			}
		}
	}
}

// Ptrs is Seq of the values in place, as Ptr returns them.
func (c *Cell[T]) Ptrs(ctx context.Context) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for ctx.Err() == nil {
			v := c.current.Load()
			if !yield(&v.value) {
				return
			}
			select {
			case <-v.next:
				if v.last.Load() {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Changed hands out a token when there is a newer value than at the last one, the first at once: for a select that waits for other things,
// too. stop ends that, as ctx does, and waits for its goroutine; it must be called.
func (c *Cell[T]) Changed(ctx context.Context) (tokens <-chan struct{}, stop func()) {
	changed, done := make(chan struct{}, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		for range c.Seq(ctx) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, func() { cancel(); <-done }
}
