package queue

import (
	"context"
	"sync"
	"time"
)

const (
	// countHolds is how long a count that found room is relied on, and fullHolds one that found none: everybody who is refused meanwhile
	// shares it, and room is noticed soon after.
	countHolds = time.Second
	fullHolds  = 200 * time.Millisecond

	// countsEasily is a MaxDepth up to which counting is cheap enough to be done for every job.
	countsEasily = 16 * maxOps
)

// depth keeps a producer within Options.MaxDepth. Counting costs etcd time that grows with the queue (40 ms at 200,000), so that a count
// is relied on for as many jobs as leave room for others who count at the same time. It is safe for concurrent use.
type depth struct {
	most int           // 0 means no limit
	turn chan struct{} // has room for the one who counts

	mu    sync.Mutex // guards all below
	until time.Time  // the last count holds
	full  bool       // it found no room
	left  int        // how many more jobs may rely on it
}

func newDepth(most int) *depth { return &depth{most: most, turn: make(chan struct{}, 1)} }

// admit returns how many of n jobs may be pushed, at least one, or ErrFull, or why they could not be counted. ctx bounds it.
func (d *depth) admit(ctx context.Context, n int, count func(ctx context.Context) (int, error)) (int, error) {
	if d.most <= 0 {
		return n, nil
	}
	admitted, known := d.known(n)
	if !known {
		select {
		case d.turn <- struct{}{}:
			defer func() { <-d.turn }()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		admitted, known = d.known(n) // somebody else was at it, perhaps
	}
	if !known {
		there, err := count(ctx)
		if err != nil {
			return 0, err
		}
		admitted = d.learn(there, n)
	}
	if admitted == 0 {
		return 0, ErrFull
	}
	return admitted, nil
}

// known returns how many of n jobs the last count admits, if it still holds.
func (d *depth) known(n int) (admitted int, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !time.Now().Before(d.until) || !d.full && d.left == 0 {
		return 0, false
	}
	return d.takeLocked(n), true
}

// learn takes in a count, and returns how many of n jobs it admits.
func (d *depth) learn(there, n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = d.allowance(d.most - there)
	d.full = d.left == 0
	holds := countHolds
	if d.full {
		holds = fullHolds
	}
	d.until = time.Now().Add(holds) // since its end: counts that take long are shared all the more
	return d.takeLocked(n)
}

func (d *depth) takeLocked(n int) int {
	n = min(n, d.left)
	d.left -= n
	return n
}

// allowance is how many jobs a count is relied on for that found so much room. A sixteenth leaves room for fifteen
// others; when that is little it is a batch all the same, for everybody, unless counting is cheap.
func (d *depth) allowance(room int) int {
	switch {
	case room <= 0:
		return 0
	case d.most <= countsEasily:
		return max(room/16, min(room, maxJobs))
	}
	return max(room/16, maxJobs)
}
