package queue

// hashOf is FNV-1a: workers on different machines must agree.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h ^= uint64(s[i])
		h *= 1099511628211
	}
	return h
}

// draw mixes two hashes: of several workers the one with the highest draw gets a job. (The finalizer of splitmix64.)
func draw(job, worker uint64) uint64 {
	x := job ^ worker*0x9e3779b97f4a7c15
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
