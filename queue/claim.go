package queue

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/propagation"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/retry"
)

// mostClaims is how many jobs one transaction claims: each is a transaction within it, whose own operations etcd counts, too.
const mostClaims = 64

// claimWithin bounds one attempt to claim, so that the next one meets another endpoint.
const claimWithin = time.Second

// strayAfter is how long a claim in our name may go without an answer that tells of it.
const strayAfter = 500 * time.Millisecond

// hiring claims jobs for as long as ctx lasts.
func (s *shift) hiring(ctx context.Context) {
	var again *time.Timer
	defer func() {
		if again != nil {
			again.Stop()
		}
	}()
	waits := retry.Policy{Initial: 50 * time.Millisecond, Max: time.Second}.Backoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hire:
		}
		s.mu.Lock()
		now := time.Now()
		chosen := s.window.pick(s.worker, min(s.vacancies(), mostClaims), now)
		if len(s.strays) > 0 {
			chosen.wakeAt(s.sweep(now))
		}
		s.mu.Unlock()
		if again != nil {
			again.Stop()
			again = nil
		}
		if !chosen.wake.IsZero() {
			again = time.AfterFunc(max(time.Until(chosen.wake), time.Millisecond), s.hire.give)
		}
		if len(chosen.slots) == 0 {
			continue
		}
		claims, err := s.claim(ctx, chosen)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.Debug("jobs not claimed", zap.Error(err))
			call.Redial(s.client)
			if waits.Wait(ctx) != nil {
				return
			}
			s.hire.give()
			continue
		}
		waits.Reset()
		for _, c := range claims {
			s.ready <- c // it has room for every slot
		}
		s.hire.give() // for what is left, and to look at what was not to be had in time
	}
}

// vacancies is how many jobs may be claimed. What is done but not settled counts once there is much of it: it is not to
// grow without end while etcd is away. The caller holds mu.
func (s *shift) vacancies() int {
	slots := s.opts.slots()
	return min(slots-s.inHand, 2*slots-len(s.active))
}

// target is a job that one transaction tries to claim.
type target struct {
	entry *entry
	place place
	path  string
	mod   int64
}

// claim tries to claim what was chosen, in one transaction, and returns what it got.
//
// Its reply may be lost. It is not sent again then: claims that it has made, or makes later, show in the tail, are in nobody's
// hands, and are given back (see sweep).
func (s *shift) claim(ctx context.Context, chosen choice) ([]*claim, error) {
	slots := make([][]target, len(chosen.slots))
	s.mu.Lock()
	for i, slot := range chosen.slots {
		for _, e := range slot {
			slots[i] = append(slots[i], target{e, e.place, e.path, e.mod})
		}
	}
	s.mu.Unlock()
	ops := make([]clientv3.Op, len(slots))
	for i, slot := range slots {
		ops[i] = s.claimOp(slot)
	}
	attempt, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), claimWithin)
	defer cancel()
	resp, err := s.client.KV.Txn(attempt).
		If(clientv3.Compare(clientv3.CreateRevision(s.keys.paused()), "=", 0), clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.created)).
		Then(ops...).
		Commit()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err != nil {
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.after = now.Add(strayAfter)
			}
		}
		return nil, err
	}
	revision := resp.Header.GetRevision()
	s.sess.Saw(revision)
	s.tail.Heard(revision)
	if !resp.Succeeded {
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.failed(revision, now)
			}
		}
		return nil, nil
	}
	var got []*claim
	for i, slot := range slots {
		reply := (*clientv3.TxnResponse)(resp.Responses[i].GetResponseTxn())
		for n, t := range slot {
			if reply.Succeeded {
				got = append(got, s.claimed(t, revision, reply.Responses[len(reply.Responses)-1].GetResponseRange().GetKvs()[0]))
				break
			}
			if t.entry.failed(revision, now); t.place.key != "" && t.entry.failures > 1 {
				s.blocked[t.place.key] = struct{}{}
				s.undo.give()
			}
			if n+1 < len(slot) {
				reply = (*clientv3.TxnResponse)(reply.Responses[0].GetResponseTxn())
			}
		}
	}
	return got, nil
}

// claimOp claims the first job of a slot that can be had.
func (s *shift) claimOp(slot []target) clientv3.Op {
	var otherwise []clientv3.Op
	for i := len(slot) - 1; i >= 0; i-- {
		t := slot[i]
		claim := s.keys.claims() + t.path
		cmps := []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(s.keys.jobs()+t.path), "=", t.mod),
			clientv3.Compare(clientv3.CreateRevision(claim), "=", 0),
		}
		ops := []clientv3.Op{clientv3.OpPut(claim, s.worker)}
		if t.place.key != "" {
			hold := s.keys.hold(t.place.key)
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(hold), "=", 0))
			ops = append(ops, clientv3.OpPut(hold, t.path))
		}
		ops = append(ops, clientv3.OpGet(s.keys.jobs()+t.path))
		otherwise = []clientv3.Op{clientv3.OpTxn(cmps, ops, otherwise)}
	}
	return otherwise[0]
}

// claimed takes a claim that etcd has confirmed into our hands. The caller holds mu.
func (s *shift) claimed(t target, revision int64, kv *follow.Entry) *claim {
	// The tail will tell of it, if it has not: then what it has told is newer than this answer.
	if e := s.window.entry(t.path); e == t.entry && e.isFree() && s.window.applied < revision {
		s.window.claim(s.window.lane(t.path[:3]), e, s.worker, revision)
	}
	delete(s.strays, t.path)
	c := &claim{shift: s, place: t.place, path: t.path, token: revision, value: kv.Value, settled: make(chan struct{})}
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
	next := now.Add(strayAfter)
	for path, st := range s.strays {
		switch mine := s.active[path]; {
		case mine != nil && mine.token == st.revision:
			delete(s.strays, path)
		case now.Sub(st.seen) >= strayAfter:
			delete(s.strays, path)
			at, err := parsePlace(path)
			if err != nil {
				continue
			}
			s.settler.put(&settlement{claim: s.keys.claim(at), token: st.revision, ops: s.unclaimOps(at), deletes: true})
		}
	}
	return next
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

var errNotHeld = errors.New("queue: the job is no longer this delivery's")

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
	defer c.shift.mu.Unlock()
	if !c.settling {
		c.settling = true
		c.finish(why)
	}
}

// finish says what has become of a claim. The caller holds the shift's mu, and has set settling.
func (c *claim) finish(result error) {
	if c.shift.active[c.path] == c {
		delete(c.shift.active, c.path)
	}
	c.result = result
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
	// Who settles under the delivery's own context has ended that himself.
	if errors.Is(context.Cause(ctx), errSettled) {
		<-c.settled // with the session's end at the latest
		return c.result
	}
	return context.Cause(ctx)
}

// errSettled is the cause of a delivery's context after its job was given up by its handler.
var errSettled = errors.New("queue: the delivery is settled")
