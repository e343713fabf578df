package registry

import (
	"math"
	"math/rand/v2"
	"testing"
)

// With nothing to do all loads are equal, and what is left are the weights.
func TestLeastLoadedIsByWeightWhileThereIsNoLoad(t *testing.T) {
	t.Parallel()
	for _, list := range [][]*Instance{
		crowd(2),
		crowd(2, weights(1, 99)),
		crowd(10),
		crowd(50, weights(10, 100, 1000)),
		crowd(1000),
	} {
		proportional(t, tallied(t, NewPicker(viewOf(list...), LeastLoaded, nil), many), sharesOf(list))
	}
}

func TestADrawIsByWeightExactly(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		list := crowd(1+rng.IntN(300), func(_ int, instance *Instance) { instance.Weight = 1 + rng.IntN(1<<rng.IntN(20)) })
		seats := seatsOf(list)
		got := make([]float64, len(seats))
		for i, box := range newAlias(seats) {
			got[i] += float64(box.own) / (1 << 32) / float64(len(seats))
			got[box.other] += 1/float64(len(seats)) - float64(box.own)/(1<<32)/float64(len(seats))
		}
		for i := range seats {
			if want := float64(seats[i].weight) / float64(weightOf(seats)); math.Abs(got[i]-want) > 1e-9 {
				t.Fatalf("%d of %d: %v, want %v", i, len(seats), got[i], want)
			}
		}
	}
}

func TestLeastLoadedTakesTheLesserOfTwo(t *testing.T) {
	t.Parallel()
	for _, list := range [][]*Instance{crowd(2), crowd(2, weights(100, 200))} {
		p := NewPicker(viewOf(list...), LeastLoaded, nil)
		held := map[string]int{}
		for n := range 300 {
			held[pick(t, p, "").Instance.ID]++
			// Loads by weight are never apart by more than the pick that made them so.
			a, b := float64(held["00000"])/float64(list[0].Weight), float64(held["00001"])/float64(list[1].Weight)
			if math.Abs(a-b) > 1.0/100+1e-9 {
				t.Fatalf("after %d picks: %v", n+1, held)
			}
		}
	}
}

// At random the worst would have over 25.
func TestLeastLoadedKeepsTheWorstCloseToTheMean(t *testing.T) {
	t.Parallel()
	for _, list := range [][]*Instance{crowd(100), crowd(100, weights(50, 100, 150))} {
		p := NewPicker(viewOf(list...), LeastLoaded, nil)
		rng := rand.New(rand.NewPCG(3, 4))
		var open []Pick
		var worst float64
		for range many {
			open = append(open, pick(t, p, ""))
			last := &open[len(open)-1]
			worst = max(worst, float64(last.member.load.Load())*100/float64(last.Instance.Weight))
			if len(open) == 1000 {
				i := rng.IntN(len(open))
				open[i].Done(nil)
				open[i], open = open[len(open)-1], open[:len(open)-1]
			}
		}
		t.Logf("the worst had %.1f, the mean is 10", worst)
		if worst > 20 {
			t.Errorf("one had %.1f picks for its weight at a time, of a mean of 10", worst)
		}
	}
}

// One that answers ten times slower gets about a tenth.
func TestLeastLoadedGivesLessToTheSlow(t *testing.T) {
	t.Parallel()
	list := crowd(10)
	p := NewPicker(viewOf(list...), LeastLoaded, nil)
	due := map[int][]Pick{}
	counts := map[string]int{}
	for now := range many {
		for i := range due[now] {
			due[now][i].Done(nil)
		}
		delete(due, now)
		got := pick(t, p, "")
		counts[got.Instance.ID]++
		lasts := 50
		if got.Instance.ID == "00000" {
			lasts = 500
		}
		due[now+lasts] = append(due[now+lasts], got)
	}
	if slow, mean := counts["00000"], (many-counts["00000"])/9; slow*4 > mean {
		t.Errorf("the slow one got %d, the others %d each", slow, mean)
	}
}

// seatsOf returns seats for what chooses among them, without a picker.
func seatsOf(list []*Instance) []seat {
	seats := make([]seat, len(list))
	for i, instance := range list {
		seats[i] = seat{instance: instance, member: &member{instance: instance}, weight: uint32(instance.Weight)}
	}
	return seats
}
