// Package boottime reads a clock that counts the time since the machine started, the time it spent suspended
// included, and that no step of the wall clock touches. Go's own monotonic clock stands still during a
// suspension on Linux, while the leases on an etcd server go on running.
package boottime

import "time"

// Instant is a reading of the clock. Instants compare within one boot of one machine only.
type Instant time.Duration

// Add returns the instant d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }
