package queue

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// shifts are the workers of this process, and reporters who samples: what the gauges are asked for when metrics are read. They do no I/O.
var (
	shifts    telemetry.Live[*shift]
	reporters telemetry.Live[*reporter]

	_ = scope.Observe("etcdkit.queue.depth", "{job}", "Jobs in the queue, as sampled by who reports it.", observeDepth)
	_ = scope.Observe("etcdkit.queue.oldest_age", "s", "For how long the oldest job waits, as a worker knows it or as sampled.", observeOldest)
	_ = scope.Observe("etcdkit.queue.workers", "{worker}", "Workers, as a worker knows them or as sampled.", observeWorkers)
)

func observeDepth(_ context.Context, put telemetry.Put) {
	for _, s := range samplesNow() {
		for i, n := range []int{s.Waiting, s.Delayed, s.InFlight, s.Dead} {
			put(float64(n), s.states[i])
		}
	}
}

func observeOldest(_ context.Context, put telemetry.Put) {
	observeEach(put,
		func(s *shift) (float64, bool) { age, known := s.oldest(time.Now()); return age.Seconds(), known },
		func(s *sample) float64 { return s.Oldest.Seconds() })
}

func observeWorkers(_ context.Context, put telemetry.Put) {
	observeEach(put,
		func(s *shift) (float64, bool) { n, known := s.peers(); return float64(n), known },
		func(s *sample) float64 { return float64(s.Workers) })
}

// observeEach puts one value a queue: what a worker knows is newer than what was sampled. Of two that know the larger one counts.
func observeEach(put telemetry.Put, knows func(*shift) (float64, bool), sampled func(*sample) float64) {
	values, attrs := map[string]float64{}, map[string]metric.MeasurementOption{}
	for _, s := range shifts.All() {
		if v, known := knows(s); known {
			name := s.measures.name
			values[name], attrs[name] = max(v, values[name]), s.measures.queue
		}
	}
	for _, s := range samplesNow() {
		if attrs[s.name] == nil {
			values[s.name], attrs[s.name] = sampled(s), s.queue
		}
	}
	for name, v := range values {
		put(v, attrs[name])
	}
}

// samplesNow are those that hold.
func samplesNow() (all []*sample) {
	for _, r := range reporters.All() {
		all = append(all, r.current(time.Now())...)
	}
	return all
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
