package config

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// EditKind says what a change did.
type EditKind string

const (
	// KeyCreated is a key that did not exist before.
	KeyCreated EditKind = "created"

	// KeyChanged is a key that was written again.
	KeyChanged EditKind = "changed"

	// KeyRemoved is a key that was deleted.
	KeyRemoved EditKind = "removed"
)

// Edit is a change of a key.
type Edit struct {
	Kind     EditKind
	Key      string
	Value    []byte // nil if the key was removed
	Revision int64  // of the change
	Writes   int64  // how often the key was written since it was created, as etcd counts; 0 if it was removed
}

// Watch yields every change below a prefix from a revision on, in order, each once; 0 is from now on. The empty prefix is the
// environment. It goes on over disconnects, and ends when ctx does, or the loop. If changes cannot be had any more as etcd was
// compacted, it yields a *[CompactedError] last; any other error, as etcd's refusal, ends it too.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) iter.Seq2[Edit, error] {
	return func(yield func(Edit, error) bool) {
		below, err := s.prefix(prefix)
		if err == nil && from < 0 {
			err = errors.New("config: a revision must be positive, or 0 for now")
		}
		if err != nil {
			yield(Edit{}, err)
			return
		}
		ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		w := watching{client: s.client, below: below, next: from, yield: yield}
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) && ctx.Err() == nil {
			yield(Edit{}, err)
		}
	}
}

var (
	// errStopped says that nobody wants to hear more.
	errStopped = errors.New("config: stopped")

	errReplaced = errors.New("config: etcd's history was replaced by an older one, as by a restored backup")
)

// Waits between watches that end: longer and longer while nothing comes of them.
const (
	firstRewatch = 100 * time.Millisecond
	lastRewatch  = 5 * time.Second
)

// A watch that goes on after a backup was restored is told nothing of that: it waits for revisions that are to come again. So every lookEvery
// it is looked, for as long as lookFor at most, how far etcd's history goes.
const (
	lookEvery = 5 * time.Second
	lookFor   = time.Second
)

// watching is one Watch under way.
type watching struct {
	client *clientv3.Client
	below  string
	yield  func(Edit, error) bool

	next int64 // revision from which on nothing was yielded; 0 before the first watch is there
	seen int64 // highest revision that etcd has answered with
}

// run opens one watch after the other, until one ends for good.
func (w *watching) run(ctx context.Context) error {
	wait := firstRewatch
	for {
		before := w.seen
		err := w.watch(ctx)
		if ctx.Err() != nil || !retry.Idempotent(err) {
			return err
		}
		if w.seen > before {
			wait = firstRewatch
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(wait) + wait/10):
		}
		wait = min(2*wait, lastRewatch)
		// A read waits for etcd to be there, has the client fetch another token if need be, and sees if etcd's history is still the one.
		if err := w.proven(ctx); err != nil {
			return err
		}
	}
}

// watch yields what one watch brings. clientv3 goes on by itself after most disconnects.
func (w *watching) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := w.client.Watch(ctx, w.below,
		clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	redial, look := time.NewTicker(time.Second), time.NewTicker(lookEvery)
	defer redial.Stop()
	defer look.Stop()
	for {
		select {
		case <-redial.C:
			call.Redial(w.client)
		case <-look.C:
			if err := w.look(ctx); err != nil {
				return err
			}
		case resp, open := <-changes:
			if !open {
				return fmt.Errorf("config: watch of %q: it ended", w.below)
			}
			if err := w.take(ctx, resp); err != nil {
				return err
			}
		}
	}
}

// take yields what an answer holds, which is all of the revisions that are in it.
func (w *watching) take(ctx context.Context, resp clientv3.WatchResponse) error {
	switch err := resp.Err(); {
	case resp.CompactRevision != 0:
		return &CompactedError{Revision: w.next, Oldest: resp.CompactRevision}
	case err != nil:
		if known := retry.EtcdError(err); known != nil {
			err = known
		}
		return fmt.Errorf("config: watch of %q: %w", w.below, err)
	}
	for _, ev := range resp.Events {
		e := Edit{Key: string(ev.Kv.Key), Value: ev.Kv.Value, Revision: ev.Kv.ModRevision, Writes: ev.Kv.Version, Kind: KeyChanged}
		switch {
		case ev.Type == clientv3.EventTypeDelete:
			e.Kind, e.Value = KeyRemoved, nil
		case ev.IsCreate():
			e.Kind = KeyCreated
		}
		if !w.yield(e, nil) {
			return errStopped
		}
		w.next = ev.Kv.ModRevision + 1
	}
	revision := resp.Header.GetRevision()
	if revision < w.seen {
		return w.proven(ctx) // a member that lags behind, or worse
	}
	w.seen = revision
	if w.next == 0 {
		w.next = revision + 1 // what comes after the watch was made
	}
	return nil
}

// proven returns nil once a read through the leader shows that etcd's history goes as far as it did.
func (w *watching) proven(ctx context.Context) error {
	resp, err := call.Persist(ctx, w.client, w.count)
	if err != nil {
		return fmt.Errorf("config: watch of %q: %w", w.below, err)
	}
	return w.goesOn(resp)
}

// look is as proven, but an etcd that does not answer proves nothing.
func (w *watching) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	resp, err := w.count(ctx)
	if err != nil {
		return nil // the watch itself tells of what is more than a moment's trouble
	}
	return w.goesOn(resp)
}

func (w *watching) count(ctx context.Context) (*clientv3.GetResponse, error) {
	return w.client.KV.Get(ctx, w.below, clientv3.WithPrefix(), clientv3.WithCountOnly())
}

// goesOn tells a history that goes as far as it did from one that does not.
func (w *watching) goesOn(resp *clientv3.GetResponse) error {
	if resp.Header.GetRevision() < w.seen {
		return errReplaced
	}
	return nil
}
