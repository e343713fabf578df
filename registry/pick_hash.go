package registry

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
)

// ring gives keys to seats by consistent hashing with bounded loads. Every seat has points on a circle; a key belongs to
// the seat of the nearest point at or after its own place. A seat that has more than bound times its share of the
// group's load is passed over.
//
// Weights of a thousand to one would need thousands of points, or points for what a weight is among the
// others: then every change of the list would move keys of them all. So a seat has 32 to 64 points on a circle of
// those whose weights are within the same power of two, and the distances on a circle count by that power: points that
// are worth twice as much are taken to be twice as near. For points at random that is the same as twice as
// many. Where a seat's points lie, and what they are worth, depends on nothing but its own ID and weight: every
// process has the same ring, and one that comes or goes moves no keys but those that it gets or had.
//
// Most of the cost of a new ring is the sorting, so it is made of the old one's points, which are sorted, and those
// of the seats that are new.
type ring struct {
	seats   []seat
	circles []circle
	points  int     // on all circles
	weight  float64 // of all seats
	load    *atomic.Int64
	bound   float64 // negative for none
}

// circle holds the points that are worth the same.
type circle struct {
	exponent int
	points   []uint64 // ordered; the upper half is the place, the lower one the seat
}

const (
	// A seat has from 32 to 64 points: seats of equal weight get keys that differ by a seventh or so, and 5,000 of the
	// default weight make a ring of 2 MB. The exponent of what a point is worth is that of the weight, less 5.
	minExponent = -5
	maxExponent = 14 // of maxWeight
	exponents   = maxExponent - minExponent + 1

	lowerHalf = 1<<32 - 1
)

// split returns a weight as a number of points and the exponent of what each is worth.
func split(weight uint32) (points, exponent int) {
	exponent = min(bits.Len32(weight)+minExponent-1, maxExponent)
	return int(math.Round(math.Ldexp(float64(weight), -exponent))), exponent
}

func newRing(seats []seat, old *ring, load *atomic.Int64, bound float64) *ring {
	r := &ring{seats: seats, weight: float64(weightOf(seats)), load: load, bound: bound}
	var kept, fresh [exponents][]uint64
	known := make([]bool, len(seats))
	if old != nil {
		to, same := r.numbers(old, known)
		for _, c := range old.circles {
			points := c.points
			if !same {
				points = renumbered(points, to)
			}
			kept[c.exponent-minExponent] = points
		}
	}
	for i := range seats {
		if known[i] {
			continue
		}
		id := hashOf(seats[i].instance.ID)
		n, exponent := split(seats[i].weight)
		to := &fresh[exponent-minExponent]
		for p := range n {
			*to = append(*to, mix(id+uint64(p)*golden)&^lowerHalf|uint64(i))
		}
	}
	for e := range exponents {
		slices.Sort(fresh[e])
		if points := mergePoints(kept[e], fresh[e]); len(points) > 0 {
			r.circles = append(r.circles, circle{exponent: e + minExponent, points: points})
			r.points += len(points)
		}
	}
	return r
}

// numbers returns what number each seat of the old ring has here, or -1 if it has other points or none, and whether
// all have the same as before. It marks the seats whose points are known.
func (r *ring) numbers(old *ring, known []bool) (to []int, same bool) {
	to, same = make([]int, len(old.seats)), true
	i := 0
	for o := range old.seats {
		id := old.seats[o].instance.ID
		for i < len(r.seats) && r.seats[i].instance.ID < id {
			i++
		}
		to[o] = -1
		if i < len(r.seats) && r.seats[i].instance.ID == id && r.seats[i].weight == old.seats[o].weight {
			to[o], known[i] = i, true
		}
		same = same && to[o] == o
	}
	return to, same
}

// renumbered returns the points of the seats that have a new number, with that. Their order stays, as that of the seats
// does.
func renumbered(points []uint64, to []int) []uint64 {
	kept := make([]uint64, 0, len(points))
	for _, p := range points {
		if n := to[p&lowerHalf]; n >= 0 {
			kept = append(kept, p&^lowerHalf|uint64(n))
		}
	}
	return kept
}

// choose returns the seat of a key.
func (r *ring) choose(hash uint64) *seat {
	var on [exponents]struct{ at, passed int } // each circle: the next point, and how many were passed over
	for c := range r.circles {
		on[c].at = next(r.circles[c].points, hash&^lowerHalf)
	}
	var own *seat
	for range r.points {
		nearest, least := 0, uint64(math.MaxUint64)
		for c := range r.circles {
			points := r.circles[c].points
			if on[c].at == len(points) {
				on[c].at = 0
			}
			// The distance to the next point, round the circle.
			distance := uint64(uint32(points[on[c].at]>>32)-uint32(hash>>32)) << (maxExponent - r.circles[c].exponent)
			if on[c].passed < len(points) && distance < least {
				nearest, least = c, distance
			}
		}
		s := &r.seats[r.circles[nearest].points[on[nearest].at]&lowerHalf]
		if r.admits(s) {
			return s
		}
		if own == nil {
			own = s
		}
		on[nearest].at++
		on[nearest].passed++
	}
	return own
}

// next returns the index of the first point at or after a place. Points are spread so evenly that it is most often
// within the root of their number from where it would be if they were so exactly: a search that stays in a few cache lines.
func next(points []uint64, place uint64) int {
	likely := int(place >> 32 * uint64(len(points)) >> 32)
	about := int(math.Sqrt(float64(len(points))))
	from, to := max(likely-about, 0), min(likely+about, len(points))
	if from > 0 && points[from-1] >= place {
		from = 0
	}
	if to < len(points) && points[to] < place {
		to = len(points)
	}
	i, _ := slices.BinarySearch(points[from:to], place)
	return from + i
}

// admits reports whether a seat may have one pick more. All together have the whole load, so there is one that may; it is
// missed only if others pick meanwhile.
func (r *ring) admits(s *seat) bool {
	return r.bound < 0 || float64(s.member.load.Load())*r.weight < r.bound*float64(r.load.Load()+1)*float64(s.weight)
}

// mergePoints merges two ordered lists.
func mergePoints(a, b []uint64) []uint64 {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	merged := make([]uint64, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	return append(append(merged, a...), b...)
}

// hashOf is the place of a key, or of an instance by its ID. All processes must agree on it, those of other versions too:
// FNV-1a, whose bits mix spreads.
func hashOf(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix makes every bit of its result depend on every bit of x (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
