package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// mostSettled is how many claims one transaction settles, and mostOps what operations they may take: etcd takes 128.
	mostSettled = 64
	mostOps     = 128

	// mostBytes bounds what one transaction writes, far enough below what etcd takes.
	mostBytes = 1 << 20

	// deskHands is how many transactions that settle are under way at a time, of each kind: while one is, what comes waits for the next,
	// and goes together.
	deskHands = 2

	// refusedFor is how long a settlement waits that etcd has refused, as it does puts while its database is full.
	refusedFor = time.Second
)

// settlement ends a claim: with its job's deletion, with the job put back, or made a dead letter.
type settlement struct {
	claim   string // key
	token   int64
	job     string // key that is gone afterwards, or "" if one stays
	of      *claim // whose job it is, if there is one
	ops     []clientv3.Op
	deletes bool // ops only delete, which etcd lets through when its database is full
	size    int  // of what is put
	ending  outcome
	release []clientv3.Op   // deletes the claim and leaves the job as it is, if ops cannot be had while the worker stops
	done    func(err error) // told what has become of it, once; may be nil
}

// settler settles many claims at a time. A claim that is gone fails alone.
type settler struct {
	shift *shift

	mu      sync.Mutex
	changed *sync.Cond
	deletes []*settlement // guarded by mu
	puts    []*settlement // guarded by mu
	busy    int           // guarded by mu: hands that are at it
	closing bool          // guarded by mu
}

func (q *settler) init(s *shift) {
	q.shift = s
	q.changed = sync.NewCond(&q.mu)
}

// start lets the hands work, until finish or the end of the shift's life.
func (q *settler) start(desk *sync.WaitGroup) {
	context.AfterFunc(q.shift.life, func() {
		q.mu.Lock() // or who has just seen that it goes on, and is about to wait, is not woken
		defer q.mu.Unlock()
		q.changed.Broadcast()
	})
	for range deskHands {
		desk.Go(func() { q.work(&q.deletes) })
		desk.Go(func() { q.work(&q.puts) })
	}
}

// put has a claim settled. It does not wait, and may be called with the shift's mu held unless done is set.
func (q *settler) put(st *settlement) {
	q.mu.Lock()
	if q.shift.life.Err() != nil { // nobody is at it any more
		q.mu.Unlock()
		st.over(context.Cause(q.shift.life))
		return
	}
	defer q.mu.Unlock()
	if st.deletes {
		q.deletes = append(q.deletes, st)
	} else {
		q.puts = append(q.puts, st)
	}
	q.changed.Broadcast()
}

// finish waits until all is settled, or the shift's life is over.
func (q *settler) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = true
	q.changed.Broadcast()
	for len(q.deletes)+len(q.puts)+q.busy > 0 && q.shift.life.Err() == nil {
		q.changed.Wait()
	}
}

// work settles what is in a line.
func (q *settler) work(line *[]*settlement) {
	for {
		batch := q.take(line)
		if batch == nil {
			return
		}
		q.settle(batch)
		q.mu.Lock()
		q.busy--
		q.changed.Broadcast()
		q.mu.Unlock()
	}
}

// take waits for settlements, and returns as many as one transaction takes; none once the shift's life is over.
func (q *settler) take(line *[]*settlement) []*settlement {
	q.mu.Lock()
	for len(*line) == 0 && q.shift.life.Err() == nil {
		q.changed.Wait()
	}
	if q.shift.life.Err() != nil {
		late := *line
		*line = nil
		q.mu.Unlock()
		for _, st := range late { // who is told takes the shift's mu, under which others put
			st.over(context.Cause(q.shift.life))
		}
		return nil
	}
	defer q.mu.Unlock()
	n, size, ops := 0, 0, 0
	for n < len(*line) && n < mostSettled {
		size, ops = size+(*line)[n].size, ops+len((*line)[n].ops)
		if n > 0 && (size > mostBytes || ops > mostOps) {
			break
		}
		n++
	}
	batch := (*line)[:n:n]
	*line = (*line)[n:]
	q.busy++
	return batch
}

// over tells what has become of a settlement.
func (st *settlement) over(err error) {
	if st.done != nil {
		st.done(err)
	}
}

// op settles one claim within a transaction, if that is still there.
func (st *settlement) op() clientv3.Op {
	var otherwise []clientv3.Op
	if st.job != "" {
		otherwise = []clientv3.Op{clientv3.OpGet(st.job, clientv3.WithCountOnly())}
	}
	return clientv3.OpTxn([]clientv3.Cmp{st.held()}, st.ops, otherwise)
}

// held is the condition that the claim is there.
func (st *settlement) held() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(st.claim), "=", st.token)
}

