package queue

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// gauges are asked when metrics are read: for what the workers of this process know anyway, and for what Report has sampled. They do no I/O.
var gauges registry

// registry is what there is to ask. The zero value is ready.
type registry struct {
	once sync.Once

	mu      sync.Mutex          // guards what follows
	shifts  map[*shift]struct{} // that work
	reports map[*reporter]struct{}
}

// open makes the instruments, the first time.
func (g *registry) open() {
	g.once.Do(func() {
		g.shifts, g.reports = map[*shift]struct{}{}, map[*reporter]struct{}{}
		scope.Observe("etcdkit.queue.depth", "{job}", "Jobs in the queue, as sampled by who reports it.", g.depth)
		scope.Observe("etcdkit.queue.oldest_age", "s", "For how long the oldest job waits, as a worker knows it or as sampled.", g.oldest)
		scope.Observe("etcdkit.queue.workers", "{worker}", "Workers, as a worker knows them or as sampled.", g.workers)
	})
}

// hold has a shift asked until the function that it returns is called.
func (g *registry) hold(s *shift) (letGo func()) {
	g.open()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shifts[s] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.shifts, s)
	}
}

// holdReport is hold for who samples.
func (g *registry) holdReport(r *reporter) (letGo func()) {
	g.open()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reports[r] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.reports, r)
	}
}

// all are those that are to be asked: they have locks of their own.
func (g *registry) all() (shifts []*shift, samples []*sample) {
	g.mu.Lock()
	for s := range g.shifts {
		shifts = append(shifts, s)
	}
	reports := make([]*reporter, 0, len(g.reports))
	for r := range g.reports {
		reports = append(reports, r)
	}
	g.mu.Unlock()
	for _, r := range reports {
		samples = append(samples, r.current(time.Now())...)
	}
	return shifts, samples
}

type put = func(value float64, attrs metric.MeasurementOption)

func (g *registry) depth(_ context.Context, put put) {
	_, samples := g.all()
	for _, s := range samples {
		for i, n := range []int{s.Waiting, s.Delayed, s.InFlight, s.Dead} {
			put(float64(n), s.states[i])
		}
	}
}

func (g *registry) oldest(_ context.Context, put put) {
	g.of(put,
		func(s *shift) (float64, bool) { age, known := s.oldest(time.Now()); return age.Seconds(), known },
		func(s *sample) float64 { return s.Oldest.Seconds() })
}

func (g *registry) workers(_ context.Context, put put) {
	g.of(put,
		func(s *shift) (float64, bool) { n, known := s.peers(); return float64(n), known },
		func(s *sample) float64 { return float64(s.Workers) })
}

// of puts one value a queue: what a worker knows is newer than what was sampled. Of two that know the larger one counts.
func (g *registry) of(put put, knows func(*shift) (float64, bool), sampled func(*sample) float64) {
	shifts, samples := g.all()
	values, attrs := map[string]float64{}, map[string]metric.MeasurementOption{}
	for _, s := range shifts {
		if v, known := knows(s); known {
			name := s.measures.name
			values[name], attrs[name] = max(v, values[name]), s.measures.queue
		}
	}
	for _, s := range samples {
		if attrs[s.name] == nil {
			values[s.name], attrs[s.name] = sampled(s), s.queue
		}
	}
	for name, v := range values {
		put(v, attrs[name])
	}
}

// sample is what was counted of a queue.
type sample struct {
	Stats
	*sampled
	at time.Time
}

// sampled is a queue of which samples are taken. What they are attributed to is made once.
type sampled struct {
	name   string
	keys   layout
	known  []int // priorities in use
	queue  metric.MeasurementOption
	states [4]metric.MeasurementOption // waiting, delayed, in flight, dead
}

func newSampled(name string) *sampled {
	s := &sampled{name: name, keys: layoutOf(name), queue: telemetry.Attributes(queueName.String(name))}
	for i, state := range []string{"waiting", "delayed", "in_flight", "dead"} {
		s.states[i] = telemetry.Attributes(queueName.String(name), stateName.String(state))
	}
	return s
}

// oldest is for how long the job that has waited longest could have been claimed, if the worker knows: it sees the head of each line, unless
// it is cut off from etcd or reads on just now.
func (s *shift) oldest(now time.Time) (age time.Duration, known bool) {
	if s.tail.Status().Err != nil {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window.oldest(now)
}

// peers is how many workers the queue has, if the worker knows.
func (s *shift) peers() (n int, known bool) {
	if s.tail.Status().Err != nil {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.window.peers), s.window.ready
}

// oldest is for how long the first job that nobody has claimed has been due.
func (w *window) oldest(now time.Time) (age time.Duration, known bool) {
	if !w.ready {
		return 0, false
	}
	for _, l := range w.lanes {
		first := l.first()
		if first == nil && l.reach != "" {
			return 0, false
		}
		if first != nil {
			age = max(age, now.Sub(first.place.at()))
		}
	}
	return age, true
}

// first is the first job of a line that nobody has claimed, as far as the line is known.
func (l *lane) first() *entry {
	for _, e := range l.entries {
		if e.isFree() {
			return e
		}
	}
	return nil
}
