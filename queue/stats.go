package queue

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Stats is what a queue holds, as of one revision of etcd and by the clock of who counted.
type Stats struct {
	Waiting  int // could be claimed now, if it is not paused; also those that wait for another with their Key
	Delayed  int // will be due later: pushed so, or to be delivered again
	InFlight int // claimed
	Dead     int
	Workers  int

	// Oldest is for how long the job that has waited longest could have been claimed: since its push or, if it was delayed, since it was due.
	// 0 if none waits.
	Oldest time.Duration

	Paused      bool
	PausedSince time.Time // if it is known
	PauseReason string
}

// fresh is for how long an answer of Stats is passed on.
const fresh = time.Second

// Stats counts what the queue holds. That takes etcd time that grows with the queue, so a Queue counts once at a time and at most once a
// second: whoever asks meanwhile gets the same answer. What this Queue has paused, resumed, purged, redriven or discarded before is in it.
func (q *Queue[T]) Stats(ctx context.Context) (Stats, error) {
	if q.invalid != nil {
		return Stats{}, q.invalid
	}
	s, err := q.counted.get(ctx, func(ctx context.Context, known []int) (Stats, []int, error) {
		return count(ctx, q.client, q.keys, time.Now(), known)
	})
	if err != nil {
		return Stats{}, fmt.Errorf("queue %q: %w", q.name, err)
	}
	return s, nil
}

// counted shares the counts of a queue. The zero value is ready.
type counted struct {
	mu     sync.Mutex // guards what follows
	last   *tally     // the newest, under way or done
	inUse  []int      // the priorities that the last one has found
	expiry time.Time  // of the last one, once it is done
}

// tally is one count.
type tally struct {
	done  chan struct{} // closed when what follows is set
	stats Stats
	err   error
	gone  bool // who has made it has gone away before it was through
}

// get returns an answer that is not older than fresh, or counts. ctx bounds the wait, and also the count if it is this call that makes it.
func (c *counted) get(ctx context.Context, fn func(context.Context, []int) (Stats, []int, error)) (Stats, error) {
	for {
		c.mu.Lock()
		t := c.last
		if t == nil || !c.expiry.IsZero() && time.Now().After(c.expiry) {
			return c.count(ctx, fn) // which unlocks
		}
		c.mu.Unlock()
		select {
		case <-t.done:
		case <-ctx.Done():
			return Stats{}, context.Cause(ctx)
		}
		if !t.gone {
			return t.stats, t.err
		}
	}
}

// count makes a count that others wait for. c.mu is held, and released.
func (c *counted) count(ctx context.Context, fn func(context.Context, []int) (Stats, []int, error)) (Stats, error) {
	t := &tally{done: make(chan struct{})}
	c.last, c.expiry = t, time.Time{}
	known := c.inUse
	c.mu.Unlock()

	stats, inUse, err := fn(ctx, known)

	c.mu.Lock()
	defer c.mu.Unlock()
	t.stats, t.err, t.gone = stats, err, err != nil && ctx.Err() != nil
	if err == nil {
		c.inUse = inUse
	}
	if c.last == t { // else what it says was overtaken
		c.expiry = time.Now().Add(fresh)
		if err != nil {
			c.last = nil
		}
	}
	close(t.done)
	return stats, err
}

// forget has the next call count anew: the queue has been changed.
func (c *counted) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = nil
}