// told is what has become of a claim, by the answer of a transaction that was to settle it; doubt is that of an attempt before, whose reply was
// lost. Nobody but us undoes the claim while the worker's key is there. But a stranger may have deleted it, and another worker have done the
// job since: then the tail has told of a claim that went without its job.
func (st *settlement) told(reply *etcdserverpb.TxnResponse, doubt error) error {
	switch {
	case reply.GetSucceeded():
		return nil
	case doubt == nil:
		return errClaimDeleted
	case st.job == "":
		return nil
	case reply.GetResponses()[0].GetResponseRange().GetCount() > 0:
		return errClaimDeleted
	}
	return st.of.resolve(doubt)
}

// resolve is what has become of a claim that is gone with its job, after a reply was lost. The tail has been heard.
func (c *claim) resolve(doubt error) error {
	c.shift.mu.Lock()
	defer c.shift.mu.Unlock()
	switch {
	case c.robbed:
		return errClaimDeleted
	case c.resets != c.shift.resets: // of some changes the tail has not told
		return lostWith(errClaimDeleted, doubt)
	default:
		return nil
	}
}

// hearWithin bounds the wait for the tail where an answer was lost.
const hearWithin = 3 * time.Second

// hear waits until the tail has told of everything up to a revision, and reports whether it has.
func (s *shift) hear(revision int64) bool {
	ctx, cancel := context.WithTimeout(s.life, hearWithin)
	defer cancel()
	return s.tail.Reached(ctx, revision) == nil
}

// settle commits a batch, again and again until it is known what has become of it: all at once, and if a claim is gone each for itself.
//
// The worker's key is compared, too, so that what is refused after a lost reply is resolved (see told).
func (q *settler) settle(batch []*settlement) {
	s := q.shift
	here := clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.created)
	all, cmps := make([]clientv3.Op, 0, 2*len(batch)), append(make([]clientv3.Cmp, 0, len(batch)+1), here)
	for _, st := range batch {
		all = append(all, st.ops...)
		cmps = append(cmps, st.held())
	}
	resp, doubt, err := q.commit(cmps, all, nil)
	if err == nil && !resp.Succeeded {
		each := make([]clientv3.Op, len(batch))
		for i, st := range batch {
			each[i] = st.op()
		}
		resp, doubt, err = q.commit([]clientv3.Cmp{here}, each, doubt)
	} else if err == nil {
		s.sess.Saw(resp.Header.GetRevision())
		for _, st := range batch {
			st.over(nil)
		}
		return
	}
	switch {
	case err != nil && s.life.Err() != nil:
		for _, st := range batch {
			st.over(lostWith(context.Cause(s.life), doubt))
		}
	case err != nil:
		q.refused(batch, err)
	case !resp.Succeeded:
		for _, st := range batch {
			st.over(lostWith(errWorkerKey, doubt))
		}
		s.end(errWorkerKey)
		s.sess.Probe()
	default:
		s.sess.Saw(resp.Header.GetRevision())
		heard := doubt == nil || s.hear(resp.Header.GetRevision())
		for i, st := range batch {
			result := st.told(resp.Responses[i].GetResponseTxn(), doubt)
			if result == nil && !heard && !resp.Responses[i].GetResponseTxn().GetSucceeded() {
				result = lostWith(errClaimDeleted, doubt)
			}
			st.over(result)
		}
	}
}

// commit commits a transaction for as long as the shift lives. The doubt that it returns is the error of an attempt that may have been
// applied without an answer.
func (q *settler) commit(cmps []clientv3.Cmp, ops []clientv3.Op, doubt error) (resp *clientv3.TxnResponse, unsure, err error) {
	s := q.shift
	resp, err = call.Persist(s.life, s.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := s.client.KV.Txn(ctx).If(cmps...).Then(ops...).Commit()
		if err != nil && (retry.Ambiguous(err) || ctx.Err() != nil) {
			doubt = err
		}
		return resp, err
	})
	return resp, doubt, err
}

// refused deals with a batch that etcd does not take: each alone, as one may spoil it for the others; and one that is alone after a pause, as
// it is mostly the database that is full. A worker that stops leaves the job as it is.
func (q *settler) refused(batch []*settlement, err error) {
	s := q.shift
	if len(batch) > 1 && !errors.Is(err, rpctypes.ErrNoSpace) {
		for _, st := range batch {
			q.settle([]*settlement{st})
		}
		return
	}
	s.log.Warn("jobs not given back, trying again", zap.Int("jobs", len(batch)), zap.Error(err))
	q.mu.Lock()
	closing := q.closing
	q.mu.Unlock()
	if !closing {
		rest(s.life, refusedFor)
	}
	q.mu.Lock()
	closing = q.closing
	q.mu.Unlock()
	for _, st := range batch {
		if closing {
			st.ops, st.job, st.size, st.deletes, st.ending = st.release, "", 0, true, endReleased
			if st.ops == nil || errors.Is(err, rpctypes.ErrPermissionDenied) {
				st.over(fmt.Errorf("queue: not settled: %w", err))
				continue
			}
		}
		q.put(st)
	}
}

