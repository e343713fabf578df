package queue

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counts is a count of so many jobs, and how often it was made.
type counts struct {
	there int
	made  int
	takes time.Duration
	err   error
}

func (c *counts) count(ctx context.Context) (int, error) {
	c.made++
	if c.takes > 0 {
		late := time.NewTimer(c.takes)
		defer late.Stop()
		select {
		case <-late.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return c.there, c.err
}

func TestWithoutADepthNothingIsCounted(t *testing.T) {
	n, err := newDepth(0).admit(t.Context(), 128, nil)
	if n != 128 || err != nil {
		t.Error(n, err)
	}
}

func TestACountIsReliedOnForAShareOfTheRoom(t *testing.T) {
	for _, c := range []struct{ most, there, want int }{
		{100_000, 0, 6250},
		{100_000, 99_000, maxJobs}, // little: a batch
		{100_000, 99_999, maxJobs},
		{100_000, 100_000, 0},
		{100_000, 100_500, 0},
		{1000, 0, maxJobs},
		{1000, 990, 10}, // to be counted easily: exact
		{10, 0, 10},
	} {
		if got := newDepth(c.most).allowance(c.most - c.there); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.there, c.most, got, c.want)
		}
	}
}

func TestAFullQueueIsCountedSeldomAndItsRoomFoundSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := newDepth(1000), &counts{there: 1000}
		for range 100 {
			if _, err := d.admit(t.Context(), 1, c.count); !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
		}
		if c.made != 1 {
			t.Errorf("%d counts for 100 refusals", c.made)
		}
		c.there = 999
		began, tick := time.Now(), time.NewTicker(10*time.Millisecond)
		defer tick.Stop()
		for {
			<-tick.C
			if n, err := d.admit(t.Context(), 5, c.count); err == nil {
				if n != 1 {
					t.Errorf("%d admitted, there is room for 1", n)
				}
				break
			}
		}
		if took := time.Since(began); took > 250*time.Millisecond {
			t.Errorf("room was found after %v", took)
		}
		if c.made != 2 {
			t.Errorf("%d counts, want 2", c.made)
		}
	})
}

func TestACountIsNotReliedOnForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := newDepth(100_000), &counts{}
		for range 3 {
			if _, err := d.admit(t.Context(), 1, c.count); err != nil {
				t.Fatal(err)
			}
		}
		if c.made != 1 {
			t.Errorf("%d counts for 3 jobs", c.made)
		}
		c.there = 100_000
		<-time.After(countHolds)
		if _, err := d.admit(t.Context(), 1, c.count); !errors.Is(err, ErrFull) {
			t.Errorf("%v, want ErrFull", err)
		}
	})
}

func TestPushesAtOnceShareACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := newDepth(100_000), &counts{there: 10, takes: 2 * time.Second} // longer than it holds
		var going sync.WaitGroup
		for range 16 {
			going.Go(func() {
				if n, err := d.admit(t.Context(), 64, c.count); n != 64 || err != nil {
					t.Error(n, err)
				}
			})
		}
		synctest.Wait()
		// One of them has gone away while another counts.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.admit(ctx, 64, c.count); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the end of its context", err)
		}
		going.Wait()
		if c.made != 1 {
			t.Errorf("%d counts", c.made)
		}
	})
}

func TestACountThatFailsIsTheCallersToKnow(t *testing.T) {
	d, boom := newDepth(10), errors.New("boom")
	if _, err := d.admit(t.Context(), 1, (&counts{err: boom}).count); !errors.Is(err, boom) {
		t.Error(err)
	}
	if n, err := d.admit(t.Context(), 1, (&counts{}).count); n != 1 || err != nil {
		t.Error(n, err)
	}
}
