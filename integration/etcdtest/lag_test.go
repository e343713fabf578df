package etcdtest

import (
	"testing"
	"time"
)

// The bound of a wait is on the time in which the process was run.
func TestTimeInWhichTheMachineIsBusyDoesNotCount(t *testing.T) {
	const bound, busy = 200 * time.Millisecond, 300 * time.Millisecond
	began := time.Now()
	up, stop := timeUp(bound)
	defer stop()
	lag.Add(int64(busy)) // as if it had not been run for so long
	<-up
	if took := time.Since(began); took < bound+busy {
		t.Errorf("the time was up after %v, of which the process was not run for %v", took, busy)
	}
	up, stop = timeUp(time.Hour)
	stop()
	stop()
	select {
	case <-up:
		t.Error("the time is up, and it was stopped")
	default:
	}
}
