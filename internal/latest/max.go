package latest

import "sync/atomic"

// Max is the highest of the numbers it was raised to; the zero value is 0. All methods are safe for concurrent use.
type Max struct{ n atomic.Int64 }

// Get returns the highest number.
func (m *Max) Get() int64 { return m.n.Load() }

// Raise makes n the highest number, if it is.
func (m *Max) Raise(n int64) {
	for {
		highest := m.n.Load()
		if n <= highest || m.n.CompareAndSwap(highest, n) {
			return
		}
	}
}

// Forget starts over from 0, unless it was raised beyond n.
func (m *Max) Forget(n int64) { m.n.CompareAndSwap(n, 0) }
