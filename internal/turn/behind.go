package turn

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// near is how many older keys a waiter watches one by one. It is woken when it has come that near, in time to
// open those watches before its turn.
const near = 8

// waitBehind waits for the turn in a long line, without following all of it.
//
// It reads the keys right ahead, youngest first. If there are more than it wants to watch, it waits for the
// farthest of them to go, and reads again. Otherwise these are all the older keys there are, and none can be
// added: it waits for each to go. Whether its own key is still there is then read once more, since the watches
// of several keys have no order among each other.
func (p *Place) waitBehind(ctx context.Context) error {
	for {
		older, err := p.ahead(ctx, near+1)
		if err != nil {
			return err
		}
		if len(older) == 0 {
			return nil // and its own key was there in the same read
		}
		if len(older) > near {
			older = older[len(older)-1:]
		}
		if err := p.waitForKeys(ctx, older); err != nil {
			return err
		}
	}
}

// ahead returns up to n keys of the line that are older than the place, the youngest first, read at one
// revision together with the place's own key. It fails if that is gone.
func (p *Place) ahead(ctx context.Context, n int) ([]*mvccpb.KeyValue, error) {
	for limit := int64(n); ; limit *= 2 {
		resp, err := call.Persist(ctx, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return p.sess.Client().KV.Txn(ctx).Then(
				clientv3.OpGet(p.key, clientv3.WithKeysOnly()),
				clientv3.OpGet(p.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
					clientv3.WithMaxCreateRev(p.token-1), clientv3.WithLimit(limit),
					clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)),
			).Commit()
		})
		if err != nil {
			return nil, err
		}
		if kvs := own(resp); len(kvs) == 0 || kvs[0].CreateRevision != p.token {
			return nil, p.errPlaceLost(errGone)
		}
		older := resp.Responses[1].GetResponseRange().GetKvs()
		truncated := int64(len(older)) == limit
		older = slices.DeleteFunc(older, func(kv *mvccpb.KeyValue) bool { return !InLine(p.prefix, string(kv.Key)) })
		if len(older) >= n {
			return older[:n], nil
		}
		if !truncated {
			return older, nil
		}
		// Keys of lines further below took the room: look further.
	}
}

// waitForKeys waits until all of keys are gone, or the place's own is.
func (p *Place) waitForKeys(ctx context.Context, keys []*mvccpb.KeyValue) error {
	w := &departures{
		own:   p.key,
		token: p.token,
		left:  make(map[string]int64, len(keys)),
		done:  make(chan struct{}),
		lost:  make(chan struct{}),
	}
	watched := []string{p.key}
	for _, kv := range keys {
		w.left[string(kv.Key)] = kv.CreateRevision
		watched = append(watched, string(kv.Key))
	}
	f := follow.Attach(p.sess.Client(), follow.Keys(watched...), w)
	defer f.Close()
	select {
	case <-w.done:
		return nil
	case <-w.lost:
		return p.errPlaceLost(errGone)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// departures waits for keys to go. A key that is there again with another create revision has gone: it stands at
// the end of the line now. The methods run in the view's goroutine, one at a time.
type departures struct {
	own   string
	token int64            // create revision of own
	left  map[string]int64 // create revisions of the keys that are there still
	done  chan struct{}    // closed when none is left
	lost  chan struct{}    // closed when own is gone
	over  bool             // one of them is closed
}

// Changed takes in a step of the view of the keys.
func (w *departures) Changed(c follow.Change) {
	if w.over {
		return
	}
	there := make(map[string]int64, len(c.Events))
	for _, ev := range c.Events {
		there[ev.Key] = 0
		if ev.New != nil {
			there[ev.Key] = ev.New.CreateRevision
		}
	}
	if now, told := there[w.own]; (told || c.Initial) && now != w.token {
		w.finish(w.lost)
		return
	}
	for key, token := range w.left {
		if now, told := there[key]; (told || c.Initial) && now != token {
			delete(w.left, key)
		}
	}
	if len(w.left) == 0 {
		w.finish(w.done)
	}
}

func (w *departures) finish(how chan struct{}) {
	w.over = true
	close(how)
}

// Stale does nothing: what is not known changes nobody's turn.
func (w *departures) Stale(error) {}

// Live does nothing either: what was missed came with Changed.
func (w *departures) Live() {}
