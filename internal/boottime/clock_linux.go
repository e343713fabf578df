package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now reads CLOCK_BOOTTIME.
func Now() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Only a kernel older than 2.6.39 lacks this clock, and Go does not run there.
		panic("boottime: " + err.Error())
	}
	return Instant(time.Duration(ts.Nano()))
}
