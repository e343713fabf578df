package registry

import (
	"fmt"
	"math"
	"testing"
)

func TestRoundRobinTakesEachInItsTurn(t *testing.T) {
	t.Parallel()
	all := crowd(7, weights(1, 1000))
	p := NewPicker(viewOf(all...), RoundRobin, nil)
	var order []string
	for range many {
		order = append(order, pick(t, p, "").Instance.ID)
	}
	for i := range order[7:] {
		if order[i] != order[i+7] {
			t.Fatalf("pick %d is %s, pick %d %s", i, order[i], i+7, order[i+7])
		}
	}
	if counts := tallied(t, p, 7); len(counts) != 7 {
		t.Errorf("a round is %v", counts)
	}
}

// A thousand clients that start together must not all begin with the same instance.
func TestPickersBeginAnywhere(t *testing.T) {
	t.Parallel()
	all := crowd(10)
	v := viewOf(all...)
	first := map[string]int{}
	for range 10_000 {
		first[pick(t, NewPicker(v, RoundRobin, nil), "").Instance.ID]++
	}
	proportional(t, first, sharesOf(all))
}

func TestRoundRobinGoesOnWhenAnInstanceLeaves(t *testing.T) {
	t.Parallel()
	all := crowd(10)
	v := viewOf(all...)
	p := NewPicker(v, RoundRobin, nil)
	counts := tallied(t, p, many/2)
	show(v, all[1:]...)
	after := tallied(t, p, many/2)
	if counts["00000"] != many/20 || after["00000"] != 0 {
		t.Errorf("the one that left: %d before, %d after", counts["00000"], after["00000"])
	}
	for _, i := range all[1:] {
		if n := after[i.ID]; n < many/18-1 || n > many/18+1 {
			t.Errorf("%s: %d, want %d", i.ID, n, many/18)
		}
	}
}

func TestWeightedTakesEachAsOftenAsItsWeightAndEvenly(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]*Instance{
		"two":                     crowd(2, weights(100, 200)),
		"the usual example":       crowd(3, weights(5, 1, 1)),
		"ten sorts":               crowd(100, weights(10, 20, 30, 40, 50, 60, 70, 80, 90, 100)),
		"one has nearly all":      crowd(20, weights(1_000_000, 10_000, 10_000, 10_000, 10_000)),
		"equal but for one":       crowd(50, func(i int, instance *Instance) { instance.Weight = 100 + i/49 }),
		"all equal":               crowd(11),
		"primes, and an odd size": crowd(13, weights(2, 3, 5, 7, 11, 13, 17)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sum float64
			for _, i := range list {
				sum += float64(i.Weight)
			}
			p := NewPicker(viewOf(list...), Weighted, nil)
			count, last, gaps := map[string]int{}, map[string]int{}, map[string]map[int]bool{}
			var worst, widest float64
			for n := 1; n <= many; n++ {
				i := pick(t, p, "").Instance
				count[i.ID]++
				mean := sum / float64(i.Weight)
				if before := last[i.ID]; before > 0 {
					if gaps[i.ID] == nil {
						gaps[i.ID] = map[int]bool{}
					}
					gaps[i.ID][n-before] = true
					widest = max(widest, float64(n-before)/mean)
				}
				last[i.ID] = n
				worst = max(worst, math.Abs(float64(count[i.ID])-float64(n)/mean))
			}
			for _, i := range list {
				worst = max(worst, math.Abs(float64(count[i.ID])-many*float64(i.Weight)/sum))
				if len(gaps[i.ID]) > 3 {
					t.Errorf("the turns of %s come at %d distances: %v", i.ID, len(gaps[i.ID]), gaps[i.ID])
				}
			}
			t.Logf("counts are off by at most %.2f, distances at most %.2f of their mean", worst, widest)
			if worst > 6 || widest > 2 {
				t.Errorf("counts are off by %.2f, distances by %.2f of their mean", worst, widest)
			}
		})
	}
}

func TestWeightedTakesUpAChangeOfWeights(t *testing.T) {
	t.Parallel()
	v := viewOf(crowd(3, weights(100, 100, 100))...)
	p := NewPicker(v, Weighted, nil)
	tallied(t, p, 1000)
	after := crowd(3, weights(100, 300, 600))
	show(v, after...)
	counts := tallied(t, p, many)
	for _, i := range after {
		if got, want := counts[i.ID], many*i.Weight/1000; got < want-6 || got > want+6 {
			t.Errorf("%s: %d, want %d", i.ID, got, want)
		}
	}
}

// Goroutines share the turns: together they are as even as one.
func TestWeightedIsEvenSideBySide(t *testing.T) {
	t.Parallel()
	list := crowd(5, weights(1, 2, 3, 4, 10))
	p := NewPicker(viewOf(list...), Weighted, nil)
	results := make(chan map[string]int)
	for range 4 {
		go func() {
			counts := map[string]int{}
			for range many / 4 {
				got, _ := p.Pick("")
				counts[got.Instance.ID]++
			}
			results <- counts
		}()
	}
	counts := map[string]int{}
	for range 4 {
		for id, n := range <-results {
			counts[id] += n
		}
	}
	for _, i := range list {
		if got, want := counts[i.ID], many*i.Weight/20; got < want-6 || got > want+6 {
			t.Errorf("%s: %d, want %d (%s)", i.ID, got, want, fmt.Sprint(counts))
		}
	}
}
