package registry

import "math/rand/v2"

// twoChoices draws two seats and takes the one with less load for its weight: the power of two choices.
type twoChoices struct {
	seats []seat
	alias []alias // nil if the weights are equal
}

// alias is one of as many boxes as there are seats, each as likely as the others: it holds its own seat, up to a part of
// it, and one other. So a draw by weight is two looks, however many seats there are (Vose's alias method).
type alias struct {
	own   uint32 // of 2^32, the part of its own seat
	other uint32
}

func newTwoChoices(seats []seat) *twoChoices {
	c := &twoChoices{seats: seats}
	if !equalWeights(seats) {
		c.alias = newAlias(seats)
	}
	return c
}

// newAlias fills the boxes. A seat's weight times the number of boxes is what it has to give away, the sum of all
// weights is the size of a box: so all is in whole numbers, and no rounding is lost but the one to 2^32 parts.
func newAlias(seats []seat) []alias {
	size := weightOf(seats)
	boxes := make([]alias, len(seats))
	left := make([]uint64, len(seats))
	var small, large []uint32
	for i := range seats {
		left[i] = uint64(seats[i].weight) * uint64(len(seats))
		if left[i] < size {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	// What a small one leaves of its box is filled by a large one, which may be a small one then.
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		boxes[s] = alias{own: uint32(float64(left[s]) / float64(size) * (1 << 32)), other: l}
		left[l] -= size - left[s]
		if left[l] < size {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, l := range large { // each fills its box exactly
		boxes[l] = alias{other: l}
	}
	return boxes
}

func (c *twoChoices) choose(uint64) *seat {
	n := uint64(len(c.seats))
	if n == 1 {
		return &c.seats[0]
	}
	var i, j uint64
	r := rand.Uint64()
	if c.alias == nil {
		i, j = r>>32*n>>32, r&lowerHalf*(n-1)>>32
		if j >= i {
			j++
		}
	} else if i, j = c.draw(r), c.draw(rand.Uint64()); i == j {
		// The same one twice is no choice: any other.
		j = (i + 1 + rand.Uint64N(n-1)) % n
	}
	a, b := &c.seats[i], &c.seats[j]
	// With equal loads it is the first, and so by weight. A count may be under zero for a moment, and does no harm.
	if b.member.load.Load()*int64(a.weight) < a.member.load.Load()*int64(b.weight) {
		return b
	}
	return a
}

// draw returns a seat by weight. The upper half of r is the box, the lower half what of it.
func (c *twoChoices) draw(r uint64) uint64 {
	i := r >> 32 * uint64(len(c.alias)) >> 32
	if box := &c.alias[i]; r&lowerHalf >= uint64(box.own) {
		return uint64(box.other)
	}
	return i
}
