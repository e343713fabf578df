package registry

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// published is what readers of a view get.
type published struct {
	Snapshot       // SyncedAt is filled in when somebody looks, if it was read
	read     bool  // it was: a list of etcd's was taken in
	skipped  error // names the malformed instances; nil if there are none
}

// roster observes the keys of a service and publishes its instances.
//
//	follower ── Changed ──► edits ──► held back? ──► merged ──► published: Snapshot, Changes
//	                                   ▲    │                        └──► feeds: Diffs
//	                        mind: confirmed, deleted, too old
type roster struct {
	client *clientv3.Client
	name   string
	prefix string
	chain  decoders
	log    *zap.Logger
	life   context.Context

	cell *latest.Cell[published]
	wake chan struct{} // holds a token when mind has something to look at

	mu     sync.Mutex    // guards what is below
	next   published     // with all that was taken in
	source Source        // 0 before the first list
	live   chan struct{} // closed while source is Live
	behind bool          // next is not published yet
	bad    malformed
	holds  holds
	steps  []step // since the last publication, if there are feeds
	feeds  map[*feed]struct{}
}

func newRoster(life context.Context, key serviceKey, chain decoders) *roster {
	return &roster{
		client: key.client,
		name:   key.name,
		prefix: key.prefix,
		chain:  chain,
		log:    key.logger.With(zap.String("service", key.name)),
		life:   life,
		cell:   latest.New(published{}),
		live:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
		bad:    malformed{why: map[string]error{}},
		holds:  newHolds(key.hold, key.holdFor),
		feeds:  map[*feed]struct{}{},
	}
}

// edit is what became of one instance.
type edit struct {
	id     string
	before *Instance // as it was listed; nil if it was not
	after  *Instance // as it is now; nil if it is to be listed no more

	// Of one that is gone.
	lost  bool  // it did not say goodbye, and its key is not there
	left  bool  // it did
	lease int64 // that its key hung on
}

// Changed takes in a step of the follower. While the roster is not live the next call is Live or Stale, and that
// publishes: so readers see what was missed in one step with its end.
func (r *roster) Changed(c follow.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edits := r.edits(c)
	r.behind = r.behind || c.Initial || c.Generation != r.next.Generation
	r.next.Revision, r.next.Generation = c.Revision, c.Generation
	r.next.read = true
	r.apply(r.holds.keep(edits, len(r.next.Instances), time.Now()))
	if r.holds.waiting() {
		r.nudge()
	}
	if r.source == Live && r.behind {
		r.publish()
	}
}

// apply makes edits.
func (r *roster) apply(edits []edit) {
	if len(edits) > 0 {
		r.next.Instances = merge(r.next.Instances, edits)
		r.behind = true
	}
	if r.holds.changed {
		r.next.Held, r.holds.changed = r.holds.list(), false
		r.behind = true
	}
	if r.bad.changed {
		r.next.skipped, r.bad.changed = r.bad.err(), false
		r.behind = true
	}
	if len(r.feeds) > 0 {
		for _, e := range edits {
			r.steps = append(r.steps, step(e))
		}
	}
}

// Live publishes what was missed.
func (r *roster) Live() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source == Stale || r.source == Disk {
		r.log.Info("instances are live again", zap.Int("instances", len(r.next.Instances)))
	}
	r.become(Live)
}

// Stale keeps the last instances known, and says that they are.
func (r *roster) Stale(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.next.read {
		return // nothing of etcd's is known yet
	}
	if r.source != Stale {
		r.log.Warn("instances are stale", zap.Error(err), zap.Int("instances", len(r.next.Instances)))
	}
	r.become(Stale)
}

func (r *roster) become(s Source) {
	if r.source == s && !r.behind {
		return
	}
	before := r.source
	r.source = s
	r.publish()
	switch { // after that, so that whoever waits finds the list
	case s == Live && before != Live:
		close(r.live)
	case s != Live && before == Live:
		r.live = make(chan struct{})
	}
}

// whenLive returns a channel that is closed when the list is live.
func (r *roster) whenLive() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

