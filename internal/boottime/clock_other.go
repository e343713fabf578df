//go:build !linux

package boottime

import "time"

var start = time.Now()

// Now reads Go's monotonic clock. On Windows it counts time in suspension; on macOS and the BSDs it may not,
// and there the first check after a wake-up relies on fencing alone.
func Now() Instant { return Instant(time.Since(start)) }
