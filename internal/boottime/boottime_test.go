package boottime_test

import (
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

func TestInstantsAddAndSubtract(t *testing.T) {
	i := boottime.Now()
	j := i.Add(time.Second)
	if d := j.Sub(i); d != time.Second {
		t.Errorf("a second later is %v later", d)
	}
	if d := i.Sub(j); d != -time.Second {
		t.Errorf("a second earlier is %v later", d)
	}
	if i >= j {
		t.Error("later instants are not larger")
	}
}

// While the machine runs the clock goes as Go's monotonic one does.
func TestTheClockGoesForwardAtTheRateOfTime(t *testing.T) {
	before := time.Now()
	first := boottime.Now()
	after := time.Now()
	last := first
	for time.Since(after) < 20*time.Millisecond {
		now := boottime.Now()
		if now < last {
			t.Fatalf("%v came after %v", now, last)
		}
		last = now
	}
	least := time.Since(after)
	d := boottime.Now().Sub(first)
	if most := time.Since(before); d < least || d > most {
		t.Errorf("the clock counted %v, want between %v and %v", d, least, most)
	}
}
