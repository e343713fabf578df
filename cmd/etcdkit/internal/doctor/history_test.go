package doctor

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestTheOldestReadableRevisionIsFoundWithFewQuestions(t *testing.T) {
	t.Parallel()
	const current = int64(1) << 40
	for _, compacted := range []int64{0, 1, 2, 3, 1000, current / 3, current - 1, current} {
		asked := 0
		got, err := oldestReadable(t.Context(), current, func(_ context.Context, rev int64) error {
			asked++
			if rev < compacted {
				return rpctypes.ErrCompacted
			}
			return nil
		})
		want := compacted
		if compacted <= 1 { // etcd's first revision is 1, which is empty: it does not matter
			want = 0
		}
		if err != nil || got != want || asked > 42 {
			t.Errorf("compacted at %d: %d, %v after %d questions", compacted, got, err, asked)
		}
	}
	broken := errors.New("broken")
	if _, err := oldestReadable(t.Context(), current, func(context.Context, int64) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v, want that it is broken", err)
	}
}

func TestHistoriesAreJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		past
		want Verdict
	}{
		{"a new cluster", past{current: 12}, Skipped},
		{"one that never compacts", past{current: 1200}, Fail},
		{"one that has not yet, as its metrics say", past{current: 1200, oldest: -1}, Fail},
		{"one that does", past{current: 1_000_000, oldest: 990_000, last: time.Now().Add(-time.Hour)}, OK},
		{"one that keeps too much", past{current: 5_000_000, oldest: 2}, Warn},
		{"one that has stopped to", past{current: 1_000_000, oldest: 990_000, last: time.Now().AddDate(0, 0, -7)}, Warn},
		{"one in which nothing happens", past{current: 990_010, oldest: 990_000, last: time.Now().AddDate(0, 0, -7)}, OK},
	} {
		if f := c.finding(); f.Verdict != c.want || f.Verdict != OK && f.Remedy == "" {
			t.Errorf("%s: %+v, want %s", c.name, f, c.want)
		}
	}
}
