package follow_test

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// read returns what a prefix holds at a revision, 0 for now, by one plain read.
func read(t testing.TB, oracle *clientv3.Client, prefix string, revision int64) content {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
	defer cancel()
	resp, err := oracle.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		t.Fatalf("the truth about %q at revision %d: %v", prefix, revision, err)
	}
	c := make(content, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		c[string(kv.Key)] = kv
	}
	return c
}

// truth is what happened under a prefix, as a plain watch from the past tells it.
type truth struct {
	from   int64 // the revision that start is of
	start  content
	events []*clientv3.Event // of the revisions after from
}

// learn returns what happened under prefix after revision from and up to revision to, which must be the last at which
// the prefix was written to.
func learn(t testing.TB, oracle *clientv3.Client, prefix string, from, to int64) *truth {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	h := &truth{from: from, start: read(t, oracle, prefix, from)}
	if to <= from {
		return h
	}
	for resp := range oracle.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
		if err := resp.Err(); err != nil {
			t.Fatalf("the truth about %q from %d to %d: %v", prefix, from, to, err)
		}
		h.events = append(h.events, resp.Events...)
		if h.newest() >= to {
			return h
		}
	}
	t.Fatalf("the truth about %q from %d to %d: known to %d only", prefix, from, to, h.newest())
	return nil
}

func (h *truth) newest() int64 {
	if len(h.events) == 0 {
		return h.from
	}
	return h.events[len(h.events)-1].Kv.ModRevision
}

// compare holds every change of a view against the truth: its content is at every step exactly what etcd held at the
// change's revision. While it is live its events are exactly those of the revisions since the last change, each once and
// in order; after an interruption they are the difference.
func (j *judge) compare(t testing.TB, h *truth) {
	t.Helper()
	// What the view holds may be right already while the last events are under way: a key was made and deleted again.
	// If they do not come, that is said below.
	j.comes(soon, func() bool { return j.last.Revision >= h.newest() })
	j.mu.Lock()
	defer j.mu.Unlock()
	want, next := maps.Clone(h.start), 0
	got, last := content{}, h.from
	for _, c := range j.calls {
		if c.change == nil {
			continue
		}
		if c.change.Revision < h.from {
			t.Errorf("a change at revision %d, and the truth is known from %d on", c.change.Revision, h.from)
			return
		}
		var since []*clientv3.Event
		for ; next < len(h.events) && h.events[next].Kv.ModRevision <= c.change.Revision; next++ {
			since = append(since, h.events[next])
			happen(want, h.events[next])
		}
		if j.whole {
			slices.SortStableFunc(since, func(a, b *clientv3.Event) int {
				return cmp.Or(cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision), bytes.Compare(a.Kv.Key, b.Kv.Key))
			})
		}
		for _, ev := range c.change.Events {
			if ev.New == nil {
				delete(got, ev.Key)
			} else {
				got[ev.Key] = ev.New
			}
		}
		if !maps.EqualFunc(got, want, same) {
			t.Errorf("the view at revision %d is not what etcd held:%s", c.change.Revision, difference(got, want))
			return
		}
		if !c.change.Initial && !c.resync && !slices.EqualFunc(c.change.Events, since, tells) {
			t.Errorf("the change at revision %d, after one at %d, has the events\n%v\nand this happened:\n%v",
				c.change.Revision, last, c.change.Events, since)
			return
		}
		last = c.change.Revision
	}
	if next < len(h.events) {
		t.Errorf("the view ends at revision %d with %d of %d events missing", last, len(h.events)-next, len(h.events))
	}
}

// happen applies an event of etcd's to a content.
func happen(c content, ev *clientv3.Event) {
	if ev.Type == mvccpb.Event_DELETE {
		delete(c, string(ev.Kv.Key))
		return
	}
	c[string(ev.Kv.Key)] = ev.Kv
}

// tells reports whether an event of a view is the one that happened.
func tells(ev follow.Event, happened *clientv3.Event) bool {
	if happened.Type == mvccpb.Event_DELETE {
		return ev.Key == string(happened.Kv.Key) && ev.New == nil
	}
	return same(ev.New, happened.Kv)
}

// difference lists the keys in which two contents differ.
func difference(got, want content) string {
	out := ""
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if want[key] == nil {
			out += "\ntoo much: " + got[key].String()
		} else if !same(got[key], want[key]) {
			out += "\nhas " + got[key].String() + " for " + want[key].String()
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] == nil {
			out += "\nmissing: " + want[key].String()
		}
	}
	return out
}

// chronicle is a plain watch from now on of a prefix that is empty yet. It tells the truth sooner than learn does: etcd serves
// a watch from the past every 100 ms only.
type chronicle struct {
	from   int64
	watch  clientv3.WatchChan
	events []*clientv3.Event
}

func newChronicle(t testing.TB, oracle *clientv3.Client, prefix string) *chronicle {
	t.Helper()
	watch := oracle.Watch(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	created, ok := <-watch
	if !ok || created.Err() != nil {
		t.Fatalf("the truth about %q: %v", prefix, created.Err())
	}
	return &chronicle{from: created.Header.GetRevision(), watch: watch}
}

// under returns what has happened under a prefix up to revision to, which must be the last of all changes so far.
func (c *chronicle) under(t testing.TB, prefix string, to int64) *truth {
	t.Helper()
	for len(c.events) == 0 || c.events[len(c.events)-1].Kv.ModRevision < to {
		resp := etcdtest.Receive(t, soon, "the truth about "+prefix, c.watch)
		if err := resp.Err(); err != nil {
			t.Fatalf("the truth about %q: %v", prefix, err)
		}
		c.events = append(c.events, resp.Events...)
	}
	h := &truth{from: c.from, start: content{}}
	for _, ev := range c.events {
		if strings.HasPrefix(string(ev.Kv.Key), prefix) {
			h.events = append(h.events, ev)
		}
	}
	return h
}
