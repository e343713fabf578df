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

// Open returns nil once live is closed, which the observer does when it is told that the view is live; or once there is
// something older. live may be closed before.
//
// Beside that a key is read, linearizably. Following never fails: a watch that cannot be opened is tried again and does not
// say why, while a read is refused by a server that is not there, or does not let this user in.
//
// If etcd is away, or has not answered after 3 s or half of ctx's time, older is asked, up to twice, by the goroutine of
// the caller: whether there is something older, as of [Follower.Serializable] or a copy on disk, and the observer has it
// now. It may be nil, and must return soon when its ctx ends.
//
// ctx bounds the opening, and so do 10 s. An error is etcd's refusal, or names the endpoints and how they failed, or is
// ctx's cause with what the view was waiting for.
func (f *Follower) Open(ctx context.Context, key string, live <-chan struct{}, older func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	client, answered := f.view.hub.client, make(chan error, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	asking.Go(func() {
		_, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, key, clientv3.WithCountOnly())
		})
		answered <- err
	})
	if older == nil {
		older = func(context.Context) bool { return false }
	}
	patience := time.NewTimer(patienceOf(ctx))
	defer patience.Stop()
	for asked := true; ; {
		select {
		case <-live:
			return nil
		case err := <-answered:
			if asked = false; err == nil {
				continue
			}
			if ctx.Err() == nil && call.Away(err) && older(ctx) {
				return nil
			}
			return err
		case <-patience.C:
			if older(ctx) {
				return nil
			}
		case <-ctx.Done():
			if asked {
				if err := <-answered; err != nil { // which names the endpoints
					return err
				}
			}
			err := context.Cause(ctx)
			if why := f.Status().Err; why != nil {
				err = fmt.Errorf("%w: %w", err, why)
			}
			return err
		}
	}
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
