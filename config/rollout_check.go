package config

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// checker has a plan's Check called, one call at a time, in a goroutine that it owns.
type checker struct {
	ctx  context.Context
	r    *Rollout
	poke func() // that a call has returned

	began   time.Time // the last call; zero before the first
	calls   sync.WaitGroup
	came    chan error // from the call that runs
	running bool
	failure error // that takes the rollout back
}

func newChecker(ctx context.Context, r *Rollout, poke func()) *checker {
	return &checker{ctx: ctx, r: r, poke: poke, came: make(chan error, 1)}
}

// failed returns why Check takes the rollout back, or nothing.
func (c *checker) failed() string {
	select {
	case err := <-c.came:
		c.running = false
		// What is said when the driving ends is not of the rollout.
		if err != nil && c.failure == nil && c.ctx.Err() == nil {
			c.failure = err
		}
	default:
	}
	if c.failure == nil {
		return ""
	}
	return fmt.Sprintf("the check failed: %v", c.failure)
}

// ask has Check called if it is time, while instances soak. At the end of a soak it says whether it is known to be well: by a call that
// began no earlier than the soak was over. next is when to ask again.
func (c *checker) ask(now time.Time, last bool, over time.Time) (ready bool, next time.Time) {
	switch {
	case c.r.check == nil:
		return true, time.Time{}
	case c.running:
		return false, time.Time{}
	case last && !c.began.Before(over):
		return true, time.Time{}
	case c.began.IsZero() || last || now.Sub(c.began) >= c.r.every:
		c.began, c.running = now, true
		c.calls.Go(c.call)
		return false, time.Time{}
	}
	return false, c.began.Add(c.r.every)
}

// call calls Check once.
func (c *checker) call() {
	defer c.poke()
	ctx, cancel := context.WithTimeout(c.ctx, c.r.within)
	defer cancel()
	c.came <- c.guarded(ctx)
}

func (c *checker) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Check", p)
		}
	}()
	return c.r.check(ctx)
}

// wait returns when no call runs any more.
func (c *checker) wait() { c.calls.Wait() }
