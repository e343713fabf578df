package config_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// beacon is a key beside the documents: when the chronicle has seen it written, it has seen all before that.
const beacon = "~"

// chronicle is all that has happened to all keys, as a plain watch inside a member tells it. It has to be moved to another member
// before its own is hurt.
type chronicle struct {
	t    *testing.T
	stop func()

	mu        sync.Mutex
	histories []*history    // guarded by mu: one, and one more for each backup that was restored
	last      int64         // guarded by mu: of the newest history all up to this revision is known
	grew      chan struct{} // guarded by mu: closed when last grows
}

// history is what happened between two restored backups.
type history struct {
	since  time.Time
	events []happened // in order; what a backup held comes first, as if it were put again
}

// happened is an event, and when it was seen inside the member.
type happened struct {
	*clientv3.Event
	at time.Time
}

// newChronicle begins before anything has happened.
func newChronicle(t *testing.T, oracle *clientv3.Client) *chronicle {
	t.Helper()
	c := &chronicle{t: t, stop: func() {}, last: 1, grew: make(chan struct{}), histories: []*history{{since: time.Now()}}}
	t.Cleanup(func() { c.stop() })
	c.from(oracle)
	return c
}

// from goes on at another member.
func (c *chronicle) from(oracle *clientv3.Client) {
	c.stop()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	done := make(chan struct{})
	c.stop = func() { cancel(); <-done }
	c.mu.Lock()
	next := c.last + 1
	c.mu.Unlock()
	go func() {
		defer close(done)
		for resp := range oracle.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if err := resp.Err(); err != nil {
				if ctx.Err() == nil {
					c.t.Errorf("the truth from revision %d on: %v", next, err)
				}
				return
			}
			c.take(resp.Events)
		}
	}()
}

func (c *chronicle) take(events []*clientv3.Event) {
	if len(events) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.histories[len(c.histories)-1]
	for _, ev := range events {
		if string(ev.Kv.Key) != beacon {
			h.events = append(h.events, happened{ev, time.Now()})
		}
	}
	c.last = events[len(events)-1].Kv.ModRevision
	close(c.grew)
	c.grew = make(chan struct{})
}

// restored begins another history with what there is. The chronicle was stopped before.
func (c *chronicle) restored(oracle *clientv3.Client) {
	c.t.Helper()
	there, at := c.read(oracle, soon)
	h := &history{since: time.Now()}
	for _, kv := range there {
		h.events = append(h.events, happened{&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, h.since})
	}
	slices.SortFunc(h.events, func(a, b happened) int { return int(a.Kv.ModRevision - b.Kv.ModRevision) })
	c.mu.Lock()
	c.histories, c.last = append(c.histories, h), at
	c.mu.Unlock()
	c.from(oracle)
}

// now returns what there is, by a linearizable read. All that happened before is in the chronicle then.
func (c *chronicle) now(oracle *clientv3.Client) map[string]*mvccpb.KeyValue {
	c.t.Helper()
	there, at := c.read(oracle, soon)
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	defer cancel()
	for {
		c.mu.Lock()
		last, grew := c.last, c.grew
		c.mu.Unlock()
		if last >= at {
			return there
		}
		select {
		case <-grew:
		case <-ctx.Done():
			c.t.Fatalf("the truth is known to revision %d only, and not to %d", last, at)
		}
	}
}

// read returns all keys, and the revision of a beacon that was put just before.
func (c *chronicle) read(oracle *clientv3.Client, within time.Duration) (there map[string]*mvccpb.KeyValue, at int64) {
	c.t.Helper()
	etcdtest.Eventually(c.t, within, "the truth is told", func(ctx context.Context) error { // a leader may have changed
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if _, err := oracle.Put(ctx, beacon, ""); err != nil {
			return err
		}
		resp, err := oracle.Get(ctx, "", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		there = map[string]*mvccpb.KeyValue{}
		for _, kv := range resp.Kvs {
			there[string(kv.Key)] = kv
		}
		at = there[beacon].ModRevision
		delete(there, beacon)
		return nil
	})
	return there, at
}

// trial is the truth, by key, when everything is over.
type trial struct {
	since []time.Time
	keys  []map[string][]happened // by history
}

// trial ends the chronicle.
func (c *chronicle) trial() *trial {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &trial{}
	for _, h := range c.histories {
		of := map[string][]happened{}
		for _, e := range h.events {
			of[string(e.Kv.Key)] = append(of[string(e.Kv.Key)], e)
		}
		r.since, r.keys = append(r.since, h.since), append(r.keys, of)
	}
	return r
}

// find returns the first history, from one on, in which a key held a document at a revision, and where in it; or -1.
func (r *trial) find(from int, key string, revision int64, d doc) (in, at int) {
	for h := from; h < len(r.keys); h++ {
		for n, e := range r.keys[h][key] {
			if e.Kv.ModRevision == revision && e.Type == clientv3.EventTypePut && docOf(e.Kv.Value) == d {
				return h, n
			}
		}
	}
	return -1, -1
}

// span is a time in which a key held a document; also if backups were restored meanwhile that held it too.
type span struct{ from, to time.Time }

// spans returns the times in which a key held a document of a revision, in order. Those between which there was less time than
// it may take to notice are one.
func (r *trial) spans(key string, revision int64, d doc) (all []span) {
	for h := 0; h < len(r.keys); h++ {
		in, n := r.find(h, key, revision, d)
		if in < 0 {
			break
		}
		h = in
		s := span{from: r.keys[h][key][n].at, to: time.Now()}
		switch events := r.keys[h][key]; {
		case n+1 < len(events):
			s.to = events[n+1].at
		case h+1 < len(r.keys):
			s.to = r.since[h+1]
		}
		if last := len(all) - 1; last >= 0 && s.from.Sub(all[last].to) < known {
			all[last].to = s.to
			continue
		}
		all = append(all, s)
	}
	return all
}

// docOf reads a document without the help of the code under test.
func docOf(text []byte) (d doc) {
	if json.Unmarshal(text, &d) != nil {
		return doc{}
	}
	return d
}
