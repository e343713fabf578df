package telemetry

import (
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/metric"
)

// Put takes a value of a gauge that is asked for.
type Put = func(value float64, attrs metric.MeasurementOption)

// Live is the objects of one kind that there are in the process, for gauges that are asked for when metrics are read: what is measured
// costs its owner nothing in between. An object adds itself when it has something to say and removes itself at its end. The zero Live is
// empty. It is safe for concurrent use.
//
// Observe a Live from a variable of the package, and not when the first object comes: whoever makes an instrument waits for a reading of
// metrics under way, which may be waiting for a lock of his.
type Live[T comparable] struct {
	mu  sync.Mutex
	all map[T]struct{} // guarded by mu
}

// Add adds an object, once.
func (l *Live[T]) Add(object T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[T]struct{}{}
	}
	l.all[object] = struct{}{}
}

// Remove removes an object, if it is there.
func (l *Live[T]) Remove(object T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, object)
}

// All returns those that there are now, in no order.
func (l *Live[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.all))
}
