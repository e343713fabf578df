package latest_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/etcdkit/etcdkit/internal/latest"
)

func TestAReaderSeesTheCurrentValueAndThenEachChange(t *testing.T) {
	c := latest.New(1)
	var seen []int
	for v := range c.Seq(t.Context()) {
		seen = append(seen, v)
		if v == 4 {
			break
		}
		c.Set(v + 1)
	}
	if want := []int{1, 2, 3, 4}; !slices.Equal(seen, want) {
		t.Errorf("saw %v, want %v", seen, want)
	}
	if c.Get() != 4 || *c.Ptr() != 4 {
		t.Errorf("Get %d, Ptr %d, want 4", c.Get(), *c.Ptr())
	}
}

func TestASlowReaderSkipsToTheNewest(t *testing.T) {
	c := latest.New(0)
	var seen []int
	for v := range c.Seq(t.Context()) {
		seen = append(seen, v)
		if v == 100 {
			break
		}
		for i := 1; i <= 100; i++ {
			c.Set(i)
		}
	}
	if want := []int{0, 100}; !slices.Equal(seen, want) {
		t.Errorf("saw %v, want %v", seen, want)
	}
}

// What is closed right after a change yields that change, to those who wait as to those who come later.
func TestACloseEndsEveryReaderAfterTheNewestValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := latest.New(1)
		var waiting []int
		var all sync.WaitGroup
		all.Go(func() {
			for v := range c.Seq(t.Context()) {
				waiting = append(waiting, v)
			}
		})
		synctest.Wait()
		c.Set(2)
		c.Close()
		c.Close()
		c.Set(3) // too late
		all.Wait()
		if want := []int{1, 2}; !slices.Equal(waiting, want) {
			t.Errorf("who waited saw %v, want %v", waiting, want)
		}
		if late := slices.Collect(c.Seq(t.Context())); !slices.Equal(late, []int{2}) {
			t.Errorf("who came later saw %v, want the newest value", late)
		}
		if c.Get() != 2 {
			t.Errorf("Get returns %d after Close, want 2", c.Get())
		}
	})
}

func TestAReaderEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := latest.New(1)
		ctx, cancel := context.WithCancel(t.Context())
		var seen []int
		var all sync.WaitGroup
		all.Go(func() { seen = slices.Collect(c.Seq(ctx)) })
		synctest.Wait()
		cancel()
		all.Wait()
		if !slices.Equal(seen, []int{1}) {
			t.Errorf("saw %v, want the current value alone", seen)
		}
		if late := slices.Collect(c.Seq(ctx)); len(late) != 0 {
			t.Errorf("with a context that has ended: %v, want nothing", late)
		}
	})
}

// No reader sees an older value after a newer one, and each sees the last.
func TestManyReadersAndWritersAtOnce(t *testing.T) {
	const writers, changes = 4, 500
	c := latest.New([2]int{})
	var readers, writing sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			var last [writers]int
			for v := range c.Seq(t.Context()) {
				if v[1] < last[v[0]] {
					t.Errorf("saw %v after %v of the same writer", v, last)
				}
				last[v[0]] = v[1]
			}
			if final := c.Get(); last[final[0]] != final[1] {
				t.Errorf("the last value %v was not seen: %v", final, last)
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := 1; i <= changes; i++ {
				c.Set([2]int{w, i})
			}
		})
	}
	writing.Wait()
	c.Close()
	readers.Wait()
}

func TestReadingDoesNotAllocate(t *testing.T) {
	c := latest.New(1)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Get(), c.Ptr() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestATokenStandsForAllThatChangedSinceTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := latest.New(0)
		tokens, stop := c.Changed(t.Context())
		has := func() bool {
			synctest.Wait()
			select {
			case <-tokens:
				return true
			default:
				return false
			}
		}
		if !has() || has() {
			t.Error("there is not one token for the value that was there")
		}
		for n := range 3 {
			c.Set(n + 1)
		}
		if !has() || has() {
			t.Error("there is not one token for three changes")
		}
		stop()
		c.Set(9)
		if has() {
			t.Error("there is one after the end")
		}
	})
}
