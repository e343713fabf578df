package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// known is how old what a Value knows may be while Err is nil: etcd is asked once a second, and what does not answer is left
// after a second and a half, looked at twice a second. The rest is the machine's.
const known = 4 * time.Second

// doc is a document. Each says by its number which one it is.
type doc struct {
	N    int64  `json:"n"`
	Of   string `json:"of"`   // its key
	Kind string `json:"kind"` // what is to be made of it
}

func (d doc) text() string { return fmt.Sprintf(`{"n":%d,"of":%q,"kind":%q}`, d.N, d.Of, d.Kind) }

// good tells whether a document is one, for who has parts that may refuse it or for who has none.
func (d doc) good(parts bool) bool {
	return d.N > 0 && (d.Kind == "good" || d.Kind == "unwanted" && !parts)
}

// judged is Validate of the readers of a key.
func judged(key string) func(doc) error {
	return func(d doc) error {
		switch {
		case d.N <= 0 || d.Of != key:
			return errors.New("it is no document of this key")
		case d.Kind == "bad":
			return errors.New("it is bad")
		case d.Kind == "worse":
			panic("it is worse")
		}
		return nil
	}
}

// reader is a process that follows all keys.
type reader struct {
	t      *testing.T
	name   string
	links  etcdtest.Links
	cli    *clientv3.Client
	opts   config.Options[doc]
	parts  bool // it has some
	values []*followed
	over   []*followed // those of a process before this one
}

// followed is a Value, and all that was seen of it.
type followed struct {
	t     *testing.T
	name  string
	key   string
	tier  string
	parts bool
	v     *config.Value[doc]
	stop  func()

	mu    sync.Mutex
	seen  []config.Snapshot[doc] // guarded by mu: what Changes has yielded
	calm  []calm                 // guarded by mu
	bound [3]doc                 // guarded by mu: what each part of the program runs
}

// calm is a value that Err had nothing to say of, and from when to when it was seen so.
type calm struct {
	config.Snapshot[doc]
	span
}

// open starts the reader's process.
func (r *reader) open() {
	r.t.Helper()
	r.over, r.values = append(r.over, r.values...), nil
	for _, key := range documents {
		opts := r.opts
		opts.Validate = judged(key)
		ctx, cancel := context.WithTimeout(r.t.Context(), soon)
		v, err := config.Open(ctx, r.cli, key, &opts)
		cancel()
		if err != nil {
			r.t.Fatalf("%s: %v", r.name, err)
		}
		f := &followed{t: r.t, name: r.name + " of " + key, key: key, tier: opts.Identity.Labels["tier"], parts: r.parts, v: v}
		f.begin()
		r.values = append(r.values, f)
	}
}

// close ends the reader's process.
func (r *reader) close() {
	for _, f := range r.values {
		f.v.Close()
		f.stop()
	}
}

