package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// mostAhead is how many keys one transaction takes out of the way. etcd allows 128 conditions unless it is told otherwise, and two
// more are needed.
const mostAhead = 120

// ErrLeft says that the place to which a line was to be handed over has left it.
var ErrLeft = errors.New("has left the line")

// Numbered reports whether a key in line was put by Join for all of the line. Whoever else puts keys there, as etcd's own recipes
// do, may take it for its turn when its key goes.
func Numbered(prefix, key string) bool {
	lease, number, found := strings.Cut(key[len(prefix):], "-")
	_, notLease := strconv.ParseUint(lease, 16, 64)
	_, notNumber := strconv.ParseUint(number, 10, 64)
	return found && notLease == nil && notNumber == nil
}

// confirm makes sure that a place whose turn has come was in line then. It fails, as Wait does, if that is not so. ctx bounds it.
//
// Who follows the whole line knows: it saw all of it at one revision. Behind a long line the own key and those ahead are watched
// one by one, in no order among each other; a transfer deletes them in one transaction, and who saw the others go first would own
// beside the one that the line was handed to, until it saw its own key go, too. So it asks.
func (p *Place) confirm(ctx context.Context) error {
	if len(p.near) == 0 {
		return nil
	}
	both, cancel := join(ctx, p.sess.Context())
	defer cancel()
	resp, err := call.Persist(both, p.sess.Client(), func(ctx context.Context) (*clientv3.GetResponse, error) {
		return p.sess.Client().KV.Get(ctx, p.key, clientv3.WithKeysOnly())
	})
	switch {
	case err != nil:
		return p.explain(ctx, err)
	case resp.Header.GetRevision() < p.token:
		p.sess.Probe()
		return p.errPlaceLost(errRestored)
	case len(resp.Kvs) == 0 || resp.Kvs[0].CreateRevision != p.token:
		return p.errPlaceLost(errGone)
	}
	return nil
}

// Transfer gives the line to another place in it. choose is shown the line, this place first, and returns the index of the
// other; at its error, and at 0, nothing happens. Then the hold ends, as with Release, and all places between the two are deleted
// together with this one: the other is the oldest then, and owns. Those who waited in between have lost their places.
//
// ctx bounds the wait for etcd's answer, like that of Release; the hold goes on if it had not ended by then. It fails with ErrLeft
// if the other has left meanwhile; then this place is released all the same. A later Release returns what became of this place.
func (h *Hold) Transfer(ctx context.Context, choose func(line []*mvccpb.KeyValue) (int, error)) error {
	ctx, release := h.bound(ctx)
	defer release()
	wait, cancel := call.Release(ctx, time.Hour)
	defer cancel()
	ahead, to, err := h.chosen(wait, choose)
	switch {
	case err != nil && h.ctx.Err() == nil && wait.Err() != nil:
		return context.Cause(ctx)
	case err != nil || to.token == h.place.token:
		return err
	}
	var handed error // read after released
	settle := h.leave()
	if settle == nil {
		return context.Cause(h.ctx)
	}
	h.beside(func(life context.Context) (left error) {
		left, handed = h.place.transfer(life, ahead, to)
		h.handed = left == nil && handed == nil
		return left
	}, settle)
	select {
	case <-h.released:
		if handed != nil {
			return handed
		}
		return h.result
	case <-wait.Done():
		return fmt.Errorf("handing over to %q goes on, not answered so far: %w", to.key, context.Cause(ctx))
	}
}

// chosen reads the line, and returns the place that is chosen in it and those ahead of that, the oldest first.
func (h *Hold) chosen(ctx context.Context, choose func(line []*mvccpb.KeyValue) (int, error)) (ahead []member, to member, err error) {
	p := h.place
	work, cancel := h.Work(ctx)
	defer cancel()
	line, err := List(work, p.sess.Client(), p.prefix)
	if h.ctx.Err() != nil {
		return nil, to, context.Cause(h.ctx)
	}
	if err != nil {
		return nil, to, err
	}
	mine := slices.IndexFunc(line, func(kv *mvccpb.KeyValue) bool {
		return string(kv.Key) == p.key && kv.CreateRevision == p.token
	})
	if mine < 0 {
		h.lose(errGone)
		return nil, to, context.Cause(h.ctx)
	}
	line = line[mine:]
	i, err := choose(line)
	if err != nil {
		return nil, to, err
	}
	for _, kv := range line[min(1, i):i] {
		ahead = append(ahead, newMember(p.prefix, kv))
	}
	return ahead, newMember(p.prefix, line[i]), nil
}

