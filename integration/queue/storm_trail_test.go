package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// stormLost says that a call found its claim lost, and nothing in doubt.
func stormLost(err error) bool {
	return errors.Is(err, fence.ErrLost) && !errors.Is(err, queue.ErrUnknown)
}

// stormTrail writes down all that etcd does under a queue's root.
type stormTrail struct {
	t      *testing.T
	client *clientv3.Client // on no way that is hurt
	root   string
	seen   atomic.Int64 // revision up to which all is known
	done   chan struct{}
	cancel context.CancelFunc

	changes []modelChange // after done
}

func newStormTrail(t *testing.T, cli *clientv3.Client, root string) *stormTrail {
	tr := &stormTrail{t: t, client: cli, root: root, done: make(chan struct{})}
	var ctx context.Context
	ctx, tr.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	// From now on, and no earlier revision: etcd tells those up to 100 ms later, when they may be compacted.
	began := make(chan struct{})
	go func() {
		defer close(tr.done)
		for resp := range cli.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
			if resp.Created {
				close(began)
				continue
			}
			if err := resp.Err(); err != nil {
				if ctx.Err() == nil {
					t.Errorf("the trail: %v", err)
				}
				return
			}
			for _, ev := range resp.Events {
				tr.changes = append(tr.changes, modelChange{
					revision: ev.Kv.ModRevision, key: string(ev.Kv.Key[len(root):]), put: ev.Type == clientv3.EventTypePut,
					created: ev.Kv.CreateRevision, value: string(ev.Kv.Value),
				})
				tr.seen.Store(ev.Kv.ModRevision)
			}
		}
	}()
	t.Cleanup(tr.stop)
	etcdtest.Done(t, 30*time.Second, "the trail's watch", began)
	return tr
}

func (tr *stormTrail) stop() { tr.cancel(); <-tr.done }

// upTo returns all changes up to now.
func (tr *stormTrail) upTo(revision int64) []modelChange {
	tr.t.Helper()
	up := time.NewTimer(30 * time.Second)
	defer up.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for tr.seen.Load() < revision {
		select {
		case <-look.C:
		case <-up.C:
			tr.t.Fatalf("the trail ends at revision %d, and not at %d", tr.seen.Load(), revision)
		}
	}
	tr.stop()
	return tr.changes
}

// stormStrangers are the workers that somebody else has ended, who could not know before others did.
type stormStrangers struct {
	mu    sync.Mutex
	ended map[string]bool // guarded by mu: by worker
}

func (s *stormStrangers) end(worker string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = map[string]bool{}
	}
	s.ended[worker] = true
}

// judge holds everything that was seen against what is promised. Nobody may be at it any more.
func (s *storm) judge() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	oracle := s.cluster.Oracle(s.cluster.WaitLeader())
	h := s.record.history()
	stormRemains(ctx, s.t, oracle, s.root, &h)
	s.fates(h)
	s.effects(ctx, oracle, &h)

	// What the trail has seen when it sees this it has seen all.
	mark, err := oracle.Put(ctx, s.root+"~", "")
	if err != nil {
		s.t.Fatal(err)
	}
	m := newModelTrail()
	m.takeAll(s.trail.upTo(mark.Header.Revision))
	for token, claims := range m.all {
		for _, c := range claims {
			if s.strangers.ended[c.value] {
				h.tampered[token] = true
			}
		}
	}
	h.first = m.first
	found := append(modelCheck(h), m.judge(h)...)
	for n, v := range found {
		if n == 30 {
			s.t.Errorf("and %d more", len(found)-n)
			break
		}
		s.t.Errorf("%v", v)
	}
	s.summarize(h, m)
}

// stormRemains looks at what is left of a queue at whose end there are its dead letters alone, and for a time the IDs that were seen and the slots.
func stormRemains(ctx context.Context, t *testing.T, oracle *clientv3.Client, root string, h *modelHistory) {
	t.Helper()
	resp, err := oracle.Get(ctx, root, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		key := string(kv.Key[len(root):])
		switch kind, rest := modelKind(key); {
		case kind == "dead":
			h.dead[modelTag(kv.Value)] = append(h.dead[modelTag(kv.Value)], rest)
		case kind == "job":
			h.left[modelTag(kv.Value)] = append(h.left[modelTag(kv.Value)], modelID(string(kv.Value), rest))
			t.Errorf("left behind: %s", key)
		case (strings.HasPrefix(key, "seen/") || strings.HasPrefix(key, "pushed/")) && kv.Lease != 0:
		default:
			t.Errorf("left behind: %s = %q", key, kv.Value)
		}
	}
}

// fates asks whether those jobs are dead that cannot be done.
func (s *storm) fates(h modelHistory) {
	s.t.Helper()
	for _, p := range h.pushes {
		meant := stormIsPoison(p.tag) || stormIsPermanent(p.tag)
		if _, dead := h.dead[p.tag]; meant && !dead && p.outcome == modelAccepted {
			s.t.Errorf("job %d always fails, and is not among the dead letters", p.tag)
		}
	}
}

// effects reads those of acknowledgements.
func (s *storm) effects(ctx context.Context, oracle *clientv3.Client, h *modelHistory) {
	s.t.Helper()
	resp, err := oracle.Get(ctx, stormEffects, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		tag, token, _ := strings.Cut(string(kv.Key[len(stormEffects):]), "/")
		n, err := strconv.Atoi(tag)
		if err != nil {
			s.t.Fatal(err)
		}
		rev, err := strconv.ParseInt(token, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		h.effects.tokens[n] = append(h.effects.tokens[n], rev)
	}
	if resp, err = oracle.Get(ctx, stormCount); err != nil {
		s.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		h.effects.count = int(kv.Version) // how often it was put
	}
}

// summarize tells what was seen, and fails the test if that proves little.
func (s *storm) summarize(h modelHistory, m *modelTrail) {
	s.t.Helper()
	count := map[string]int{}
	for _, p := range h.pushes {
		count["pushes "+p.outcome.String()]++
	}
	innocent := 0
	for tag := range h.dead {
		if !stormIsPoison(tag) && !stormIsPermanent(tag) {
			innocent++
		}
	}
	for _, d := range h.deliveries {
		count["deliveries"]++
		if d.attempt > 1 {
			count["redeliveries"]++
		}
		if d.end == modelKept {
			count["lost before their end"]++
		}
		if d.outcome == modelRefused {
			count["refused"]++
		}
	}
	for _, claims := range m.all {
		count["claims"] += len(claims)
		for _, c := range claims {
			if c.fate == modelRobbed {
				count["robbed"]++
			}
		}
	}
	count["effects"], count["dead"], count["dead for faults alone"], count["tampered with"] = h.effects.count, len(h.dead), innocent, len(h.tampered)
	count["workers killed"] = s.numbers - stormWorkers
	for _, sleeps := range h.sleeps {
		count["workers frozen"] += len(sleeps)
	}
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "%s: %d; ", what, count[what])
	}
	s.t.Log(b.String())
	if innocent > len(h.pushes)/1000 {
		s.t.Errorf("%d jobs are dead letters only because their workers were lost", innocent)
	}
	if count["refused"]+count["robbed"] == 0 || h.effects.count == 0 || count["pushes accepted"] == 0 {
		s.t.Error("nothing was lost, or had an effect: this was no storm")
	}
}
