package queue

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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
const claimWithin = 500 * time.Millisecond

// strayAfter is how long a claim in our name may go without an answer that tells of it.
const strayAfter = 500 * time.Millisecond

// hiring claims jobs for as long as ctx lasts.
//
// Two transactions may be under way, if the second is worth it: what they bring is handed on in the order in which they were sent.
func (s *shift) hiring(ctx context.Context) {
	var again *time.Timer
	defer func() {
		if again != nil {
			again.Stop()
		}
	}()
	waits := retry.Policy{Initial: 50 * time.Millisecond, Max: time.Second}.Backoff()
	before := make(chan struct{}) // closed when the claim before has been handed on
	close(before)
	var underWay sync.WaitGroup
	defer underWay.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hire:
		}
		s.mu.Lock()
		now := time.Now()
		var chosen choice
		if idle, spare := s.vacancies(now); s.claiming == 0 || s.claiming == 1 && idle+spare >= worthASecond {
			chosen = s.window.pick(s.worker, idle, spare, now)
		}
		wake := chosen.wake
		if len(s.strays) > 0 {
			chosen.wakeAt(s.sweep(now))
			wake = chosen.wake
		}
		if len(chosen.slots) > 0 {
			s.claiming++
			s.asked += len(chosen.slots)
		}
		slots := targets(chosen)
		r := s.window.together(slots)
		s.mu.Unlock()
		if again != nil {
			again.Stop()
			again = nil
		}
		if !wake.IsZero() {
			again = time.AfterFunc(max(time.Until(wake), time.Millisecond), s.hire.give)
		}
		if len(slots) == 0 {
			continue
		}
		turn, done := before, make(chan struct{})
		before = done
		underWay.Go(func() {
			defer close(done)
			claims, err := s.claim(s.life, slots, r) // to its end also when the worker stops: what it claims is given back
			if err != nil && ctx.Err() == nil {
				s.log.Debug("jobs not claimed", zap.Error(err))
				call.Redial(s.client)
			}
			<-turn
			if err != nil {
				_ = waits.Wait(ctx) // in turn, as a Backoff belongs to one at a time
			} else {
				waits.Reset()
			}
			for _, c := range claims {
				s.ready <- c // it has room for every slot
			}
			s.mu.Lock()
			s.claiming--
			s.asked -= len(slots)
			s.mu.Unlock()
			s.hire.give() // for what is left, and to look in time at what was not to be had
		})
	}
}

// worthASecond is how many jobs are worth a second transaction beside one under way. Fewer wait for it, and are claimed in the order of the
// line.
const worthASecond = 24

// vacancies is how many handlers wait for a job that is not yet asked for, and how many more it is worth to have at hand: no more than are begun
// within about 100 ms, as others cannot have them. Together they are what one transaction claims. What is done but not settled counts once there
// is much of it: it is not to grow without end while etcd is away. The caller holds mu.
func (s *shift) vacancies(now time.Time) (idle, spare int) {
	held := s.inHand + s.asked
	room := min(mostClaims, s.opts.slots()-held, 2*s.opts.slots()-len(s.active)-s.asked)
	idle = max(0, min(s.opts.Concurrency-held, room))
	ahead := min(s.opts.Prefetch, int(s.pace.now(now)))
	spare = max(0, min(s.opts.Concurrency+ahead-held-idle, room-idle))
	return idle, spare
}

// pace is how many jobs are done in paceOver: a count that fades.
type pace struct {
	count float64
	at    time.Time
}

const paceOver = 100 * time.Millisecond

func (p *pace) now(t time.Time) float64 {
	return p.count * math.Exp(-float64(t.Sub(p.at))/float64(paceOver))
}

// done counts one.
func (p *pace) done(t time.Time) {
	p.count, p.at = p.now(t)+1, t
}

// target is a job that one transaction tries to claim.
type target struct {
	entry *entry
	place place
	path  string
	mod   int64
}

// targets are what a choice names. The caller holds mu.
func targets(chosen choice) [][]target {
	slots := make([][]target, len(chosen.slots))
	for i, slot := range chosen.slots {
		for _, e := range slot {
			e.asked = true
			slots[i] = append(slots[i], target{e, e.place, e.path, e.mod})
		}
	}
	return slots
}

// run is the part of the line that jobs to be claimed are in, if they are of one priority and hardly any others are between them: then they are
// read at once, and not each for itself. It is bare if none of the others is claimed and no ordering key is to be minded: then one comparison
// says that all of them are free.
type run struct {
	from, to string // "" if there is none
	bare     bool
}

// together looks for the run that jobs to be claimed are in. The caller holds mu.
func (w *window) together(slots [][]target) run {
	const few = 4
	if len(slots) < few {
		return run{}
	}
	r := run{slots[0][0].path, slots[len(slots)-1][0].path, true}
	for _, slot := range slots {
		if len(slot) > 1 || slot[0].path[:3] != r.from[:3] {
			return run{}
		}
	}
	l := w.lane(r.from[:3])
	first, _ := l.find(r.from)
	last, _ := l.find(r.to)
	if last-first > len(slots)+len(slots)/few {
		return run{}
	}
	for _, e := range l.entries[first : last+1] {
		if e.worker != "" || e.place.key != "" {
			r.bare = false
		}
	}
	return r
}

