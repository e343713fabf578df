package queue

import (
	"cmp"
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// undoEach is how many claims of lost workers one transaction undoes.
	undoEach = 32

	// undoAfter is how long a worker leaves the undoing to the one before it in turn.
	undoAfter = 100 * time.Millisecond
)

// orphan is a claim whose worker is gone.
type orphan struct {
	place    place
	path     string
	worker   string
	revision int64
}

// orphans are the first claims whose workers are gone and whose undoing falls to a worker, and when to look again for the others. Those who
// live take turns in an order that is another for each that is gone.
func (w *window) orphans(me string, most int, now time.Time) (found []orphan, wake time.Time) {
	if !w.ready || !w.stale {
		return nil, wake
	}
	turns := map[string]int{}
	for _, l := range w.lanes {
		for _, e := range l.entries {
			if e.worker == "" || w.peers[e.worker] != nil {
				continue
			}
			turn, known := turns[e.worker]
			if !known {
				turn = w.turn(me, e.worker)
				turns[e.worker] = turn
			}
			if e.leftTo != e.worker {
				e.left, e.leftTo = now, e.worker // since when it is seen to be one
			}
			if at := e.left.Add(time.Duration(turn) * undoAfter); at.After(now) {
				if wake.IsZero() || at.Before(wake) {
					wake = at
				}
				continue
			}
			if len(found) == most {
				return found, now
			}
			found = append(found, orphan{e.place, e.path, e.worker, e.claim})
		}
	}
	if len(found) == 0 && wake.IsZero() {
		w.stale = false
	}
	return found, wake
}

// turn is how many workers come before one to undo what a lost one has claimed.
func (w *window) turn(me, gone string) int {
	n, dead := 0, hashOf(gone)
	mine := draw(dead, hashOf(me))
	for id, p := range w.peers {
		if id != me && draw(dead, p.hash) > mine {
			n++
		}
	}
	return n
}

// undoing undoes the claims of workers that are gone, for as long as ctx lasts.
func (s *shift) undoing(ctx context.Context) {
	var again *time.Timer
	defer func() {
		if again != nil {
			again.Stop()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.undo:
		}
		s.mu.Lock()
		found, wake := s.window.orphans(s.worker, undoEach, time.Now())
		blocked := s.blocked
		s.blocked = map[string]struct{}{}
		s.mu.Unlock()
		for hash := range blocked {
			if err := s.letGo(ctx, hash); err != nil && ctx.Err() == nil {
				s.log.Warn("ordering key not looked at", zap.Error(err)) // it comes again with the next claim that fails
			}
		}
		if len(found) > 0 {
			if err := s.undoAll(ctx, found); err != nil {
				if ctx.Err() != nil {
					return
				}
				s.log.Warn("claims of a lost worker not undone, trying again", zap.Int("claims", len(found)), zap.Error(err))
				wake = time.Now().Add(refusedFor)
			} else {
				wake = time.Now().Add(undoAfter) // if the tail is behind by then it is done twice, to no effect
			}
		}
		if again != nil {
			again.Stop()
			again = nil
		}
		if !wake.IsZero() {
			again = time.AfterFunc(max(time.Until(wake), time.Millisecond), s.undo.give)
		}
	}
}

// undoAll puts jobs back whose workers are gone, with an attempt more, or makes them dead letters.
func (s *shift) undoAll(ctx context.Context, found []orphan) error {
	reads := make([]clientv3.Op, len(found))
	for i, o := range found {
		reads[i] = clientv3.OpGet(s.keys.jobs() + o.path)
	}
	resp, err := call.Do(ctx, s.client, "read what a lost worker had claimed", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.KV.Txn(ctx).Then(reads...).Commit()
	})
	if err != nil {
		return err
	}
	var (
		ops  []clientv3.Op
		ends []outcome // of the deliveries, as each of ops puts them
		size int
	)
	commit := func() error {
		if len(ops) == 0 {
			return nil
		}
		// Done twice it has no effect: the claim is gone.
		resp, err := call.Do(ctx, s.client, "undo claims of a lost worker", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return s.client.KV.Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return err
		}
		for i, r := range resp.Responses {
			if r.GetResponseTxn().GetSucceeded() {
				s.measures.attempt(ctx, ends[i])
			}
		}
		ops, ends, size = nil, nil, 0
		return nil
	}
	for i, o := range found {
		then, n, end := s.unclaimOps(o.place), 0, endUncounted
		cmps := []clientv3.Cmp{
			clientv3.Compare(clientv3.CreateRevision(s.keys.claims()+o.path), "=", o.revision),
			clientv3.Compare(clientv3.CreateRevision(s.keys.worker(o.worker)), "=", 0),
		}
		kvs := resp.Responses[i].GetResponseRange().GetKvs()
		if len(kvs) > 0 {
			var back []clientv3.Op
			back, n, end = s.backOps(o, kvs[0].Value)
			then = append(then, back...)
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(s.keys.jobs()+o.path), "=", kvs[0].ModRevision))
		} else {
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(s.keys.jobs()+o.path), "=", 0))
		}
		if size+n > mostBytes {
			if err := commit(); err != nil {
				return err
			}
		}
		ops, ends, size = append(ops, clientv3.OpTxn(cmps, then, nil)), append(ends, end), size+n
	}
	return commit()
}

// backOps put a job back whose worker is gone, which is how its delivery ends.
func (s *shift) backOps(o orphan, value []byte) (ops []clientv3.Op, size int, end outcome) {
	why := "worker lost: " + o.worker
	r, err := decodeRecord(value)
	if err != nil {
		ops, size = s.deadOps(o.place, record{Item: value}, 1, err.Error())
		return ops, size, endDead
	}
	attempts := r.Attempts + 1
	if s.maxAttempts > 0 && attempts >= s.maxAttempts {
		s.log.Warn("dead letter", zap.String("id", cmp.Or(r.ID, o.place.stem)), zap.Int("attempts", attempts), zap.String("reason", why))
		ops, size = s.deadOps(o.place, r, attempts, why)
		return ops, size, endDead
	}
	ops, size = s.againOps(o.place, r, attempts, 0, why)
	return ops, size, endLost
}

// letGo deletes the hold of an ordering key whose claim is gone. They come and go together: a stranger has deleted the one and not the other.
func (s *shift) letGo(ctx context.Context, hash string) error {
	key := s.keys.hold(hash)
	got, err := call.Do(ctx, s.client, "read who holds a key", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.KV.Get(ctx, key)
	})
	if err != nil || len(got.Kvs) == 0 {
		return err
	}
	hold := got.Kvs[0]
	_, err = call.Do(ctx, s.client, "let go of a key", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", hold.ModRevision),
				clientv3.Compare(clientv3.CreateRevision(s.keys.claims()+string(hold.Value)), "=", 0)).
			Then(clientv3.OpDelete(key)).
			Commit()
	})
	return err
}
