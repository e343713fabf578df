package doctor

import (
	"fmt"
	"slices"
	"time"
)

// spread is how long something took, again and again.
type spread []time.Duration

// at is the duration that a share of them did not exceed; 0 if there are none.
func (s spread) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s spread) p50() time.Duration { return s.at(0.50) }
func (s spread) p90() time.Duration { return s.at(0.90) }
func (s spread) p99() time.Duration { return s.at(0.99) }
func (s spread) max() time.Duration { return s.at(1) }

func (s spread) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v of %d", brief(s.p50()), brief(s.p99()), brief(s.max()), len(s))
}

// brief is a duration with as many digits as anybody reads.
func brief(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= 10*unit {
			return d.Round(unit / 10)
		}
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}
