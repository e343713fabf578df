package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// seeded returns the seed of a test's chances. ETCDKIT_CONFIG_SEED repeats a run's.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("ETCDKIT_CONFIG_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ETCDKIT_CONFIG_SEED: %v", err)
		}
	}
	t.Logf("ETCDKIT_CONFIG_SEED=%d", seed)
	return seed
}

// lasts returns how long something that could go on for ever does: ETCDKIT_CONFIG_SECONDS, or a default.
func lasts(t *testing.T, otherwise time.Duration) time.Duration {
	t.Helper()
	v := os.Getenv("ETCDKIT_CONFIG_SECONDS")
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("ETCDKIT_CONFIG_SECONDS: %q", v)
	}
	return time.Duration(n) * time.Second
}

// pass lets time pass while something is wrong, or while nothing is.
func pass(d time.Duration) { <-time.After(d) }

// documents are the keys of a world. Rollouts are of the first.
var documents = []string{"app/a", "app/b", "app/c"}

// world is a cluster of three, documents that change all the time, processes that follow them, and the truth. Each process has a
// way of its own to each member.
type world struct {
	t       *testing.T
	c       *etcdtest.Cluster
	truth   *chronicle
	readers []*reader

	number  atomic.Int64   // of the newest document
	turns   sync.RWMutex   // documents are written with it read-locked
	writing sync.WaitGroup // the goroutines that write
	rolling atomic.Bool    // the first document is being rolled out, and left alone
	written atomic.Int64
	slowest time.Duration // until all was well again
}

// newWorld starts one. Its etcd is slower than the harness's usual, and twice as fast as production's: on a busy machine leaders
// must change only when a test says so.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, c: etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})}
	oracle := w.c.Oracle(w.c.WaitLeader())
	w.truth = newChronicle(t, oracle)
	for _, key := range documents {
		put(t, oracle, key, w.next(key, "good").text())
	}
	instance := func(id, tier string) config.Options[doc] {
		return config.Options[doc]{Identity: config.Identity{ID: id, Labels: map[string]string{"tier": tier}, TTL: 2 * time.Second}}
	}
	for _, r := range []*reader{
		{name: "plain"},
		{name: "in parts", parts: true},
		{name: "with a copy", opts: config.Options[doc]{CacheDir: t.TempDir()}},
		{name: "canary", opts: instance("canary", "canary")},
		{name: "stable", opts: instance("stable", "stable"), parts: true},
	} {
		r.t, r.links = t, w.c.Links()
		r.cli = r.links.Client()
		r.open()
		t.Cleanup(r.close)
		w.readers = append(w.readers, r)
	}
	w.settles(soon)
	return w
}

// next is a document that was never there before.
func (w *world) next(key, kind string) doc { return doc{N: w.number.Add(1), Of: key, Kind: kind} }

// healthy returns a member that a majority is with. Faults hurt one at a time, and those are over when this is asked.
func (w *world) healthy() int {
	w.t.Helper()
	return w.c.WaitLeader()
}

// write has documents put, good and bad, and deleted, until stop is called.
func (w *world) write(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	for n := range 2 {
		rng, cli := rand.New(rand.NewPCG(seed, uint64(n+1))), w.c.Client()
		w.writing.Go(func() {
			for ctx.Err() == nil {
				w.writeOne(ctx, cli, rng)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(5+rng.IntN(80)) * time.Millisecond):
				}
			}
		})
	}
	return func() { cancel(); w.writing.Wait() }
}

// writeOne makes one change. Whether it has come about is for the chronicle to say.
func (w *world) writeOne(ctx context.Context, cli *clientv3.Client, rng *rand.Rand) {
	w.turns.RLock()
	defer w.turns.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	key := documents[rng.IntN(len(documents))]
	if key == documents[0] && w.rolling.Load() {
		return
	}
	var err error
	switch chance := rng.IntN(100); {
	case chance < 8:
		_, err = cli.Delete(ctx, key)
	case chance < 70:
		_, err = cli.Put(ctx, key, w.next(key, "good").text())
	default:
		_, err = cli.Put(ctx, key, w.bad(key, rng))
	}
	if err == nil {
		w.written.Add(1)
	}
}

