package turn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// ErrTaken says that somebody stands in the line already.
var ErrTaken = errors.New("turn: taken")

// shortLine is how many others a line holds at most for its waiters to follow all of it.
const shortLine = 16

// Prefix is the line of a name.
func Prefix(name string) string { return name + "/" }

// InLine reports whether key stands in the line itself, and not in one further below.
func InLine(prefix, key string) bool {
	return len(key) > len(prefix) && strings.HasPrefix(key, prefix) && !strings.Contains(key[len(prefix):], "/")
}

// Place is one place in a line: a key that lives as long as the session. It is not safe for concurrent use.
type Place struct {
	sess   *session.Session
	prefix string
	key    string
	free   func() // lets the key be used again
	token  int64  // create revision of the key

	first bool // nobody was older when the line was entered
	short bool // the line was short when it was entered

	// A creation was sent and not answered: it may arrive late, and create the key once more after it was
	// deleted.
	unresolved bool

	line *line // the local view of the line, if that is how the turn came
	seat *seat // in it
}

// id tells the place's line from others.
func (p *Place) id() lineID { return lineID{p.sess.Client(), p.prefix} }

// Within reports whether ctx is that of a hold of the same line, or derived from one, that has not ended.
// Whoever waits for such a line waits for itself.
func Within(ctx context.Context, sess *session.Session, prefix string) bool {
	h, ok := ctx.Value(lineID{sess.Client(), prefix}).(*Hold)
	return ok && h.ctx.Err() == nil
}

func newPlace(sess *session.Session, prefix string) *Place {
	p := &Place{sess: sess, prefix: prefix}
	p.key, p.free = sess.Key(prefix)
	return p
}

// Guard proves the place, once it owns.
func (p *Place) Guard() fence.Guard { return fence.Guard{Key: p.key, Token: fence.Token(p.token)} }

// Join enters the line. ctx bounds it, and the session's end does. On an error nothing stays in line.
func Join(ctx context.Context, sess *session.Session, prefix, value string) (*Place, error) {
	p := newPlace(sess, prefix)
	put := clientv3.OpPut(p.key, value, clientv3.WithLease(sess.Lease()))
	absent := clientv3.Compare(clientv3.CreateRevision(p.key), "=", 0)
	resp, err := p.create(ctx, []clientv3.Cmp{absent}, put)
	if err != nil {
		return nil, err
	}
	p.entered(resp)
	return p, nil
}

// Try takes the first place of an empty line, or returns ErrTaken and leaves nothing behind.
func Try(ctx context.Context, sess *session.Session, prefix, value string) (*Place, error) {
	p := newPlace(sess, prefix)
	put := clientv3.OpPut(p.key, value, clientv3.WithLease(sess.Lease()))
	// Of a range, a comparison asks that every key meets it: none exists.
	empty := clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix()
	resp, err := p.create(ctx, []clientv3.Cmp{empty}, put)
	if err != nil {
		return nil, err
	}
	if resp.Succeeded || len(own(resp)) > 0 { // ours also if the reply to an earlier attempt was lost
		p.entered(resp)
		p.first = true
		return p, nil
	}
	others := resp.Responses[1].GetResponseRange()
	for _, kv := range others.Kvs {
		if InLine(prefix, string(kv.Key)) {
			p.done() // but an earlier attempt may yet find the line empty
			return nil, ErrTaken
		}
	}
	p.done()
	// All that was seen are keys of lines further below, which must not stand in the way.
	p, err = Join(ctx, sess, prefix, value)
	if err != nil || p.first {
		return p, err
	}
	ahead, err := p.ahead(ctx, 1)
	if err != nil {
		return nil, errors.Join(p.explain(ctx, err), p.Leave(ctx))
	}
	if len(ahead) > 0 {
		return nil, errors.Join(ErrTaken, p.Leave(ctx))
	}
	p.first = true
	return p, nil
}

// create puts the key if cmps hold, and reads it otherwise; in both cases the beginning of the line too.
// The reply to an attempt may be lost: then the next one finds the key there, and reads it.
func (p *Place) create(ctx context.Context, cmps []clientv3.Cmp, put clientv3.Op) (*clientv3.TxnResponse, error) {
	both, cancel := join(ctx, p.sess.Context())
	defer cancel()
	line := clientv3.OpGet(p.prefix, clientv3.WithPrefix(), clientv3.WithLimit(shortLine+1), clientv3.WithKeysOnly())
	resp, err := call.Persist(both, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := p.sess.Client().KV.Txn(ctx).If(cmps...).
			Then(put, line).
			Else(clientv3.OpGet(p.key, clientv3.WithKeysOnly()), line).
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
	return nil, p.explain(ctx, err)
}

// own is the range in which a transaction that found the place's key there already reports it.
func own(resp *clientv3.TxnResponse) []*mvccpb.KeyValue {
	return resp.Responses[0].GetResponseRange().GetKvs()
}

// entered notes the token and who was there.
func (p *Place) entered(resp *clientv3.TxnResponse) {
	p.token = resp.Header.GetRevision()
	p.sess.Saw(p.token)
	if !resp.Succeeded {
		// The key is there from an earlier attempt. If it has gone meanwhile, the token of this revision
		// names no key, and waiting for the turn will say so.
		if kvs := own(resp); len(kvs) > 0 {
			p.token = kvs[0].CreateRevision
		}
	}
	line := resp.Responses[1].GetResponseRange()
	p.short = !line.More
	p.first = p.short
	present := false
	for _, kv := range line.Kvs {
		switch {
		case string(kv.Key) == p.key:
			present = true
		case kv.CreateRevision < p.token && InLine(p.prefix, string(kv.Key)):
			p.first = false
		}
	}
	p.first = p.first && present
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
	if p.short || following(p.sess.Client(), p.prefix) {
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
