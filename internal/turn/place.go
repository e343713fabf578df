package turn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// shortLine is how many others a line holds at most for its waiters to follow all of it.
	shortLine = 6

	// seen is how many others whoever enters is told of, the youngest.
	seen = 16
)

// Prefix is the line of a name.
func Prefix(name string) string { return name + "/" }

// InLine reports whether key stands in the line itself, and not in one further below.
func InLine(prefix, key string) bool {
	return len(key) > len(prefix) && strings.HasPrefix(key, prefix) && !strings.Contains(key[len(prefix):], "/") &&
		!isSlot(prefix, key)
}

// Place is one place in a line: a key that lives as long as the session. It is not safe for concurrent use.
type Place struct {
	sess   *session.Session
	prefix string
	share  Share
	key    string
	free   func() // lets the key be used again
	token  int64  // create revision of the key

	// What was seen when the line was entered.
	first  bool     // the place owned at once
	others int64    // how many keys there were besides
	older  []member // those right ahead, the oldest first

	// A creation was sent and not answered: it may arrive late, and create the key once more after it was
	// deleted.
	unresolved bool

	repeated bool // an attempt to delete the key may have done it

	seat   *seat       // where it learns of its turn and of its loss, once it waits
	near   []*vicinity // the views that it has used in a long line
	leaves []func()    // end what it uses to wait
}

// id tells the place's line from others.
func (p *Place) id() lineID { return lineID{p.sess.Client(), p.prefix} }

// Within reports whether ctx is that of a hold of the same line, or derived from one, that has not ended.
// Whoever waits for such a line waits for itself.
func Within(ctx context.Context, sess *session.Session, prefix string) bool {
	h, ok := ctx.Value(lineID{sess.Client(), prefix}).(*Hold)
	return ok && h.ctx.Err() == nil
}

func newPlace(sess *session.Session, prefix string, share Share) *Place {
	p := &Place{sess: sess, prefix: prefix, share: share}
	p.key, p.free = sess.Key(share.keys(prefix))
	return p
}

// Guard proves the place, once it owns.
func (p *Place) Guard() fence.Guard { return fence.Guard{Key: p.key, Token: fence.Token(p.token)} }

// create puts the key if cmps hold, and reads it otherwise; in both cases the youngest of the keys in its way too. The
// reply to an attempt may be lost: then the next one finds the key there, and reads it.
func (p *Place) create(ctx context.Context, cmps []clientv3.Cmp, value string) (*clientv3.TxnResponse, error) {
	both, cancel := join(ctx, p.sess.Context())
	defer cancel()
	put := clientv3.OpPut(p.key, value, clientv3.WithLease(p.sess.Lease()))
	from, to := p.share.inTheWay(p.prefix)
	look := clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(seen+1),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
	resp, err := call.Persist(both, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := p.sess.Client().KV.Txn(ctx).If(cmps...).
			Then(put, look).
			Else(clientv3.OpGet(p.key, clientv3.WithKeysOnly()), look).
			Commit()
		if err != nil && mayHaveApplied(err) {
			p.unresolved = true
		}
		return resp, err
	})
	if err == nil {
		return resp, nil
	}
	p.abandon(ctx)
	if call.LeaseGone(err) { // the session is lost, and the last to know
		p.sess.Probe()
		select {
		case <-p.sess.Context().Done():
		case <-ctx.Done():
		}
	}
	return nil, p.explain(ctx, err)
}

// own is the range in which a transaction that found the place's key there already reports it.
func own(resp *clientv3.TxnResponse) []*mvccpb.KeyValue {
	return resp.Responses[0].GetResponseRange().GetKvs()
}

// entered takes in the answer to create: whether the place is in line, its token, and who is there besides.
func (p *Place) entered(resp *clientv3.TxnResponse) (in bool) {
	line := resp.Responses[1].GetResponseRange()
	p.others = line.Count
	for _, kv := range slices.Backward(line.Kvs) {
		if string(kv.Key) != p.key && InLine(p.prefix, string(kv.Key)) {
			p.older = append(p.older, newMember(p.prefix, kv))
		}
	}
	p.token = resp.Header.GetRevision()
	if !resp.Succeeded {
		kvs := own(resp)
		if len(kvs) == 0 {
			return false
		}
		p.token = kvs[0].CreateRevision // it is there from an earlier attempt
		p.older = slices.DeleteFunc(p.older, func(m member) bool { return m.token > p.token })
	}
	p.sess.Saw(p.token)
	p.first = !line.More && p.share.fits(p.older)
	return true
}

// Wait returns when the place owns. ctx bounds the wait. It fails if the session ends or the place is lost;
// leaving the line is then still the caller's to do.
func (p *Place) Wait(ctx context.Context) error {
	if p.first {
		return nil
	}
	both, cancel := join(ctx, p.sess.Context())
	defer cancel()
	var err error
	if mine := p.joinCrowd(); !p.share.alone() || p.others <= shortLine || p.others <= int64(mine)*crowd {
		err = p.waitInView(both)
	} else {
		err = p.waitBehind(both)
	}
	if err != nil {
		return p.explain(ctx, err)
	}
	if p.sess.Context().Err() != nil { // the turn may have come in the moment that trust ended
		return p.explain(ctx, context.Cause(p.sess.Context()))
	}
	return nil
}

// sit waits for the turn in the place's seat.
func (p *Place) sit(ctx context.Context) error {
	select {
	case <-p.seat.turn:
		return nil
	case <-p.seat.lost:
		return p.errPlaceLost(p.seat.why)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// standUp ends what the place uses to learn of its turn and of its loss.
func (p *Place) standUp() {
	for _, leave := range slices.Backward(p.leaves) {
		leave()
	}
	p.leaves = nil
}

// explain says which of the two contexts, if any, a failure comes from.
func (p *Place) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p.sess.Context().Err() != nil:
		return context.Cause(p.sess.Context())
	}
	return call.Explain(ctx, p.sess.Client(), err)
}

// errPlaceLost is the loss of a key that its owner did not delete.
func (p *Place) errPlaceLost(why error) error {
	return fmt.Errorf("%w: %q: %w", fence.ErrLost, p.key, why)
}

// mayHaveApplied reports whether a write that failed with err may have taken effect, or still will. Only etcd's own word,
// or a failure before anything was sent, says that it did not: a code without a known reason may be a proxy's.
func mayHaveApplied(err error) bool {
	return retry.Ambiguous(err) || !retry.Transient(err) && retry.EtcdError(err) == nil
}

// join returns ctx, ended also by other, with other's cause.
func join(ctx, other context.Context) (context.Context, context.CancelFunc) {
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return both, func() { stop(); cancel(nil) }
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
