package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// lateCreates are the waits before the deletions of a key whose creation was sent and not answered: the request
// may still be on its way, and take effect after the first deletion. Servers hold a request for five seconds, so the
// last comes after twice that.
var lateCreates = []time.Duration{time.Second, 3 * time.Second, 7 * time.Second}

// refusals are the waits before a deletion that etcd has refused is made again.
var refusals = retry.Policy{Initial: 500 * time.Millisecond, Max: 15 * time.Second}

// errUnresolved says that a release was sent and not answered while it could be.
var errUnresolved = errors.New("outcome unknown: etcd did not answer before the lease ended")

// Leave gives up a place that does not own. ctx bounds the wait for etcd's answer: if it is done before, Leave
// returns its error soon after, and the deletion goes on until etcd answers or the lease is dead.
//
// It returns fence.ErrLost if the place was lost before, or if its fate is unknown because the lease
// ended first.
func (p *Place) Leave(ctx context.Context) error {
	p.standUp()
	answered := make(chan struct{})
	var result error
	started := p.sess.Go(func(life context.Context) {
		defer close(answered)
		result = p.remove(life)
	})
	if !started {
		return fmt.Errorf("%w: %w", fence.ErrLost, context.Cause(p.sess.Context()))
	}
	return p.await(ctx, answered, func() error { return result })
}

// await waits for etcd's answer to a deletion, which goes on if ctx ends before.
func (p *Place) await(ctx context.Context, answered <-chan struct{}, result func() error) error {
	select {
	case <-answered:
		return result()
	default:
	}
	wait, cancel := call.Release(ctx, time.Hour)
	defer cancel()
	select {
	case <-answered:
		return result()
	case <-wait.Done():
		return fmt.Errorf("deletion of %q goes on, not answered so far: %w", p.key, context.Cause(ctx))
	}
}

// remove deletes the key if it is still the one that was created, for as long as life lasts. Besides goes with it, and is done
// also if the key is gone. If etcd refuses, it goes on beside, and the error is what etcd has said so far.
func (p *Place) remove(life context.Context, besides ...clientv3.Op) error {
	err := p.delete(life, besides)
	if refused(err) {
		p.insist(func(life context.Context) error { return p.delete(life, besides) })
	}
	return err
}

// delete is remove, up to etcd's answer.
func (p *Place) delete(life context.Context, besides []clientv3.Op) error {
	resp, err := call.Persist(life, p.sess.Client(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := p.sess.Client().KV.Txn(ctx).
			If(p.Guard().Cmp()).
			Then(slices.Concat([]clientv3.Op{clientv3.OpDelete(p.key)}, besides)...).
			Else(besides...).
			Commit()
		if err != nil && mayHaveApplied(err) {
			p.repeated = true
		}
		return resp, err
	})
	if err == nil {
		p.done()
	}
	switch {
	case err != nil && life.Err() != nil:
		return fmt.Errorf("%w: %w: %w", fence.ErrLost, errUnresolved, context.Cause(life))
	case err != nil:
		return fmt.Errorf("release %q: %w", p.key, err)
	case resp.Succeeded, p.repeated && life.Err() == nil:
		// Refused after a lost reply while the lease is alive: nobody else deletes this key, so the lost
		// attempt did. (client/v3 repeats some attempts by itself, and does not say so: then this is taken
		// for a loss. It errs on the safe side.)
		return nil
	case p.repeated:
		return fmt.Errorf("%w: %w", fence.ErrLost, errUnresolved)
	}
	return p.errPlaceLost(errGone)
}

// abandon deletes a key whose creation was given up without an answer. It waits briefly for etcd's, so that in good
// times nothing is left when the caller returns; the rest goes on beside.
func (p *Place) abandon(ctx context.Context) {
	if !p.unresolved {
		p.free()
		return
	}
	gone := make(chan struct{})
	started := p.sess.Go(func(life context.Context) {
		defer close(gone)
		p.erase(life)
	})
	if !started {
		return // the lease is dead or dying: so is the key
	}
	p.done()
	wait, cancel := call.Release(ctx, time.Second)
	defer cancel()
	select {
	case <-gone:
	case <-wait.Done():
	}
}

// done ends the use of a key that etcd has said is gone. If a creation may yet arrive late, it sees to it that this
// leaves no key in line that nobody knows, and the key is not used again. It does not wait.
func (p *Place) done() {
	if !p.unresolved {
		p.free()
		return
	}
	// If the session has ended, so has every key that can still be put under its lease.
	p.sess.Go(func(life context.Context) {
		for _, wait := range lateCreates {
			pause(life, wait)
			p.erase(life)
		}
	})
}

// erase deletes the key, whichever creation it is from: no other place has it.
func (p *Place) erase(life context.Context) {
	erase := func(life context.Context) error {
		_, err := call.Persist(life, p.sess.Client(), func(ctx context.Context) (*clientv3.DeleteResponse, error) {
			return p.sess.Client().KV.Delete(ctx, p.key)
		})
		return err
	}
	if erase(life) != nil {
		p.insist(erase)
	}
}

// refused reports whether etcd has answered a deletion, and with an error: as to a user who may not write there any more. What
// could be made again has been, and what the session's end has done is a loss.
func refused(err error) bool { return err != nil && !errors.Is(err, fence.ErrLost) }

// insist makes a deletion again that etcd has refused, until it is done or the session ends: those behind wait for as long, and
// whoever took the right to write may give it back.
func (p *Place) insist(deletion func(life context.Context) error) {
	p.sess.Go(func(life context.Context) {
		waits := refusals.Backoff()
		for refusal := true; refusal && life.Err() == nil; {
			pause(life, waits.Next())
			refusal = refused(deletion(life))
		}
	})
}
