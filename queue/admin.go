package queue

import (
	"context"
	"time"
)

// Stats is what a queue holds. Counting takes etcd time that grows with the queue, so an answer may be up to a second old.
type Stats struct {
	Waiting  int // could be claimed now
	Delayed  int
	InFlight int
	Dead     int
	Workers  int
	Paused   bool
	Oldest   time.Duration // since the push of the first in line that waits, of any priority
}

// Info is a job as Peek and Dead show it.
type Info[T any] struct {
	ID       string
	Item     T
	Raw      []byte // the item as it is in etcd
	Err      error  // why Item is not set: it cannot be decoded
	Key      string
	Priority int
	Attempts int // that have ended
	LastErr  string
	Pushed   time.Time
	Due      time.Time // of a delayed job
	Died     time.Time // of a dead letter
	Worker   string    // who has claimed it
}

func (q *Queue[T]) Stats(ctx context.Context) (Stats, error)                { panic("admin side") }
func (q *Queue[T]) Peek(ctx context.Context, n int) ([]Info[T], error)      { panic("admin side") }
func (q *Queue[T]) Dead(ctx context.Context, n int) ([]Info[T], error)      { panic("admin side") }
func (q *Queue[T]) Redrive(ctx context.Context, ids ...string) (int, error) { panic("admin side") }
func (q *Queue[T]) Purge(ctx context.Context) (int, error)                  { panic("admin side") }
func (q *Queue[T]) Pause(ctx context.Context, reason string) error          { panic("admin side") }
func (q *Queue[T]) Resume(ctx context.Context) error                        { panic("admin side") }
