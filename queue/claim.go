package queue

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/propagation"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// strayAfter is how long a claim in our name may go without an answer that tells of it.
const strayAfter = 500 * time.Millisecond

// claimed takes a claim that etcd has confirmed into our hands. The caller holds mu.
func (s *shift) claimed(t target, revision int64, kv *follow.Entry) *claim {
	// The tail will tell of it, if it has not: then what it has told is newer than this answer.
	if e := s.window.entry(t.path); e == t.entry && e.isFree() && s.window.applied < revision {
		s.window.claim(s.window.lane(t.path[:3]), e, s.worker, revision)
	}
	delete(s.strays, t.path)
	c := &claim{shift: s, place: t.place, path: t.path, token: revision, value: kv.Value, resets: s.resets, settled: make(chan struct{})}
	c.record, c.broken = decodeRecord(kv.Value)
	c.attempt = c.record.Attempts + 1
	base := s.values
	if c.record.Trace != "" {
		base = propagation.TraceContext{}.Extract(base, propagation.MapCarrier{"traceparent": c.record.Trace})
	}
	inner, end := context.WithCancelCause(base)
	c.ctx, c.end = &owned{inner, s, end}, end
	s.active[t.path] = c
	s.inHand++
	if s.life.Err() != nil { // else its end finds the claim
		end(context.Cause(s.life))
	}
	return c
}

// sweep gives back claims in our name that no answer has told us of, and says when to look again. The caller holds mu.
func (s *shift) sweep(now time.Time) time.Time {
	for path, st := range s.strays {
		switch mine := s.active[path]; {
		case mine != nil && mine.token == st.revision:
			delete(s.strays, path)
		case s.window.asks(path): // the answer is under way, perhaps, and would take it into our hands
		case now.Sub(st.seen) >= strayAfter:
			delete(s.strays, path)
			at, err := parsePlace(path)
			if err != nil {
				continue
			}
			s.settler.put(&settlement{claim: s.keys.claim(at), token: st.revision, ops: s.unclaimOps(at), deletes: true})
		}
	}
	return now.Add(strayAfter)
}

// unclaimOps deletes a claim and what goes with it.
func (s *shift) unclaimOps(at place) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpDelete(s.keys.claim(at))}
	if at.key != "" {
		ops = append(ops, clientv3.OpDelete(s.keys.hold(at.key)))
	}
	return ops
}

// claim is a job in our hands.
type claim struct {
	shift   *shift
	place   place
	path    string
	token   int64
	value   []byte
	record  record
	broken  error // why the record cannot be read
	attempt int
	ctx     *owned
	end     context.CancelCauseFunc

	settling bool          // guarded by shift.mu
	ending   outcome       // guarded by shift.mu: how, while it is settling
	robbed   bool          // guarded by shift.mu: the claim is gone without its job
	resets   int           // of the shift, when it was claimed
	settled  chan struct{} // closed when it is known what has become of it
	result   error         // read after settled
}

// owned is a claim's context. It looks at the clock as its session's does.
type owned struct {
	context.Context
	shift *shift
	end   context.CancelCauseFunc
}

// Err is the context's, after the session has looked at the clock.
func (o *owned) Err() error {
	if life := o.shift.sess.Context(); life.Err() != nil {
		o.end(context.Cause(life))
	}
	return o.Context.Err()
}

func (c *claim) guard() fence.Guard {
	return fence.Guard{Key: c.shift.keys.claims() + c.path, Token: fence.Token(c.token)}
}

// id is the job's: its producer's own, or that of where it stood first.
func (c *claim) id() string {
	if c.record.ID != "" {
		return c.record.ID
	}
	return c.place.stem
}

// lose ends a claim that is not ours any more.
func (c *claim) lose(why error) {
	c.end(why)
	c.shift.mu.Lock()
	first := !c.settling
	if first {
		c.settling = true
		c.finish(why)
	}
	c.shift.mu.Unlock()
	if first && c.shift.life.Err() == nil {
		c.shift.settled(endLost, why)
	}
}

// finish says what has become of a claim. The caller holds the shift's mu, and has set settling.
func (c *claim) finish(result error) {
	if c.shift.active[c.path] == c {
		delete(c.shift.active, c.path)
	}
	if c.result = result; result != nil {
		c.ending = endLost
	}
	close(c.settled)
}

// isSettling reports whether the claim is being given up by ourselves.
func (c *claim) isSettling() bool {
	c.shift.mu.Lock()
	defer c.shift.mu.Unlock()
	return c.settling
}

// await waits until it is known what has become of a claim.
func (c *claim) await(ctx context.Context) error {
	select {
	case <-c.settled:
		return c.result
	case <-ctx.Done():
	}
	// Who settles under the delivery's own context may have ended that himself. Or it has ended for a loss: then the answer is not that,
	// since what was sent before may have been done.
	if cause := context.Cause(ctx); errors.Is(cause, errSettled) || errors.Is(cause, fence.ErrLost) {
		<-c.settled // with the session's end at the latest
		return c.result
	}
	return context.Cause(ctx)
}

// errSettled is the cause of a delivery's context after its job was given up by its handler.
var errSettled = errors.New("queue: the delivery is settled")
