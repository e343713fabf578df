package registry

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// owners returns whose each of n keys is.
func owners(t testing.TB, p *Picker, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		got := pick(t, p, keys()[i])
		all[i] = got.Instance.ID
		got.Done(nil)
	}
	return all
}

func TestAKeyHasOneInstanceInEveryProcess(t *testing.T) {
	t.Parallel()
	all := crowd(50, weights(100, 150))
	one := NewPicker(viewOf(all...), ConsistentHash, nil)
	// The other one has come to the same list by other ways.
	v := viewOf(all[20:30]...)
	other := NewPicker(v, ConsistentHash, nil)
	otherwise := crowd(50, weights(150, 100, 7))
	for _, list := range [][]*Instance{all[10:40], nil, all[:5], otherwise, all[3:], otherwise[:30], all} {
		show(v, list...)
		got, _ := other.Pick("k")
		got.Done(nil)
	}
	if a, b := owners(t, one, 10_000), owners(t, other, 10_000); !slices.Equal(a, b) {
		t.Error("they differ")
	}
	if a, b := owners(t, one, 10_000), owners(t, one, 10_000); !slices.Equal(a, b) {
		t.Error("asked again, it differs")
	}
}

// A version that hashes otherwise would move every key while a fleet is being updated.
func TestHashesAreTheSameForEver(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]uint64{"": 0xf52a15e9a9b5e89b, "a": 0x02c0bdbf481420f8, "user/42": 0x13a5a03ebd0b0a71} {
		if got := hashOf(key); got != want {
			t.Errorf("%q: %#x, want %#x", key, got, want)
		}
	}
}

func TestWhenAnInstanceGoesOnlyItsKeysMove(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 10, 300} {
		all := crowd(n, weights(5000, 80, 100, 1, 300))
		v := viewOf(all...)
		p := NewPicker(v, ConsistentHash, nil)
		const keys = 30_000
		before := owners(t, p, keys)
		gone := all[n/2]
		show(v, slices.Delete(slices.Clone(all), n/2, n/2+1)...)
		moved := 0
		to := map[string]bool{}
		for i, id := range owners(t, p, keys) {
			if before[i] == gone.ID {
				moved++
				to[id] = true
			} else if id != before[i] {
				t.Fatalf("of %d: key %d went from %s to %s, which both are there", n, i, before[i], id)
			}
		}
		if moved == 0 || n > 20 && len(to) < 10 {
			t.Errorf("of %d: %d keys went to %d others", n, moved, len(to))
		}
		show(v, all...)
		if !slices.Equal(owners(t, p, keys), before) {
			t.Errorf("of %d: when it is back, keys are elsewhere than before", n)
		}
	}
}

func TestAnEjectedInstanceLosesItsKeysOnlyAndAnotherStateToo(t *testing.T) {
	t.Parallel()
	all := crowd(20)
	v := viewOf(all...)
	p := NewPicker(v, ConsistentHash, nil)
	before := owners(t, p, 10_000)
	eject(t, p, "00007")
	after := owners(t, p, 10_000)
	for i, id := range after {
		if (before[i] == "00007") == (id == before[i]) {
			t.Fatalf("key %d was %s's and is %s's", i, before[i], id)
		}
	}
	draining := *all[7]
	draining.State = Draining
	v2 := viewOf(slices.Replace(slices.Clone(all), 7, 8, &draining)...)
	if !slices.Equal(owners(t, NewPicker(v2, ConsistentHash, nil), 10_000), after) {
		t.Error("an instance that drains moves other keys than one that is ejected")
	}
}

