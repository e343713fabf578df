package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// told is what a value says of an instance, read without the help of the code under test.
type told struct {
	Addr, Zone, State string
	Weight            int
	lease             int64
}

// says is what an instance says of itself, likewise.
func (o told) says() string { return fmt.Sprintf("%s %s %s %d", o.Addr, o.Zone, o.State, o.Weight) }

// content is the keys of a prefix at one revision, and what they say.
type content map[string]told

// happen applies an event.
func (c content) happen(t testing.TB, ev *clientv3.Event) {
	t.Helper()
	if ev.Type == clientv3.EventTypeDelete {
		delete(c, string(ev.Kv.Key))
		return
	}
	o := told{State: "ready", lease: ev.Kv.Lease}
	if err := json.Unmarshal(ev.Kv.Value, &o); err != nil {
		t.Errorf("%s at revision %d: %v", ev.Kv.Key, ev.Kv.ModRevision, err)
	}
	c[string(ev.Kv.Key)] = o
}

// under is the part below a prefix, by what is left of the keys.
func (c content) under(prefix string) map[string]string {
	part := map[string]string{}
	for key, o := range c {
		if id, is := strings.CutPrefix(key, prefix); is {
			part[id] = o.says()
		}
	}
	return part
}

// beacon is a key beside the services: when the chronicle has seen it written, it has seen all before that.
const beacon = "services/~"

// chronicle is all that has happened to the services, as a plain watch inside a member tells it. It has to be moved to another
// member before its own is hurt.
type chronicle struct {
	t    *testing.T
	stop func()

	mu     sync.Mutex
	events []*clientv3.Event // guarded by mu
	last   int64             // guarded by mu: all up to this revision is known
	grew   chan struct{}     // guarded by mu: closed when last grows
}

// newChronicle begins before anything has happened.
func newChronicle(t *testing.T, oracle *clientv3.Client) *chronicle {
	t.Helper()
	c := &chronicle{t: t, stop: func() {}, last: 1, grew: make(chan struct{})}
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
		for resp := range oracle.Watch(ctx, "services/", clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if err := resp.Err(); err != nil {
				if ctx.Err() == nil {
					c.t.Errorf("the truth from revision %d on: %v", next, err)
				}
				return
			}
			c.take(resp)
		}
	}()
}

func (c *chronicle) take(resp clientv3.WatchResponse) {
	if len(resp.Events) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range resp.Events {
		if string(ev.Kv.Key) != beacon {
			c.events = append(c.events, ev)
		}
	}
	c.last = resp.Events[len(resp.Events)-1].Kv.ModRevision
	close(c.grew)
	c.grew = make(chan struct{})
}

// until returns all that has happened up to a revision that something under the prefix has.
func (c *chronicle) until(revision int64) []*clientv3.Event {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	defer cancel()
	for {
		c.mu.Lock()
		events, last, grew := c.events, c.last, c.grew
		c.mu.Unlock()
		if last >= revision {
			return events
		}
		select {
		case <-grew:
		case <-ctx.Done():
			c.t.Fatalf("the truth is known to revision %d only, and not to %d", last, revision)
		}
	}
}

// now returns what there is, by a linearizable read, and its revision. All that happened before is in the chronicle then.
func (c *chronicle) now(oracle *clientv3.Client) (there content, at int64) {
	c.t.Helper()
	etcdtest.Eventually(c.t, soon, "the truth is told", func(ctx context.Context) (err error) { // a leader may have changed
		there, at, err = c.read(ctx, oracle)
		return err
	})
	c.until(at)
	return there, at
}

func (c *chronicle) read(ctx context.Context, oracle *clientv3.Client) (there content, at int64, err error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := oracle.Put(ctx, beacon, ""); err != nil {
		return nil, 0, err
	}
	resp, err := oracle.Get(ctx, "services/", clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	there = content{}
	for _, kv := range resp.Kvs {
		if string(kv.Key) == beacon {
			at = kv.ModRevision
			continue
		}
		there.happen(c.t, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
	}
	return there, at, nil
}

// differ tells how two contents do, or is empty.
func differ(got, want map[string]string) string {
	if maps.Equal(got, want) {
		return ""
	}
	out := ""
	for id, says := range got {
		if says != want[id] {
			out += fmt.Sprintf("\n  has  %s: %s", id, says)
		}
	}
	for id, says := range want {
		if says != got[id] {
			out += fmt.Sprintf("\n  want %s: %s", id, says)
		}
	}
	return out
}
