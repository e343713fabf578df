package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

const (
	// stormAhead is how many jobs may wait before producers do.
	stormAhead = 20_000

	// stormPatience is how long a push may take, most of the time.
	stormPatience = 20 * time.Second
)

// stormProducer pushes on ways of its own, one push after the other.
type stormProducer struct {
	*storm
	index int
	links etcdtest.Links
	queue *queue.Queue[stormItem]
	rng   *rand.Rand
}

// produce pushes until all jobs are, spread over some time, or ctx ends.
func (p *stormProducer) produce(ctx context.Context, jobs int64, spread time.Duration) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	began := time.Now()
	for ctx.Err() == nil && p.tags.Load() < jobs {
		due := jobs
		if spread > 0 {
			due = int64(float64(jobs) * min(1, float64(time.Since(began))/float64(spread)))
		}
		if at := p.tags.Load(); at >= due || at-p.settled.Load() > stormAhead {
			select {
			case <-look.C:
			case <-ctx.Done():
			}
			continue
		}
		p.push(ctx)
	}
}

// take notes n jobs that are about to be pushed, each after opts was asked.
func (p *stormProducer) take(n int, opts func(tag int) queue.PushOptions) (jobs []queue.Job[stormItem], noted []*modelPush) {
	last := int(p.tags.Add(int64(n)))
	for tag := last - n + 1; tag <= last; tag++ {
		o := opts(tag)
		jobs = append(jobs, queue.Job[stormItem]{Item: stormItem{tag}, PushOptions: o})
		noted = append(noted, p.record.push(modelPush{
			tag: tag, id: o.ID, key: o.Key, effect: stormHasEffect(tag), line: p.index + 1, priority: o.Priority, delayed: o.Delay > 0,
		}))
	}
	return jobs, noted
}

// push pushes once: many alike, many that differ, or one by its name, and that again.
func (p *stormProducer) push(ctx context.Context) {
	patience := stormPatience
	if p.rng.IntN(20) == 0 {
		patience = time.Duration(1+p.rng.IntN(100)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch kind := p.rng.IntN(100); {
	case kind < 75:
		o := queue.PushOptions{Priority: []int{0, 0, 0, 7, -7}[p.rng.IntN(5)]}
		jobs, noted := p.take(100+p.rng.IntN(100), func(int) queue.PushOptions { return o })
		items := make([]stormItem, len(jobs))
		for n, j := range jobs {
			items[n] = j.Item
		}
		ids, err := p.queue.PushMany(ctx, items, &o)
		p.pushed(noted, ids, err)
	case kind < 95:
		jobs, noted := p.take(50, p.mixed)
		ids, err := p.queue.PushJobs(ctx, jobs)
		p.pushed(noted, ids, err)
	default:
		jobs, noted := p.take(1, func(tag int) queue.PushOptions {
			return queue.PushOptions{ID: fmt.Sprintf("own/%d", tag), Key: stormKey(tag)}
		})
		for n := range 2 {
			id, err := p.queue.Push(ctx, jobs[0].Item, &jobs[0].PushOptions)
			if err == nil && id != jobs[0].ID {
				p.t.Errorf("a push of %q returned %q", jobs[0].ID, id)
			}
			if n == 0 || err == nil { // a second push that fails says nothing of the first
				p.pushed(noted, []string{id}, err)
			}
		}
	}
}

// mixed are the options of one among others.
func (p *stormProducer) mixed(tag int) queue.PushOptions {
	var o queue.PushOptions
	if p.rng.IntN(2) == 0 {
		o.Key = stormKey(p.rng.IntN(1000))
	}
	if p.rng.IntN(4) == 0 {
		o.Delay = time.Duration(p.rng.IntN(1000)) * time.Millisecond
	}
	if p.rng.IntN(4) == 0 {
		o.Priority = p.rng.IntN(2*queue.MaxPriority+1) - queue.MaxPriority
	}
	if p.rng.IntN(8) == 0 {
		o.ID = fmt.Sprintf("own/%d", tag)
	}
	return o
}

// pushed notes what came of a push.
func (p *stormProducer) pushed(noted []*modelPush, ids []string, err error) {
	stormPushed(p.record, noted, ids, err)
	if err == nil && len(ids) != len(noted) {
		p.t.Errorf("%d jobs pushed, and %d IDs returned", len(noted), len(ids))
	}
}

// stormPushed notes what came of a push: a failed one says exactly what was written, and what may be.
func stormPushed(r *modelRecorder, noted []*modelPush, ids []string, err error) {
	written, unknown := len(noted), 0
	if err != nil {
		written = 0
		if failed, ok := errors.AsType[*queue.PushError](err); ok {
			written, unknown = failed.Written, failed.Unknown
		}
	}
	for n, note := range noted {
		switch {
		case n < written && n < len(ids):
			r.pushed(note, ids[n], modelAccepted)
		case n < written: // as a single one that was known already; it does not fail otherwise
			r.pushed(note, "", modelAccepted)
		case n < written+unknown:
			r.pushed(note, "", modelUnknown)
		default:
			r.pushed(note, "", modelRefused)
		}
	}
}