// bad is a document that is to be refused, by one or the other.
func (w *world) bad(key string, rng *rand.Rand) string {
	switch d := w.next(key, []string{"bad", "worse", "unwanted"}[rng.IntN(3)]); rng.IntN(8) {
	case 0:
		return d.text()[:len(d.text())/2]
	case 1:
		return strings.Repeat("[", 10_000)
	case 2:
		return "n: 1\nof: \xff"
	case 3:
		return ""
	default:
		return d.text()
	}
}

// quietly does something while nobody writes.
func (w *world) quietly(do func()) {
	w.turns.Lock()
	defer w.turns.Unlock()
	do()
}

// settles pauses the writing, and fails the test unless within the given time all Values are what etcd has, or say what is wrong with
// that, and a while later all instances have reported so.
func (w *world) settles(within time.Duration) {
	w.t.Helper()
	w.quietly(func() {
		there := w.truth.now(w.c.Oracle(w.healthy()))
		var last atomic.Value
		last.Store("")
		defer func() {
			if w.t.Failed() {
				w.t.Log("not well: ", last.Load())
			}
		}()
		ctx, cancel := context.WithCancel(w.t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for err := w.well(there); err != nil && ctx.Err() == nil; err = w.well(there) {
				last.Store(err.Error())
				pass(5 * time.Millisecond)
			}
		}()
		took := etcdtest.Done(w.t, within, "all is well again", done)
		w.slowest = max(w.slowest, took)
		etcdtest.Eventually(w.t, soon, "all is reported", func(ctx context.Context) error {
			resp, err := w.c.Oracle(w.c.Leader()).Get(ctx, "", clientv3.WithPrefix())
			if err != nil {
				return err
			}
			return w.reported(resp.Kvs)
		})
	})
}

// well tells what is not as it should be.
func (w *world) well(there map[string]*mvccpb.KeyValue) error {
	var errs []error
	for _, r := range w.readers {
		for _, f := range r.values {
			errs = append(errs, f.well(there))
		}
	}
	return errors.Join(errs...)
}

// reported tells which instance has not reported what it runs.
func (w *world) reported(kvs []*mvccpb.KeyValue) error {
	there := map[string]config.Report{}
	for _, kv := range kvs {
		if strings.Contains(string(kv.Key), "//report/") {
			var r config.Report
			if err := json.Unmarshal(kv.Value, &r); err != nil {
				return fmt.Errorf("%s: %w", kv.Key, err)
			}
			there[string(kv.Key)] = r
		}
	}
	for _, r := range w.readers {
		if r.opts.Identity.ID == "" {
			continue
		}
		for _, f := range r.values {
			got, is := there[beside(f.key)+"report/"+r.opts.Identity.ID]
			s, refused := f.v.Snapshot(), errors.Is(f.v.Err(), config.ErrRefused)
			if !is || got.Running != s.Revision || refused != (got.State == config.Refused) || !refused && got.Revision != s.Revision {
				return fmt.Errorf("%s runs revision %d and refuses the newest: %t; it reports %+v (%t)", f.name, s.Revision, refused, got, is)
			}
		}
	}
	return nil
}

// judge ends the world and holds everything that was seen against what happened.
func (w *world) judge() {
	w.t.Helper()
	for _, r := range w.readers {
		r.close()
	}
	w.truth.now(w.c.Oracle(w.healthy()))
	truth := w.truth.trial()
	values, told := 0, 0
	for _, r := range w.readers {
		for _, f := range append(r.over, r.values...) {
			f.judge(truth)
			values++
			told += len(f.seen)
		}
	}
	w.t.Logf("%d changes written, %d histories; %d Values were told of %d changes, and right again after %v at the latest",
		w.written.Load(), len(truth.keys), values, told, w.slowest)
}