// claim tries to claim jobs, in one transaction, and returns what it got.
//
// Its reply may be lost. It is not sent again then: claims that it has made, or makes later, show in the tail, are in nobody's
// hands, and are given back (see sweep).
func (s *shift) claim(ctx context.Context, slots [][]target, r run) (got []*claim, err error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.asked = false
				if err != nil {
					t.entry.after = time.Now().Add(strayAfter)
				}
			}
		}
	}()
	if r.bare {
		if got, all, err := s.claimRun(ctx, slots, r); all || err != nil {
			return got, err
		}
	}
	return s.claimEach(ctx, slots, r)
}

// commit sends a transaction that claims, if the queue is not paused and the worker's key is there.
func (s *shift) commit(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), claimWithin)
	defer cancel()
	resp, err := s.client.KV.Txn(ctx).
		If(append(cmps,
			clientv3.Compare(clientv3.CreateRevision(s.keys.paused()), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.created))...).
		Then(ops...).
		Commit()
	if err == nil {
		s.sess.Saw(resp.Header.GetRevision())
		s.tail.Heard(resp.Header.GetRevision())
	}
	return resp, err
}

// claimRun claims all jobs of a run, if nobody has claimed any. Whether they are all there is not compared, which would cost as much as the
// claims: the line is one worker's, mostly, who knows. One that is gone is claimed as well, and let go.
func (s *shift) claimRun(ctx context.Context, slots [][]target, r run) (got []*claim, all bool, err error) {
	ops := make([]clientv3.Op, len(slots), len(slots)+1)
	for i, slot := range slots {
		ops[i] = clientv3.OpPut(s.keys.claims()+slot[0].path, s.worker)
	}
	ops = append(ops, clientv3.OpGet(s.keys.jobs()+r.from, clientv3.WithRange(s.keys.jobs()+r.to+"\x00")))
	free := clientv3.Compare(clientv3.CreateRevision(s.keys.claims()+r.from), "=", 0).WithRange(s.keys.claims() + r.to + "\x00")
	resp, err := s.commit(ctx, []clientv3.Cmp{free}, ops)
	if err != nil || !resp.Succeeded {
		return nil, false, err
	}
	values := byPath(s.keys, resp.Responses[len(slots)].GetResponseRange())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slot := range slots {
		t := slot[0]
		if kv := values[t.path]; kv != nil {
			got = append(got, s.claimed(t, resp.Header.GetRevision(), kv))
			continue
		}
		t.entry.failed(resp.Header.GetRevision(), time.Now())
		s.settler.put(&settlement{claim: s.keys.claims() + t.path, token: resp.Header.GetRevision(), ops: s.unclaimOps(t.place), deletes: true})
	}
	return got, true, nil
}

// claimEach claims jobs each for itself, or one in its place.
func (s *shift) claimEach(ctx context.Context, slots [][]target, r run) ([]*claim, error) {
	ops := make([]clientv3.Op, len(slots), len(slots)+1)
	for i, slot := range slots {
		ops[i] = s.claimOp(slot, r.from != "")
	}
	if r.from != "" {
		ops = append(ops, clientv3.OpGet(s.keys.jobs()+r.from, clientv3.WithRange(s.keys.jobs()+r.to+"\x00")))
	}
	resp, err := s.commit(ctx, nil, ops)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, revision := time.Now(), resp.Header.GetRevision()
	if !resp.Succeeded {
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.failed(revision, now)
			}
		}
		return nil, nil
	}
	var values map[string]*follow.Entry
	if r.from != "" {
		values = byPath(s.keys, resp.Responses[len(slots)].GetResponseRange())
	}
	var got []*claim
	for i, slot := range slots {
		reply := (*clientv3.TxnResponse)(resp.Responses[i].GetResponseTxn())
		for n, t := range slot {
			if reply.Succeeded {
				kv := values[t.path]
				if kv == nil {
					kv = reply.Responses[len(reply.Responses)-1].GetResponseRange().GetKvs()[0]
				}
				got = append(got, s.claimed(t, revision, kv))
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

// byPath are jobs that were read, by path.
func byPath(keys layout, read *etcdserverpb.RangeResponse) map[string]*follow.Entry {
	values := make(map[string]*follow.Entry, len(read.GetKvs()))
	for _, kv := range read.GetKvs() {
		values[string(kv.Key[len(keys.jobs()):])] = kv
	}
	return values
}

// claimOp claims the first job of a slot that can be had. It reads it, unless that is done otherwise.
func (s *shift) claimOp(slot []target, read bool) clientv3.Op {
	var otherwise []clientv3.Op
	for _, t := range slices.Backward(slot) {
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
		if !read {
			ops = append(ops, clientv3.OpGet(s.keys.jobs()+t.path))
		}
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
