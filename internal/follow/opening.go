package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// openWithin bounds the opening of a view, where ctx does not.
	openWithin = 10 * time.Second

	// olderAfter is how long etcd has before something older is looked for.
	olderAfter = 3 * time.Second

	// memberWithin bounds the question to a single member.
	memberWithin = time.Second
)

// Open returns nil once live is closed, which the observer does when it is told that the view is live, and the observer has been
// told of all that etcd held when Open was called: also if others have opened the view before, which then may be a moment
// behind. Or once there is something older. live may be closed before.
//
// Beside that etcd is read, linearizably. Following never fails: a watch that cannot be opened is tried again and does not
// say why, while a read is refused by a server that is not there, or does not let this user in.
//
// If etcd is away, or has not answered after 3 s or half of ctx's time, older is asked, up to twice, by the goroutine of
// the caller: whether there is something older, as of [Follower.Serializable] or a copy on disk, and the observer has it
// now. It may be nil, and must return soon when its ctx ends.
//
// ctx bounds the opening, and so do 10 s. An error is etcd's refusal, or names the endpoints and how they failed, or is
// ctx's cause with what the view was waiting for.
func (f *Follower) Open(ctx context.Context, live <-chan struct{}, older func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	answered := make(chan answer, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	joined := f.Status().Revision // of a view that others have opened; 0 if it is yet to be read
	asking.Go(func() {
		e, err := f.ask(ctx, joined)
		answered <- answer{e, err}
	})
	if older == nil {
		older = func(context.Context) bool { return false }
	}
	patience := time.NewTimer(patienceOf(ctx))
	defer patience.Stop()
	var covered *mark
	defer func() {
		if covered != nil {
			f.forget(covered)
		}
	}()
	for asked, behind := true, joined > 0; live != nil || behind; {
		select {
		case <-live:
			live = nil
		case <-covered.met():
			covered, behind = nil, false
		case a := <-answered:
			asked = false
			switch {
			case a.err == nil && behind:
				covered = f.mark(a.evidence.covered)
			case a.err == nil:
			case ctx.Err() == nil && call.Away(a.err) && older(ctx):
				return nil
			default:
				return a.err
			}
		case <-patience.C:
			if older(ctx) {
				return nil
			}
		case <-ctx.Done():
			if asked {
				if a := <-answered; a.err != nil { // which names the endpoints
					return a.err
				}
			}
			err := context.Cause(ctx)
			if why := f.Status().Err; why != nil {
				err = fmt.Errorf("%w: %w", err, why)
			}
			return err
		}
	}
	return nil
}

// answer is etcd's to the question of an opening.
type answer struct {
	evidence
	err error
}

// evidence is what etcd holds of a range at a revision.
type evidence struct {
	revision int64
	keys     int64            // how many there are, or unknown
	written  map[string]int64 // the revisions of those that were written after the one that was asked for
}

// unknown is said of how many keys there are, and is no number of any.
const unknown = -1

// covered reports whether a view has all that the evidence is of.
func (e evidence) covered(now Change, content entries) bool {
	if now.Complete >= e.revision {
		return true
	}
	for key, revision := range e.written {
		if has := content[key]; has == nil || has.ModRevision < revision {
			return false
		}
	}
	return int64(len(content)) == e.keys
}

// ask reads how much there is in the range and what was written after a revision; if that is 0, as nothing is known so far, only
// whether etcd answers, by one key, which need not exist. Of a tail no more than that is ever asked.
func (f *Follower) ask(ctx context.Context, after int64) (evidence, error) {
	client, rng := f.view.hub.client, f.view.rng
	if after == 0 || rng.tail {
		revision, _, err := present(ctx, client, rng)
		return evidence{revision: revision, keys: unknown}, err
	}
	var ops []clientv3.Op
	for key, opts := range rng.spans() {
		ops = append(ops, clientv3.OpGet(key, append(opts, clientv3.WithKeysOnly(), clientv3.WithMinModRev(after+1))...))
	}
	resp, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return client.KV.Txn(ctx).Then(ops...).Commit()
	})
	if err != nil {
		return evidence{}, err
	}
	e := evidence{revision: resp.Header.GetRevision(), written: map[string]int64{}}
	for _, part := range resp.Responses {
		e.keys += part.GetResponseRange().GetCount()
		for _, kv := range part.GetResponseRange().GetKvs() {
			e.written[string(kv.Key)] = kv.ModRevision
		}
	}
	return e, nil
}

// patienceOf is how long to wait for etcd before something older is looked for.
func patienceOf(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(olderAfter, time.Until(deadline)/2)
	}
	return olderAfter
}

// Serializable reads the range from whichever single member answers, with a leader or without, and returns the revision that
// the member is at. It may be far behind. That takes a second at the most.
func (f *Follower) Serializable(ctx context.Context) ([]*Entry, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, memberWithin)
	defer cancel()
	client, rng := f.view.hub.client, f.view.rng
	var ops []clientv3.Op
	for _, prefix := range rng.prefixes {
		ops = append(ops, clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithSerializable()))
	}
	for _, key := range rng.keys {
		ops = append(ops, clientv3.OpGet(key, clientv3.WithSerializable()))
	}
	resp, err := client.KV.Txn(ctx).Then(ops...).Commit() // serializable, as each of its reads is
	if err != nil {
		return nil, 0, err
	}
	var entries []*Entry
	for _, part := range resp.Responses {
		entries = append(entries, part.GetResponseRange().GetKvs()...)
	}
	return entries, resp.Header.GetRevision(), nil
}
