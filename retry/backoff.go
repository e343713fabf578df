package retry

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// Backoff is the waits of a [Policy] without its bounds: a sequence that never ends, for what repairs
// itself for ever (a registration, a watch, a config value). It counts neither attempts nor time, and
// never gives up.
//
// A Backoff belongs to one goroutine at a time.
type Backoff struct {
	// The intervals come from cenkalti/backoff, un-randomised. Its own randomisation is symmetrical
	// around the interval: it cannot give full jitter, in which a wait may be anything down to nothing,
	// and it reaches past the maximum. So the jitter is drawn here, below the interval.
	intervals backoff.ExponentialBackOff
	jitter    float64
}

// Backoff returns the waits of p, from the first one on. It uses Initial, Max, Multiplier and Jitter
// only. It panics if p is not valid: a constructor that takes a Policy calls [Policy.Validate] first.
func (p Policy) Backoff() *Backoff {
	if err := p.Validate(); err != nil {
		panic(err)
	}
	return p.resolve().backoff()
}

// backoff is Backoff of a resolved policy.
func (p Policy) backoff() *Backoff {
	b := &Backoff{jitter: p.Jitter}
	b.intervals = backoff.ExponentialBackOff{
		InitialInterval: p.Initial,
		Multiplier:      p.Multiplier,
		MaxInterval:     p.Max,
		Stop:            backoff.Stop,
		Clock:           backoff.SystemClock,
		// No RandomizationFactor and no MaxElapsedTime: see Backoff.
	}
	if p.Max == 0 {
		b.intervals.MaxInterval = math.MaxInt64
	}
	b.Reset()
	return b
}

// Next returns the next wait and moves on: with full jitter more than zero and at most the interval,
// which grows from Initial by Multiplier up to Max. It is zero only when Initial is negative.
func (b *Backoff) Next() time.Duration {
	interval := b.intervals.NextBackOff()
	span := interval
	if b.jitter < 1 { // else float64 would round the largest intervals up
		span = time.Duration(b.jitter * float64(interval))
	}
	if span <= 0 {
		return interval
	}
	// Never zero: a wait of nothing would be a hot loop for whoever draws it again and again.
	return interval - span + 1 + rand.N(span)
}

// Reset starts again from the first interval. Call it when what was being repaired has worked for a
// while, not at the first success: a peer that accepts and drops connections would otherwise be called
// at the shortest interval for ever.
func (b *Backoff) Reset() { b.intervals.Reset() }

// Wait lets the next wait pass and returns nil, or returns when ctx ends: then the error is ctx.Err(),
// joined with the context's cause if that says more. It returns at once, without moving on, if ctx has
// already ended.
func (b *Backoff) Wait(ctx context.Context) error {
	if ctx.Err() == nil && sleep(ctx, b.Next()) {
		return nil
	}
	return cause.Of(ctx)
}

// sleep waits for d and reports true, or false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		// Both may be ready, and select then picks either: the end of ctx wins.
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
