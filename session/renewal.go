package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/boottime"
	"github.com/etcdkit/etcdkit/internal/call"
)

// maxInFlight bounds the renewals that wait for an answer. Timeouts keep them below it; it is what holds
// if they do not.
const maxInFlight = 8

// errUnanswered stands for the reason when no renewal failed and none was answered.
var errUnanswered = errors.New("renewals were sent and not answered")

// Why a session ends before its window is over.
var (
	errRevoked      = fmt.Errorf("%w: revoked before its TTL was over", ErrLost)
	errOtherCluster = fmt.Errorf("%w: another etcd cluster answers at the endpoints", ErrLost)
	errRestored     = fmt.Errorf("%w: etcd's revision went back", ErrLost)
)

// renewal is the goroutine that keeps a session's lease alive, and all it remembers. Renewals overlap: each is
// a goroutine of its own, and each answer counts from its own sending, in whatever order they arrive.
type renewal struct {
	s       *Session
	replies chan reply
	next    *time.Timer // sends
	expiry  *time.Timer // ends the session; set anew from s.until when it fires early

	lastSent   boottime.Instant
	rtt        time.Duration // of the last answer
	inFlight   int
	unanswered int // turns of sending since the last answer
	lastErr    error

	cluster uint64 // that the lease belongs to
}

// reply is what came of one renewal.
type reply struct {
	sent boottime.Instant
	saw  int64 // what was known of etcd's history then
	resp *clientv3.LeaseKeepAliveResponse
	err  error
}

func newRenewal(s *Session, sent boottime.Instant, grant *clientv3.LeaseGrantResponse) *renewal {
	s.Saw(grant.GetRevision())
	r := &renewal{
		s:        s,
		replies:  make(chan reply, maxInFlight),
		lastSent: sent,
		rtt:      boottime.Now().Sub(sent),
		cluster:  grant.GetClusterId(),
		expiry:   time.NewTimer(s.remaining()),
	}
	r.next = time.NewTimer(r.untilNext())
	return r
}

// run renews until the session ends, by itself or by others.
func (r *renewal) run() {
	defer r.next.Stop()
	defer r.expiry.Stop()
	for {
		select {
		case <-r.s.ctx.Done():
			r.s.over()
			r.s.log.Info("session ended", zap.Error(context.Cause(r.s.ctx)))
			return
		case <-r.expiry.C:
			r.checkExpiry()
		case <-r.next.C:
			r.send()
		case <-r.s.probe:
			r.send()
		case answer := <-r.replies:
			r.inFlight--
			r.receive(answer)
		}
	}
}

// send launches a renewal and arms the timer for what goes out beside it. That is two, one right after the other, if there are several
// endpoints: gRPC gives each call to the next of them, and with other calls of the client in between, a single one could meet the member
// that hangs each time.
func (r *renewal) send() {
	sent, saw := boottime.Now(), r.s.saw.Get()
	r.next.Reset(r.s.window.resendAfter(r.unanswered, r.rtt))
	copies := 1
	if r.unanswered > 0 {
		call.Redial(r.s.client)
		copies = min(2, len(r.s.client.Endpoints()))
	}
	if r.inFlight == maxInFlight {
		return
	}
	r.unanswered++
	r.lastSent = sent
	for range min(copies, maxInFlight-r.inFlight) {
		r.launch(sent, saw)
	}
}

// launch asks for one renewal. Its own timeout keeps a request on a hung connection from staying for ever, and is long enough for a slow
// but working path.
func (r *renewal) launch(sent boottime.Instant, saw int64) {
	r.inFlight++
	r.s.work.Go(func() {
		ctx, cancel := context.WithTimeout(r.s.ctx, 2*r.s.window.period())
		defer cancel()
		resp, err := r.s.client.Lease.KeepAliveOnce(ctx, r.s.lease)
		r.replies <- reply{sent: sent, saw: saw, resp: resp, err: err}
	})
}

// receive takes in the answer to one renewal.
func (r *renewal) receive(answer reply) {
	if answer.err != nil {
		r.fail(answer.err)
		return
	}
	if !r.sameHistory(answer) {
		countRenewal(notRenewed)
		return
	}
	countRenewal(acknowledged)
	if until := r.s.window.trustedUntil(answer.sent, answer.resp.TTL); int64(until) > r.s.until.Load() {
		r.s.until.Store(int64(until))
	}
	if r.lastErr != nil {
		r.s.log.Info("session renewed again")
	}
	r.rtt = boottime.Now().Sub(answer.sent)
	r.unanswered, r.lastErr = 0, nil
	r.next.Reset(r.untilNext())
}

// fail takes in the failure of one renewal. Only a lease that is gone ends the session; anything else may pass
// before the window is over, and the next renewal is due already.
func (r *renewal) fail(err error) {
	if r.s.ctx.Err() != nil { // which looks at the clock: an expired lease is gone as well
		return
	}
	countRenewal(notRenewed)
	if call.LeaseGone(err) {
		r.s.end(errRevoked)
		return
	}
	if r.lastErr == nil {
		r.s.log.Warn("session not renewed", zap.Error(err), zap.Duration("remaining", r.s.remaining()))
	}
	r.lastErr = err
}

// sameHistory ends the session if etcd's answer comes from another past than the lease: a different cluster,
// or a data directory that was put back. A member that lags answers with a lower revision too; so the
// word of the whole cluster is asked before that counts.
func (r *renewal) sameHistory(answer reply) bool {
	h := answer.resp.ResponseHeader
	if h.GetClusterId() != r.cluster {
		r.s.end(errOtherCluster)
		return false
	}
	if h.GetRevision() >= answer.saw {
		r.s.Saw(h.GetRevision())
		return true
	}
	r.s.work.Go(func() {
		now, err := call.Revision(r.s.ctx, r.s.client)
		if err == nil && now < answer.saw {
			r.s.end(fmt.Errorf("%w from %d to %d: its data was restored", errRestored, answer.saw, now))
		}
	})
	return true
}

// checkExpiry ends the session if its window is over, and otherwise arms the timer for the window that
// renewals have opened meanwhile.
func (r *renewal) checkExpiry() {
	left := r.s.remaining()
	if left > 0 {
		r.expiry.Reset(left)
		return
	}
	last := r.lastErr
	if last == nil && r.unanswered > 0 {
		last = errUnanswered
	}
	r.s.expire(last)
}

// untilNext is the wait for the next renewal, counted from the last one sent. A little less than the period,
// at random, so that sessions that were opened together do not renew together.
func (r *renewal) untilNext() time.Duration {
	period := r.s.window.period()
	jitter := time.Duration(rand.Int64N(int64(period)/10 + 1))
	return max(0, r.lastSent.Add(period-jitter).Sub(boottime.Now()))
}
