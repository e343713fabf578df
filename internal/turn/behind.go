package turn

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// near is how many older keys a waiter watches. It reads who is older still when the farthest of them goes, so that the
	// answer is there before its turn.
	near = 2

	// crowd is how long a line may be, for each who waits in it through one client, for that client to follow all of it: one
	// watch that brings two events a turn is then no more than three watches for each place, and their reads.
	crowd = 4

	// lookAgain is after how long, at least, a waiter reads the line although nothing seems to have happened: servers have lost
	// events before (etcd#18089, etcd#19179).
	lookAgain = time.Minute
)

// waitBehind waits for the turn in a long line, without following all of it.
//
// It watches its own key and those right ahead. When the farthest goes it reads how many are older still. If they are more
// than it watches, it goes on with those that are right ahead now. Otherwise they are all the older keys there are, and none can
// be added: it waits for each to go. The turn comes with an event then, without a read.
//
// The watches of several keys have no order among each other. So the own key may be gone when the turn comes, deleted by
// somebody, and the word of it still on its way; it ends the hold when it comes.
func (p *Place) waitBehind(ctx context.Context) (err error) {
	p.seat = newSeat(p.key, p.token)
	// What was seen on entering may be keys of lines further below only. They are not all there are in any case.
	ahead, all := p.older, false
	for {
		var awaited []member
		if len(ahead) > 0 {
			ahead = ahead[max(0, len(ahead)-near):]
			awaited = ahead
			if !all {
				awaited = ahead[:1]
			}
			gone, err := p.departed(ctx, ahead, awaited)
			if err != nil {
				return err
			}
			if !gone {
				all, awaited = false, nil
			}
		}
		if all {
			return nil
		}
		if ahead, all, err = p.ahead(ctx, awaited); err != nil {
			return err
		}
	}
}

// departed watches the keys ahead and returns when all of those awaited are gone, or, with false, when it is time to read
// the line again whatever the watches say.
func (p *Place) departed(ctx context.Context, ahead, awaited []member) (bool, error) {
	again := time.NewTimer(lookAgain + rand.N(lookAgain))
	defer again.Stop()
	select {
	case <-p.vicinity(ahead).await(awaited, p.seat):
		return true, nil
	case <-again.C:
		return false, nil
	case <-p.seat.lost:
		return false, p.errPlaceLost(p.seat.why)
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// ahead returns the keys right ahead of the place, the oldest first, read at one revision together with the place's own. All
// reports whether there are no others. It fails if the own key is gone.
//
// Any member may answer, and from a revision that is past, if it has seen the place come: older keys can only go, so that the
// answer names too many at worst. Then, as when it still names one that has gone, the leader is asked.
func (p *Place) ahead(ctx context.Context, gone []member) (ahead []member, all bool, err error) {
	for limit, local := int64(near+1), true; ; {
		resp, err := p.readAhead(ctx, limit, local)
		if err != nil {
			return nil, false, err
		}
		kvs := resp.Responses[1].GetResponseRange().GetKvs()
		truncated := int64(len(kvs)) == limit
		ahead = nil
		for _, kv := range slices.Backward(inLine(p.prefix, kvs)) {
			ahead = append(ahead, newMember(p.prefix, kv))
		}
		still := func(m member) bool { return slices.Contains(ahead, m) }
		own := own(resp)
		switch {
		case local && (resp.Header.GetRevision() < p.token || slices.ContainsFunc(gone, still)):
			local = false
		case len(own) == 0 || own[0].CreateRevision != p.token:
			return nil, false, p.errPlaceLost(errGone)
		case len(ahead) > near:
			return ahead, false, nil
		case !truncated:
			return ahead, true, nil
		default:
			limit *= 2 // keys of lines further below took the room: look further
		}
	}
}

// readAhead reads the place's own key and the youngest of those older; with local, as the member knows them that is asked.
func (p *Place) readAhead(ctx context.Context, limit int64, local bool) (*clientv3.TxnResponse, error) {
	own := []clientv3.OpOption{clientv3.WithKeysOnly()}
	older := []clientv3.OpOption{
		clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(limit), clientv3.WithMaxCreateRev(p.token - 1),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend),
	}
	if local {
		own, older = append(own, clientv3.WithSerializable()), append(older, clientv3.WithSerializable())
	}
	return call.Persist(ctx, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return p.sess.Client().KV.Txn(ctx).Then(clientv3.OpGet(p.key, own...), clientv3.OpGet(p.prefix, older...)).Commit()
	})
}
