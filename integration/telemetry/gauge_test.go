package telemetry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// gaugeSoon is the patience with what a gauge or a counter is to read; a busy machine may need it.
const gaugeSoon = 10 * time.Second

// gaugeReads returns when what is measured under a name with these attributes, key and value in turn, is there and adds up to want.
func gaugeReads(t *testing.T, want float64, name string, attrs ...string) {
	t.Helper()
	etcdtest.Eventually(t, gaugeSoon, fmt.Sprintf("%s %v is %v", name, attrs, want), func(context.Context) error {
		if got := value(t, name, attrs...); got != want || gaugePoints(t, name, attrs...) == 0 {
			return fmt.Errorf("it is %v in %d points of %v", got, gaugePoints(t, name, attrs...), points(t, name))
		}
		return nil
	})
}

// gaugeGone fails the test if anything is measured under a name with these attributes.
func gaugeGone(t *testing.T, name string, attrs ...string) {
	t.Helper()
	if n := gaugePoints(t, name, attrs...); n != 0 {
		t.Errorf("%s %v has %d points: %v", name, attrs, n, points(t, name))
	}
}

// gaugePoints is how many measurements there are under a name with these attributes.
func gaugePoints(t *testing.T, name string, attrs ...string) (n int) {
	t.Helper()
next:
	for _, p := range points(t, name) {
		for i := 0; i < len(attrs); i += 2 {
			if p.attrs[attrs[i]] != attrs[i+1] {
				continue next
			}
		}
		n++
	}
	return n
}