// lostWith is the error of a claim that was lost before it was known to be settled; doubt is that of an attempt that may have settled it, or
// nil.
func lostWith(why, doubt error) error {
	if doubt == nil {
		return why
	}
	return fmt.Errorf("%w: %w: %w", why, ErrUnknown, doubt)
}

// settle begins to end the claim by its holder, in one way or another. It reports whether this is the one that does.
func (c *claim) settle(how outcome) bool {
	c.shift.mu.Lock()
	defer c.shift.mu.Unlock()
	if c.settling {
		return false
	}
	c.settling, c.ending = true, how
	return true
}

// give has a claim settled that settle has begun to end.
func (c *claim) give(how outcome, job string, ops []clientv3.Op, deletes bool, size int) {
	s := c.shift
	st := &settlement{
		claim: s.keys.claims() + c.path, token: c.token, job: job, of: c, ending: how,
		ops: ops, deletes: deletes, size: size, release: s.unclaimOps(c.place),
	}
	st.done = func(err error) {
		s.mu.Lock()
		c.finish(err)
		s.mu.Unlock()
		c.end(errSettled)
		s.settled(st.ending, err)
		s.hire.give()
	}
	s.settler.put(st)
}

// doneOps delete a job that is done, with its claim.
func (c *claim) doneOps() []clientv3.Op {
	s := c.shift
	ops := append(s.unclaimOps(c.place), clientv3.OpDelete(s.keys.jobs()+c.path))
	if id := c.record.ID; id != "" && !generated(id) {
		ops = append(ops, clientv3.OpDelete(s.keys.waiting(id)))
	}
	return ops
}

// ack has the job deleted, and does not wait.
func (c *claim) ack() {
	if c.settle(endAcked) {
		c.give(endAcked, c.shift.keys.jobs()+c.path, c.doneOps(), true, 0)
	}
}

// release has the job given back as if it had never been claimed.
func (c *claim) release() {
	if c.settle(endReleased) {
		c.end(errSettled)
		c.give(endReleased, "", c.shift.unclaimOps(c.place), true, 0)
	}
}

// nack has the job put back, to be claimed after a while.
func (c *claim) nack(after time.Duration, why string) {
	if c.settle(endRetried) {
		c.end(errSettled)
		ops, size := c.shift.againOps(c.place, c.record, c.attempt, after, why)
		c.give(endRetried, "", append(ops, c.shift.unclaimOps(c.place)...), false, size)
	}
}

// die makes the job a dead letter.
func (c *claim) die(why string) {
	if c.settle(endDead) {
		c.end(errSettled)
		ops, size := c.shift.deadOps(c.place, c.record, c.attempt, why)
		c.give(endDead, "", append(ops, c.shift.unclaimOps(c.place)...), false, size)
	}
}

// commit deletes the job and does the caller's operations, in one transaction of its own.
func (c *claim) commit(ctx context.Context, ops []clientv3.Op) error {
	s := c.shift
	if !c.settle(endAcked) {
		return c.await(ctx)
	}
	both, cancel := context.WithCancelCause(s.life)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	var doubt error
	resp, err := call.Persist(both, s.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		resp, err := s.client.KV.Txn(ctx).
			If(c.guard().Cmp(), clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.created)).
			Then(append(c.doneOps(), ops...)...).
			Else(clientv3.OpGet(s.key, clientv3.WithCountOnly()), clientv3.OpGet(s.keys.jobs()+c.path, clientv3.WithCountOnly())).
			Commit()
		if err != nil && (retry.Ambiguous(err) || ctx.Err() != nil) {
			doubt = err
		}
		return resp, err
	})
	var result error
	switch {
	case err != nil && s.life.Err() == nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		c.settling, c.ending = false, endLost // it is held, or else will turn out to be gone
		return fmt.Errorf("queue: acknowledge: %w", err)
	case err != nil:
		result = lostWith(context.Cause(s.life), doubt)
	case resp.Succeeded:
		s.sess.Saw(resp.Header.GetRevision())
	case doubt == nil:
		result = errClaimDeleted
	case resp.Responses[0].GetResponseRange().GetCount() == 0 || !s.hear(resp.Header.GetRevision()):
		result = lostWith(errWorkerKey, doubt)
	case resp.Responses[1].GetResponseRange().GetCount() > 0:
		result = errClaimDeleted
	default:
		result = c.resolve(doubt)
	}
	s.mu.Lock()
	c.finish(result)
	s.mu.Unlock()
	c.end(errSettled)
	s.settled(endAcked, result)
	s.hire.give()
	return result
}
