package registry

import "math"

// always is the stay of a table whose picks all stay near.
const always = math.MaxUint64

// zones counts the zones in which any instance is listed, in whatever state: a zone that has failed is still one, and
// its callers are there. Those without a zone are one.
func zones(list []*Instance) int {
	seen := map[string]struct{}{}
	for n, i := range list {
		if n == 0 || i.Zone != list[n-1].Zone { // most often it is that of its neighbour
			seen[i.Zone] = struct{}{}
		}
	}
	return len(seen)
}

// stay returns the bound under which a random number, of 2^64, stays in the own zone, by the weights that can be
// picked near and far. All stay while near has at least the given share of what one of the zones would have if all had
// the same. Below that as much stays as there is of it: each instance near then bears what one in a zone of just that
// share would.
func stay(near, far uint64, zones int, share float64) uint64 {
	enough := share * float64(near+far) / float64(max(zones, 1))
	if float64(near) >= enough {
		return always
	}
	return uint64(float64(near) / enough * math.MaxUint64)
}