func TestKeysAreSharedByWeight(t *testing.T) {
	t.Parallel()
	for _, weight := range [][]int{{100}, {1}, {50}, {1_000_000}, {100, 300}, {1, 2, 10}, {1, 127, 128, 1000}} {
		list := crowd(120, weights(weight...))
		var sum, worst float64
		for _, i := range list {
			sum += float64(i.Weight)
		}
		bySort := map[string]int{}
		shares := map[string]float64{}
		counts := tallied(t, NewPicker(viewOf(list...), ConsistentHash, nil), many)
		for n, i := range list {
			sort := fmt.Sprint(weight[n%len(weight)])
			bySort[sort] += counts[i.ID]
			shares[sort] += float64(i.Weight) / sum * many
			points, _ := split(uint32(i.Weight))
			// Its share is as good as its points are many, and as the keys are that it gets.
			expected := float64(i.Weight) / sum * many
			worst = max(worst, math.Abs(float64(counts[i.ID])/expected-1)/math.Sqrt(1/float64(points)+1/expected))
		}
		if worst > 4.5 {
			t.Errorf("%v: the worst is off by %.2f of what its points allow: %v", weight, worst, counts)
		}
		for sort, n := range bySort {
			if off := float64(n)/shares[sort] - 1; math.Abs(off) > 0.1+3/math.Sqrt(shares[sort]) {
				t.Errorf("%v: those of weight %s are off by %.0f %%", weight, sort, 100*off)
			}
		}
	}
}

// Every pick is held: one key is all that is asked for, or a few, or many.
func TestNoInstanceHasMoreThanItsBoundOfTheLoad(t *testing.T) {
	t.Parallel()
	const nearly = 1.0005
	for _, different := range []int{1, 10, many} {
		for _, bound := range []float64{nearly, 1.1, 1.25, 2} {
			list := crowd(20, weights(100, 200, 700))
			if bound == nearly { // the heavy one is full, though its points are nearer than any of the other
				list = crowd(2, weights(1000, 1))
			}
			p := NewPicker(viewOf(list...), ConsistentHash, &PickOptions{LoadBound: bound})
			var sum float64
			for _, i := range list {
				sum += float64(i.Weight)
			}
			held := map[string]int{}
			for n := 1; n <= 20_000; n++ {
				i := pick(t, p, keys()[n%different]).Instance
				held[i.ID]++
				if most := math.Ceil(bound * float64(n) * float64(i.Weight) / sum); float64(held[i.ID]) > most {
					t.Fatalf("%d keys, bound %v: %s has %d of %d, at most %v", different, bound, i.ID, held[i.ID], n, most)
				}
			}
		}
	}
}

func TestWithoutABoundAKeyStays(t *testing.T) {
	t.Parallel()
	p := NewPicker(viewOf(crowd(20)...), ConsistentHash, &PickOptions{LoadBound: -1})
	first := pick(t, p, "k").Instance
	for range 1000 {
		if got := pick(t, p, "k").Instance; got != first {
			t.Fatalf("got %s, want %s", got.ID, first.ID)
		}
	}
}

func TestAnEmptyKeyHasNoPlace(t *testing.T) {
	t.Parallel()
	p := NewPicker(viewOf(crowd(20)...), ConsistentHash, nil)
	seen := map[string]bool{}
	for range 2000 {
		got := pick(t, p, "")
		seen[got.Instance.ID] = true
		got.Done(nil)
	}
	if len(seen) != 20 {
		t.Errorf("went to %d of 20", len(seen))
	}
}

func TestTheNextPointIsFoundWhereverPointsLie(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		points := make([]uint64, 1+rng.IntN(200))
		spread := rng.IntN(64)
		for i := range points {
			points[i] = rng.Uint64() >> spread
			if spread%2 == 1 {
				points[i] = ^points[i]
			}
		}
		slices.Sort(points)
		for range 50 {
			place := rng.Uint64() >> rng.IntN(64)
			if spread%2 == 1 {
				place = ^place
			}
			if want, _ := slices.BinarySearch(points, place); next(points, place) != want {
				t.Fatalf("of %d points got %d, want %d", len(points), next(points, place), want)
			}
		}
	}
}

func TestAWeightIsItsPointsAndWhatTheyAreWorth(t *testing.T) {
	t.Parallel()
	for weight := uint32(1); weight <= maxWeight; weight += 1 + weight/50 {
		points, exponent := split(weight)
		if points < 32 || points > 64 || exponent < minExponent || exponent > maxExponent {
			t.Fatalf("%d: %d points of 2^%d", weight, points, exponent)
		}
		if off := math.Ldexp(float64(points), exponent)/float64(weight) - 1; math.Abs(off) > 1.0/64 {
			t.Fatalf("%d: %d points of 2^%d, which is off by %v", weight, points, exponent, off)
		}
	}
	if points, exponent := split(math.MaxUint32); exponent != maxExponent { // which no instance has
		t.Errorf("%d points of 2^%d", points, exponent)
	}
}
