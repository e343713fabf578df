package election

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// Term is one time of leading. It is safe for concurrent use.
type Term struct {
	name string
	sess *session.Session
	hold *turn.Hold

	writing chan struct{} // holds one token: whoever has it may proclaim, and touch written
	written int64         // revision of the last write to the key that is known
}

func newTerm(s *session.Session, name string, place *turn.Place) *Term {
	t := &Term{name: name, sess: s, writing: make(chan struct{}, 1)}
	t.begin(place)
	t.written = int64(t.Guard().Token)
	t.writing <- struct{}{}
	return t
}

// Context ends when the term does. Its cause is [fence.ErrLost], with the reason, unless Resign or TransferTo ended it. It does
// not end with the context that Campaign was given.
func (t *Term) Context() context.Context { return t.hold.Context() }

// Guard proves the term, for writes that only the leader may make.
func (t *Term) Guard() fence.Guard { return t.hold.Guard() }

// Proclaim changes the value that others see of the leader. Of several calls the last one stays. ctx bounds the
// call. It returns [fence.ErrLost], and has changed nothing, if the term is over.
func (t *Term) Proclaim(ctx context.Context, value string) error {
	work, cancel := t.hold.Work(ctx)
	defer cancel()
	select {
	case <-t.writing:
		defer func() { t.writing <- struct{}{} }()
	case <-work.Done():
		return fmt.Errorf("election %q: %w", t.name, context.Cause(work))
	}
	_, err := call.Do(work, t.sess.Client(), "proclaim", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, t.proclaim(ctx, value)
	})
	switch {
	case err != nil && ctx.Err() == nil && work.Err() != nil:
		return fmt.Errorf("election %q: %w", t.name, context.Cause(work))
	case err != nil:
		return fmt.Errorf("election %q: %w", t.name, err)
	}
	return nil
}

// proclaim is one attempt. It is conditional on the last write that is known, so that an attempt which arrives late
// finds the next one there and does nothing; and it reads what is there instead, so that the next attempt learns what
// became of the one before.
func (t *Term) proclaim(ctx context.Context, value string) error {
	guard := t.Guard()
	for {
		resp, err := t.sess.Client().KV.Txn(ctx).
			If(guard.Cmp(), clientv3.Compare(clientv3.ModRevision(guard.Key), "=", t.written)).
			Then(clientv3.OpPut(guard.Key, value, clientv3.WithLease(t.sess.Lease()))).
			Else(clientv3.OpGet(guard.Key)).
			Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			t.written = resp.Header.GetRevision()
			return nil
		}
		found := resp.Responses[0].GetResponseRange().GetKvs()
		if len(found) == 0 || found[0].CreateRevision != int64(guard.Token) {
			return retry.Permanent(fmt.Errorf("%w: %q is gone", fence.ErrLost, guard.Key))
		}
		t.written = found[0].ModRevision
		if string(found[0].Value) == value && found[0].Lease == int64(t.sess.Lease()) {
			return nil // an attempt whose reply was lost
		}
	}
}

// Resign ends the Context and leaves the line; the next in line leads. It works with a ctx that is done, then for
// a moment (150 ms).
//
// It returns nil once etcd has answered; [fence.ErrLost] if the term had been lost before, or if its fate is
// unknown because the session ended first; ctx's cause if etcd has not answered by then; or etcd's error, as to a
// user who may not write there any more. In the last two cases resigning goes on until the session ends. A later
// call learns the answer that was missing.
func (t *Term) Resign(ctx context.Context) error { return t.hold.Release(ctx) }