func (r *roster) publish() {
	r.behind = false
	r.next.Source = r.source
	r.cell.Set(r.next)
	for f := range r.feeds {
		f.take(r.steps)
	}
	r.steps = nil
}

// known reports whether there is a list.
func (r *roster) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source != 0
}

// startFrom publishes an old list, if it is not empty and there is none so far. It reports whether there is one then.
func (r *roster) startFrom(list []*Instance, source Source, revision int64, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source != 0 {
		return true
	}
	if len(list) == 0 || r.next.read { // what was read is about to be live
		return false
	}
	r.log.Warn("etcd cannot be asked: instances are from before", zap.Stringer("source", source), zap.Int("instances", len(list)))
	r.next.Instances, r.next.Revision, r.next.SyncedAt = list, revision, at
	r.become(source)
	return true
}

// nudge has mind look again.
func (r *roster) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// decodeAll is the list that keys make. What is malformed is left out, and reported when the view is live.
func (r *roster) decodeAll(kvs []*mvccpb.KeyValue) (list []*Instance) {
	r.mu.Lock() // decoders are asked by one at a time
	defer r.mu.Unlock()
	for _, kv := range kvs {
		if id := string(kv.Key[len(r.prefix):]); !strings.Contains(id, "/") {
			if i, err := r.chain.decode(r.name, id, kv.Value); err == nil {
				list = append(list, i)
			}
		}
	}
	return list
}

// edits decodes what changed: the newest state of each instance, ordered by ID.
func (r *roster) edits(c follow.Change) []edit {
	newest := make([]follow.Event, 0, len(c.Events))
	for _, ev := range c.Events {
		if !strings.Contains(ev.Key[len(r.prefix):], "/") { // else an instance of a service further below
			newest = append(newest, ev)
		}
	}
	// Stable, so that of several events of one key the last one stays the last.
	slices.SortStableFunc(newest, func(a, b follow.Event) int { return cmp.Compare(a.Key, b.Key) })
	edits := make([]edit, 0, len(newest))
	for i, ev := range newest {
		if i+1 < len(newest) && newest[i+1].Key == ev.Key {
			continue
		}
		if e, changed := r.edit(ev); changed {
			edits = append(edits, e)
		}
	}
	if c.Initial && len(r.next.Instances) > 0 {
		edits = replaced(r.next.Instances, edits)
	}
	return edits
}

// replaced adds to the edits of a first list, ordered by ID, those that take away whoever was in the old list and is not in it.
func replaced(list []*Instance, edits []edit) []edit {
	for _, i := range list {
		if _, there := slices.BinarySearchFunc(edits, i.ID, func(e edit, id string) int { return cmp.Compare(e.id, id) }); !there {
			edits = append(edits, edit{id: i.ID, before: i})
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.id, b.id) })
	return edits
}

// edit decodes what became of one instance, and reports whether that changes the list. It does not if only the lease is
// another one.
func (r *roster) edit(ev follow.Event) (edit, bool) {
	e := edit{id: ev.Key[len(r.prefix):]}
	e.before = find(r.next.Instances, e.id)
	if ev.New == nil {
		r.bad.remove(e.id)
		if ev.Old != nil {
			e.lease = ev.Old.Lease
			last, err := r.chain.decode(r.name, e.id, ev.Old.Value)
			e.left = err == nil && last.State == Draining
		}
		e.lost = !e.left && e.before != nil
		return e, e.before != nil
	}
	if e.before != nil && ev.Old != nil && bytes.Equal(ev.Old.Value, ev.New.Value) && !r.holds.has(e.id) {
		return e, false
	}
	r.bad.remove(e.id)
	var err error
	if e.after, err = r.chain.decode(r.name, e.id, ev.New.Value); err != nil {
		r.bad.add(e.id, err)
		r.log.Warn("instance skipped", zap.Error(skipped(e.id, err)))
	}
	if e.before != nil && e.after != nil && e.before.Equal(e.after) {
		e.after = e.before // held, it is back; or it is what it was in another form, or in another history
	}
	return e, e.before != nil || e.after != nil
}