// begin takes down what is seen of the Value, until stop is called.
func (f *followed) begin() {
	for n := range f.bound {
		if f.parts {
			if _, err := f.v.Bind(f.part(n)); err != nil {
				f.t.Errorf("%s: part %d: %v", f.name, n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	var work sync.WaitGroup
	work.Go(func() {
		for s := range f.v.Changes(ctx) {
			f.mu.Lock()
			f.seen = append(f.seen, s)
			f.mu.Unlock()
		}
	})
	work.Go(func() {
		look := time.NewTicker(5 * time.Millisecond)
		defer look.Stop()
		for ctx.Err() == nil {
			f.look()
			select {
			case <-look.C:
			case <-ctx.Done():
			}
		}
	})
	f.stop = func() { cancel(); work.Wait() }
}

// look takes down what Err and Get say now.
func (f *followed) look() {
	at, s := time.Now(), f.v.Snapshot()
	if !s.Value.good(false) || s.Source == config.Default {
		f.t.Errorf("%s: Get is %+v", f.name, s)
	}
	again := f.v.Snapshot() // which Err is about, if nothing has changed
	if f.v.Err() != nil || again.Source != config.Live || again.Revision != s.Revision || again.Generation != s.Generation {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.calm) - 1; n >= 0 {
		last := &f.calm[n]
		if last.Revision == s.Revision && last.Generation == s.Generation && last.Rollout == s.Rollout && at.Sub(last.to) < known/2 {
			last.to = at
			return
		}
	}
	f.calm = append(f.calm, calm{s, span{at, at}})
}

// part is a subscriber: one of several, which must always run the same document.
func (f *followed) part(n int) func(old, to doc) (commit, abort func(), err error) {
	asked := false
	return func(old, to doc) (commit, abort func(), err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if asked && f.bound[n] != old {
			f.t.Errorf("%s: part %d runs %+v, and is asked to go from %+v to %+v", f.name, n, f.bound[n], old, to)
		}
		if n > 0 && f.bound[n] != f.bound[n-1] && asked {
			f.t.Errorf("%s: part %d runs %+v, part %d runs %+v", f.name, n-1, f.bound[n-1], n, f.bound[n])
		}
		if n == len(f.bound)-1 && to.Kind == "unwanted" {
			return nil, nil, errors.New("it is unwanted")
		}
		asked = true
		pending := true
		return func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				if now := f.v.Get(); now != to || !pending {
					f.t.Errorf("%s: part %d is to run %+v (still: %t), and Get is %+v", f.name, n, to, pending, now)
				}
				f.bound[n], pending = to, false
			}, func() {
				if !pending {
					f.t.Errorf("%s: part %d is told twice what becomes of %+v", f.name, n, to)
				}
				pending = false
			}, nil
	}
}

// well tells in what the Value differs from what there is.
func (f *followed) well(there map[string]*mvccpb.KeyValue) error {
	err, s, kv := f.v.Err(), f.v.Snapshot(), there[f.key]
	if errors.Is(err, config.ErrNotCurrent) {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	switch {
	case kv == nil:
		if !errors.Is(err, config.ErrAbsent) {
			return fmt.Errorf("%s: it is deleted, and at revision %d Err is: %w", f.name, s.Revision, err)
		}
	case !docOf(kv.Value).good(f.parts):
		if !errors.Is(err, config.ErrRefused) || !strings.Contains(err.Error(), fmt.Sprintf("at revision %d:", kv.ModRevision)) {
			return fmt.Errorf("%s: revision %d is bad, and at revision %d Err is: %w", f.name, kv.ModRevision, s.Revision, err)
		}
	case err != nil || s.Source != config.Live || s.Revision != kv.ModRevision || s.Value != docOf(kv.Value):
		return fmt.Errorf("%s: it is at revision %d, generation %d, rollout %q, %s, and etcd at %d: %w",
			f.name, s.Revision, s.Generation, s.Rollout, s.Source, kv.ModRevision, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, d := range f.bound {
		if f.parts && d != s.Value {
			return fmt.Errorf("%s: part %d runs %+v and not %+v", f.name, n, d, s.Value)
		}
	}
	return nil
}

// judge holds all that was seen against what happened.
func (f *followed) judge(truth *trial) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	history := 0
	for n, s := range f.seen {
		of := f.key
		if s.Rollout != "" {
			of = beside(f.key) + "rollout/value"
			if f.tier != "canary" {
				f.t.Errorf("%s: it is not in rollout %s, and ran %+v", f.name, s.Rollout, s.Value)
			}
		}
		h, _ := truth.find(history, of, s.Revision, s.Value)
		switch {
		case !s.Value.good(f.parts):
			f.t.Errorf("%s: a bad document is told of: %+v", f.name, s)
		case h < 0:
			f.t.Errorf("%s: %+v was not there in history %d or later", f.name, s, history)
		case s.Generation >= int64(len(truth.keys)):
			f.t.Errorf("%s: generation %d of %d histories", f.name, s.Generation, len(truth.keys))
		default:
			history = h
		}
		if n == 0 {
			continue
		}
		last := f.seen[n-1]
		if s.Generation < last.Generation || s.Generation == last.Generation && s.Rollout == last.Rollout && s.Revision <= last.Revision {
			f.t.Errorf("%s: revision %d of generation %d came after %d of %d", f.name, s.Revision, s.Generation, last.Revision, last.Generation)
		}
	}
	for _, c := range f.calm {
		if c.Rollout != "" {
			continue
		}
		spans := truth.spans(f.key, c.Revision, c.Value)
		if !slices.ContainsFunc(spans, func(s span) bool { return c.to.Sub(s.to) < known && s.from.Sub(c.from) < known }) {
			f.t.Errorf("%s: Err was nil at revision %d, generation %d, from %v to %v, and that was there %v", f.name, c.Revision, c.Generation, c.from, c.to, spans)
		}
	}
}
