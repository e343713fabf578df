package config

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/etcdkit/etcdkit/retry"
)

const (
	// askAgain is how long an answer about progress is waited for before it is asked for again: etcd gives none while a watch catches up.
	askAgain = 200 * time.Millisecond

	// pastWithin bounds an attempt at reading the past, and pastMost all of them.
	pastWithin = 5 * time.Second
	pastMost   = 30 * time.Second
)

var (
	// errPastGone says that what was asked for cannot be had: etcd has compacted it, or has another past by now.
	errPastGone = errors.New("not known any more")

	errPastClosed = errors.New("watch closed")
)

// past returns what happened to the keys of a prefix at the revisions from first to last, in order, each event with the state before, if
// etcd still has that. A view that was cut off tells what is different, and not what was between; whoever said goodbye and went is only
// gone there. It returns errPastGone if the first of the revisions was compacted, or etcd does not get as far as the last.
func past(ctx context.Context, client *clientv3.Client, prefix string, first, last int64) ([]*clientv3.Event, error) {
	if first > last {
		return nil, nil
	}
	waits := retry.Policy{}.Backoff()
	for began := time.Now(); ; {
		events, err := replay(ctx, client, prefix, first, last)
		switch {
		case err == nil:
			return events, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, rpctypes.ErrCompacted) || time.Since(began) > pastMost:
			return nil, errPastGone
		}
		if err := waits.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// replay makes one attempt at past.
func replay(ctx context.Context, client *clientv3.Client, prefix string, first, last int64) ([]*clientv3.Event, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), pastWithin)
	defer cancel()
	// A stream of its own: a question about progress is answered for all watches of a stream, when all have caught up.
	ctx = metadata.AppendToOutgoingContext(ctx, "etcdkit-past", rand.Text())
	watch := client.Watcher.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first),
		clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	again := time.NewTimer(askAgain)
	defer again.Stop()
	var events []*clientv3.Event
	for {
		select {
		case resp, open := <-watch:
			if !open {
				return nil, errors.Join(errPastClosed, ctx.Err())
			}
			if err := resp.Err(); err != nil {
				if known := retry.EtcdError(err); known != nil {
					return nil, known
				}
				return nil, err
			}
			for _, ev := range resp.Events {
				if ev.Kv.ModRevision <= last {
					events = append(events, ev)
				}
			}
			if reaches(&resp, last) {
				return events, nil
			}
			if !resp.Created {
				continue
			}
		case <-again.C:
			again.Reset(askAgain)
		}
		if err := client.Watcher.RequestProgress(ctx); err != nil {
			return nil, err
		}
	}
}

// reaches reports whether a watch that has brought this will bring nothing more up to a revision.
func reaches(resp *clientv3.WatchResponse, last int64) bool {
	if resp.IsProgressNotify() {
		return resp.Header.GetRevision() >= last
	}
	// All events of a revision come together.
	n := len(resp.Events)
	return n > 0 && resp.Events[n-1].Kv.ModRevision >= last
}

// gone reports whether an event is a deletion.
func gone(ev *clientv3.Event) bool { return ev.Type == mvccpb.Event_DELETE }
