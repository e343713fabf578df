package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/names"
)

const (
	// reportEvery is how often Report counts by default, and reportAtMost how often at most.
	reportEvery  = 15 * time.Second
	reportAtMost = time.Second

	// restShare is how many times as long as its counts take Report rests at least: they are to be a twentieth of one of etcd's processors.
	restShare = 20

	// sampleHolds is for how many intervals a sample is reported that none has followed.
	sampleHolds = 3
)

// ReportOptions of Report. The zero value, and a nil *ReportOptions, mean the defaults.
type ReportOptions struct {
	// Queues are the names of those to report, whether they have any keys or not. Default all that there are, as [Queues] finds
	// them each time.
	Queues []string

	// Every is how often the queues are counted, give or take a tenth. Default 15 s, at least 1 s. Counts that take longer than a
	// twentieth of it are made less often.
	Every time.Duration

	// Logger is told when a queue can no longer be counted, and when it can again. Default none.
	Logger *zap.Logger
}

// Report samples what queues hold, as [Queue.Stats] counts it, for the gauges etcdkit.queue.depth, oldest_age and workers
// of OpenTelemetry, until ctx ends. Reading the metrics costs etcd nothing, however often that is done.
//
// One process of all is enough, and more than one is work for nothing: the leader of an election, say, or one that there is once
// anyway. If several do it each reports the same, and dashboards take the largest, not the sum. Processes that work on a queue report
// its oldest_age and workers by themselves, from what they see anyway.
//
// A queue that is not there any more is not reported any more. One that cannot be counted is reported as it was for three intervals,
// and then not: a gauge that is missing says that nobody knows. None is reported once Report has returned.
//
// It returns nil when ctx ends. An error is of the arguments: etcd's absence is waited for.
func Report(ctx context.Context, client *clientv3.Client, opts *ReportOptions) error {
	r := &reporter{client: client, log: zap.NewNop(), queues: map[string]*sampled{}, failing: map[string]bool{}, samples: map[string]*sample{}}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Every == 0 {
		r.opts.Every = reportEvery
	}
	if r.opts.Logger != nil {
		r.log = r.opts.Logger
	}
	r.holds = sampleHolds * r.opts.Every
	if r.opts.Every < reportAtMost {
		return fmt.Errorf("queue: ReportOptions.Every must be at least %v, but is %v", reportAtMost, r.opts.Every)
	}
	for _, name := range r.opts.Queues {
		if err := names.Path("queue", name); err != nil {
			return fmt.Errorf("queue: ReportOptions.Queues: %w", err)
		}
	}
	reporters.Add(r)
	defer reporters.Remove(r)
	for {
		wait := r.interval(r.sample(ctx))
		// Reporters of several clusters that were started together do not go on counting together.
		if !rest(ctx, wait*9/10+rand.N(wait/5)) {
			return nil
		}
	}
}

// reporter samples queues.
type reporter struct {
	client  *clientv3.Client
	opts    ReportOptions
	log     *zap.Logger
	queues  map[string]*sampled
	failing map[string]bool // by name; "" is the list of all

	mu      sync.Mutex
	samples map[string]*sample // guarded by mu
	holds   time.Duration      // guarded by mu: for how long a sample is reported
}

// interval is how long it is from one sampling to the next, if counting takes so long.
func (r *reporter) interval(took time.Duration) time.Duration {
	return max(r.opts.Every, restShare*took)
}

// sample counts all queues once, and returns how long etcd has taken to: what it did not answer is not a count.
func (r *reporter) sample(ctx context.Context) (took time.Duration) {
	list := r.opts.Queues
	if len(list) == 0 {
		var err error
		list, err = Queues(ctx, r.client)
		if r.noteFailure(ctx, "", err); err != nil {
			return 0
		}
	}
	there := make(map[string]bool, len(list))
	for _, name := range list {
		there[name] = true
		q := r.queues[name]
		if q == nil {
			q = newSampled(name)
			r.queues[name] = q
		}
		began := time.Now()
		stats, inUse, err := count(ctx, r.client, q.keys, began, q.known)
		if r.noteFailure(ctx, name, err); err != nil {
			continue
		}
		q.known = inUse
		took += time.Since(began)
		r.put(&sample{stats, q, time.Now()})
	}
	r.forget(there)
	if took > 0 {
		r.hold(sampleHolds * r.interval(took))
	}
	return took
}

// put has a sample reported.
func (r *reporter) put(s *sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples[s.name] = s
}

// hold has samples reported for so long.
func (r *reporter) hold(holds time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds = holds
}

// forget has queues that are not there not reported any more.
func (r *reporter) forget(there map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.queues {
		if !there[name] {
			delete(r.queues, name)
			delete(r.samples, name)
			delete(r.failing, name)
		}
	}
}

// current are the samples that hold.
func (r *reporter) current(now time.Time) []*sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*sample, 0, len(r.samples))
	for _, s := range r.samples {
		if now.Sub(s.at) < r.holds {
			all = append(all, s)
		}
	}
	return all
}

// noteFailure says when something can no longer be read, and when it can again.
func (r *reporter) noteFailure(ctx context.Context, name string, err error) {
	switch failing := r.failing[name]; {
	case ctx.Err() != nil:
	case err != nil && !failing:
		r.failing[name] = true
		r.log.Warn("not counted", zap.String("queue", name), zap.Error(err))
	case err == nil && failing:
		delete(r.failing, name)
		r.log.Info("counted again", zap.String("queue", name))
	}
}
