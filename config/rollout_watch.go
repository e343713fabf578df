package config

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// news is one thing that a follower told.
type news struct {
	key    bool           // of the configuration key, and not of the rollout and its reports
	change *follow.Change // or nil
	cut    error          // why it is not followed any more, if there is no change; nil if it is followed again
}

// inbox holds what followers told until it is looked at: nothing is left out, since a goodbye is soon followed by a deletion.
type inbox struct {
	signal chan struct{} // holds one when there is something

	mu   sync.Mutex
	told []news // guarded by mu
}

func newInbox() *inbox { return &inbox{signal: make(chan struct{}, 1)} }

func (i *inbox) put(n news) {
	i.mu.Lock()
	i.told = append(i.told, n)
	i.mu.Unlock()
	i.poke()
}

// poke has the inbox looked at though nothing was told.
func (i *inbox) poke() {
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

func (i *inbox) take() []news {
	i.mu.Lock()
	defer i.mu.Unlock()
	told := i.told
	i.told = nil
	return told
}

// teller is an inbox as the observer of one view.
type teller struct {
	*inbox
	key bool
}

// Changed takes in a step of the view.
func (e teller) Changed(c follow.Change) { e.put(news{key: e.key, change: &c}) }

// Stale takes in that the view is not followed.
func (e teller) Stale(err error) { e.put(news{key: e.key, cut: err}) }

// Live takes in that it is.
func (e teller) Live() { e.put(news{key: e.key}) }

// lookout keeps an outlook on a rollout up to date, by two followers: of the key, and of the rollout together with the reports, so that
// these are seen in one order. Its goroutine is the caller's of look.
type lookout struct {
	client *clientv3.Client
	layout layout
	*inbox
	outlook *outlook

	since      int64 // the rollout is known to stand at this revision at least: a view that others opened may be behind
	read       bool  // the rollout and its reports are known
	missed     bool  // they were not followed since what is known of them
	generation int64
	cut        map[bool]error // by news.key
}

func newLookout(client *clientv3.Client, l layout, id string, since int64) *lookout {
	return &lookout{
		client: client, layout: l, since: since,
		inbox: newInbox(), outlook: newOutlook(l.key, id), cut: map[bool]error{},
	}
}

// look calls turn when something is new, when it was poked, and at the time that turn asked for last, until turn says that it is enough
// or ctx ends.
func (o *lookout) look(ctx context.Context, turn func(now time.Time) (again time.Time, enough bool, err error)) error {
	rollout := follow.Attach(o.client, follow.Prefix(o.layout.rolloutAndReports()).For(follow.Config), teller{o.inbox, false})
	defer rollout.Close()
	key := follow.Attach(o.client, follow.Keys(o.layout.key).For(follow.Config), teller{o.inbox, true})
	defer key.Close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-o.signal:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, n := range o.take() {
			if err := o.hear(ctx, n); err != nil {
				return err
			}
		}
		if !o.read || o.outlook.revision < o.since {
			continue
		}
		now := time.Now()
		again, enough, err := turn(now)
		if enough || err != nil {
			return err
		}
		if again.IsZero() {
			again = now.Add(time.Hour)
		}
		timer.Reset(time.Until(again))
	}
}

// hear takes in one piece of news.
func (o *lookout) hear(ctx context.Context, n news) error {
	switch {
	case n.change == nil:
		o.cut[n.key] = n.cut
		if n.cut != nil && !n.key {
			o.missed = true
		}
		o.outlook.cut = o.cut[false]
		if o.outlook.cut == nil {
			o.outlook.cut = o.cut[true]
		}
	case n.key:
		if n.change.Initial && len(n.change.Events) == 0 {
			o.outlook.sawKey(0)
		}
		for _, ev := range n.change.Events {
			o.outlook.sawKey(modRevision(ev.New))
		}
	default:
		return o.changed(ctx, n.change)
	}
	return nil
}

// changed takes in a step of the rollout and its reports; what was missed before it is read first.
func (o *lookout) changed(ctx context.Context, c *follow.Change) error {
	now := time.Now()
	switch {
	case c.Initial:
		o.read, o.generation = true, c.Generation
		o.initial(c, now)
		if err := o.catchUp(ctx, o.layout.reports(), o.seen()+1, c.Revision); err != nil {
			return err
		}
	case c.Generation != o.generation:
		// Of another past nothing is known but what is there: also whether the rollout ever stood where it did.
		o.generation, o.since = c.Generation, 0
		o.outlook.planAt, o.outlook.reports = 0, map[string]Report{}
		o.initial(c, now)
	case o.missed:
		if err := o.catchUp(ctx, o.layout.rolloutAndReports(), o.outlook.revision+1, c.Revision); err != nil {
			return err
		}
	}
	o.missed = false
	for _, ev := range c.Events {
		o.event(ev.Key, ev.New, nil, now)
	}
	if c.Initial {
		o.outlook.settle()
	}
	o.outlook.revision = c.Revision
	return nil
}

// initial takes in the rollout itself, and leaves the reports for later.
func (o *lookout) initial(c *follow.Change, now time.Time) {
	for _, ev := range c.Events {
		if strings.HasPrefix(ev.Key, o.layout.rollout()) {
			o.event(ev.Key, ev.New, nil, now)
		}
	}
}

// seen is the revision up to which reports are accounted for in the rollout's record; without one nothing is missing.
func (o *lookout) seen() int64 {
	if o.outlook.over() {
		return math.MaxInt64 - 1
	}
	return o.outlook.plan.Seen
}

// catchUp takes in what happened while nobody looked. What etcd has compacted is made out by what is there and what is not.
func (o *lookout) catchUp(ctx context.Context, prefix string, first, last int64) error {
	events, err := past(ctx, o.client, prefix, first, last)
	if err != nil && err != errPastGone { //nolint:errorlint // the very error
		return err
	}
	now := time.Now()
	for _, ev := range events {
		if gone(ev) {
			o.event(string(ev.Kv.Key), nil, ev.PrevKv, now)
		} else {
			o.event(string(ev.Kv.Key), ev.Kv, ev.PrevKv, now)
		}
	}
	return nil
}

// event takes in one key's step. What was there before is needed only where it may not have been seen.
func (o *lookout) event(key string, entry, before *follow.Entry, now time.Time) {
	d := o.outlook
	switch {
	case key == o.layout.plan() && entry == nil:
		d.lostPlan()
	case key == o.layout.plan():
		if p, err := decodeRecord(entry.Value); err == nil {
			d.sawPlan(p, entry.ModRevision, now)
		} else {
			d.lostPlan()
		}
	case key == o.layout.candidate() && entry == nil:
		d.sawCandidate(nil, 0)
	case key == o.layout.candidate():
		d.sawCandidate(entry.Value, entry.ModRevision)
	case strings.HasPrefix(key, o.layout.reports()):
		id := o.layout.reporter(key)
		var known *Report
		if before != nil {
			r := readReport(id, before)
			known = &r
		}
		if entry == nil {
			d.sawGone(id, known)
		} else {
			d.sawReport(readReport(id, entry), known, now)
		}
	}
}

// readReport reads a report. One that is malformed says nothing but that somebody is there.
func readReport(id string, entry *follow.Entry) Report {
	r, err := decodeReport(id, entry.Value, entry.ModRevision)
	if err != nil {
		return Report{Instance: id, seen: entry.ModRevision}
	}
	return r
}

// modRevision is that of an entry, or 0 if there is none.
func modRevision(entry *follow.Entry) int64 {
	if entry == nil {
		return 0
	}
	return entry.ModRevision
}
