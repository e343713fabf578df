package election

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// ErrReentrant is what Campaign returns under the context of a term of the same election.
var ErrReentrant = errors.New("election: led by the caller already: waiting for the next term would never end")

// Term is one time of leading. It is safe for concurrent use.
type Term struct {
	name string
	sess *session.Session
	hold *turn.Hold

	writing chan struct{} // holds one token: whoever has it may proclaim, and touch written
	written int64         // revision of the last write to the key that is known
}

// Campaign stands for an election through s and returns when it leads. value is what others see of the leader.
// ctx bounds the wait, not the term; the wait ends within a quarter of a second of ctx, whether etcd can be
// reached or not. On any error nothing stays in line.
//
// It returns ctx's cause; the cause of the session's end, which is [fence.ErrLost], if that came first;
// [ErrReentrant] under the context of a term; or an error that names the rule that the name breaks, or the
// endpoint that failed. Transient failures of etcd are waited out.
func Campaign(ctx context.Context, s *session.Session, name, value string) (*Term, error) {
	if err := names.Opaque("election", name); err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	failed := func(err error) (*Term, error) { return nil, fmt.Errorf("election %q: %w", name, err) }
	if ctx.Err() != nil {
		return failed(context.Cause(ctx))
	}
	if _, err := s.Live(ctx); err != nil {
		return failed(err)
	}
	prefix := turn.Prefix(name)
	if turn.Within(ctx, s, prefix) {
		return failed(ErrReentrant)
	}
	place, err := turn.Join(ctx, s, prefix, turn.Share{}, value)
	if err != nil {
		return failed(err)
	}
	if err := place.Wait(ctx); err != nil {
		// What became of the place is etcd's to tell; the caller wants to know why it does not lead.
		_ = place.Leave(ctx)
		return failed(err)
	}
	t := &Term{name: name, sess: s, hold: turn.Own(place), writing: make(chan struct{}, 1)}
	t.written = int64(t.Guard().Token)
	t.writing <- struct{}{}
	return t, nil
}

// Context ends when the term does. Its cause is [fence.ErrLost], with the reason, unless Resign ended it. It does
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
// unknown because the session ended first; or ctx's cause if etcd has not answered by then. In that case
// resigning goes on until the session ends, and a later call learns the result.
func (t *Term) Resign(ctx context.Context) error { return t.hold.Release(ctx) }