// transfer deletes the place's own key and those ahead of another place, for as long as life lasts. It returns what became of
// the own key, as remove does, and of the handing over.
//
// While the own key is there nobody else owns, and nobody comes in ahead of the other place: those ahead can only become fewer. So
// each time that etcd refuses because one of them has left there is less to do than before. Of more than one transaction takes,
// the youngest go first: should the session end in between, the turn is the oldest's as before.
func (p *Place) transfer(life context.Context, ahead []member, to member) (left, handed error) {
	unanswered := false // an attempt to delete the own key, too, may have been carried out
	for most := mostAhead; ; {
		some := ahead[max(0, len(ahead)-most):]
		last := len(some) == len(ahead)
		resp, err := call.Persist(life, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			resp, err := p.pass(ctx, some, to, last)
			if err != nil && last && mayHaveApplied(err) {
				unanswered = true
			}
			return resp, err
		})
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && most > 1:
			most /= 2
			continue
		case err != nil:
			return p.remove(life), fmt.Errorf("hand over to %q: %w", to.key, err)
		case resp.Succeeded && last:
			p.done()
			return nil, nil
		case resp.Succeeded:
			ahead = ahead[:len(ahead)-len(some)]
			continue
		}
		now := p.upTo(resp)
		mine, other := slices.Index(now, p.member()), slices.Index(now, to)
		switch {
		case mine < 0:
			p.done()
			return p.passed(life, now, to, unanswered)
		case other < 0:
			return p.remove(life), fmt.Errorf("%q %w", to.key, ErrLeft)
		}
		ahead = now[mine+1 : other]
	}
}

// pass is one attempt to take some places out of the way of another, with the last of them also this one. If it is refused, as
// one of these has left, it reads who is in line up to the other.
func (p *Place) pass(ctx context.Context, some []member, to member, last bool) (*clientv3.TxnResponse, error) {
	cmps := []clientv3.Cmp{p.Guard().Cmp(), clientv3.Compare(clientv3.CreateRevision(to.key), "=", to.token)}
	var gone []clientv3.Op
	for _, m := range some {
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(m.key), "=", m.token))
		gone = append(gone, clientv3.OpDelete(m.key))
	}
	if last {
		gone = append(gone, clientv3.OpDelete(p.key))
	}
	look := clientv3.OpGet(p.prefix, byAge(clientv3.WithKeysOnly(), clientv3.WithMaxCreateRev(to.token))...)
	return p.sess.Client().KV.Txn(ctx).If(cmps...).Then(gone...).Else(look).Commit()
}

// upTo is who is in line, from the answer to a pass that was refused.
func (p *Place) upTo(resp *clientv3.TxnResponse) (line []member) {
	for _, kv := range inLine(p.prefix, resp.Responses[0].GetResponseRange().GetKvs()) {
		line = append(line, newMember(p.prefix, kv))
	}
	return line
}

// passed says what became of a transfer when the own key is found gone. The transaction is carried out as a whole: as long as one
// of those that it deletes is there, it was not this that deleted the own key.
func (p *Place) passed(life context.Context, now []member, to member, unanswered bool) (left, handed error) {
	switch {
	case len(now) > 0 && now[0] == to:
		return nil, nil // it is as it was to be, whichever attempt has done it
	case len(now) == 0 && unanswered && life.Err() == nil:
		// Nobody else deletes this key while the lease is alive. The other may have owned, and may have left before.
		return nil, fmt.Errorf("outcome unknown: etcd did not answer in time, and %q %w since", to.key, ErrLeft)
	}
	lost := p.errPlaceLost(errGone)
	return lost, lost
}

// member is the place as others see it in the line.
func (p *Place) member() member { return member{key: p.key, token: p.token, share: p.share} }
