package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// F1: nothing is lost and nothing done twice when etcd's leader goes and comes, and no delivery is disturbed.
func TestALeaderThatStopsDisturbsNoDelivery(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	w.work(w.c.Client(), 4, faultTTL, w.done)
	w.work(w.c.Client(), 4, faultTTL, w.done)
	stop := w.pushing(w.c.Client(), faultSoon)
	for range 2 {
		leader := w.c.WaitLeader()
		w.c.Stop(leader)
		w.c.WaitOtherLeader(leader)
		stormPass(500 * time.Millisecond)
		w.c.Restart(leader)
		stormPass(300 * time.Millisecond)
	}
	faultNone(t, stop())
	w.empty()
	faultUndisturbed(t, w.judge())
}

// F2: no error comes of a follower that goes and comes.
func TestAFollowerThatStopsIsNotNoticed(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	w.work(w.c.Client(), 4, faultTTL, w.done)
	stop := w.pushing(w.c.Client(), 5*time.Second)
	for range 2 {
		follower := w.c.Follower()
		w.c.Stop(follower)
		stormPass(500 * time.Millisecond)
		w.c.Restart(follower)
		stormPass(300 * time.Millisecond)
	}
	faultNone(t, stop())
	w.empty()
	faultUndisturbed(t, w.judge())
}

// F3: without a majority no push succeeds, and what is claimed is not lost; all is done once it is back.
func TestWithoutAMajorityNoPushSucceedsAndNothingIsLost(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	handle, has, goOn := w.gate()
	w.work(w.c.Client(), 2, crashTTL, handle)
	q := w.queue(w.c.Client())
	w.push(q, 20)
	held := []*queue.Delivery[stormItem]{etcdtest.Receive(t, faultSoon, "a delivery", has), etcdtest.Receive(t, faultSoon, "a delivery", has)}
	leader := w.c.WaitLeader()
	w.c.Stop((leader+1)%3, (leader+2)%3)
	w.c.WaitNoLeader()
	if err := w.tryPush(q, 5, time.Second); err == nil {
		t.Error("a push succeeded without a majority")
	}
	// Nobody can take over, but nobody can tell either.
	for _, d := range held {
		etcdtest.Done(t, crashTTL+faultNoticed, "the end of a delivery", d.Context().Done())
		if cause := context.Cause(d.Context()); !errors.Is(cause, fence.ErrLost) {
			t.Errorf("a delivery ended with %v", cause)
		}
	}
	w.c.Restart()
	goOn()
	w.empty()
	w.judge()
}

// F4: one of three members is silent; deliveries and pushes go on through the others. A client of etcd's asks each in turn, so that it is
// slow: a third of all calls wait for as long as an attempt may take.
func TestASilentMemberHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	works, pushes := w.c.Links(), w.c.Links()
	w.work(works.Client(), 4, faultTTL, w.done)
	stop := w.pushing(pushes.Client(), faultSoon)
	w.delivered(20)
	works[0].Blackhole(etcdtest.Both)
	pushes[0].Blackhole(etcdtest.Both)
	pushed, done := w.tags.Load(), w.count()
	stormPass(4 * time.Second)
	if pushed, done = w.tags.Load()-pushed, w.count()-done; pushed < 5 || done < 5 {
		t.Errorf("%d jobs were pushed and %d delivered meanwhile", pushed, done)
	}
	faultNone(t, stop())
	works.Heal()
	w.empty()
	faultUndisturbed(t, w.judge())
}

// F5: connections are reset twenty times a second; what is delivered again has a higher number.
func TestBrokenConnectionsAreNoMoreThanRedeliveries(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	links := w.c.Links()
	cli := links.Client()
	w.work(cli, 4, faultTTL, w.done)
	stop := w.pushing(cli, faultSoon)
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for over := time.After(3 * time.Second); over != nil; {
		select {
		case <-every.C:
			links.Drop()
		case <-over:
			over = nil
		}
	}
	stop() // what fails then fails in doubt, which the model knows of
	w.empty()
	w.judge()
}

// F6: a long way to etcd loses no claim.
func TestALongWayToEtcdLosesNoClaim(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	links := w.c.Links()
	w.work(links.Client(), 4, faultTTL, w.done)
	links.Delay(etcdtest.Both, 100*time.Millisecond, 300*time.Millisecond)
	w.push(w.queue(w.c.Client()), 100)
	w.empty()
	faultUndisturbed(t, w.judge())
}

// F8: a lease is revoked under its worker. The handler is told soon, its acknowledgement is refused, another has the job with the
// next number, and the worker works on with another lease.
func TestARevokedLeaseIsNoticedAndTheWorkerGoesOn(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	cli := w.c.Client()
	type seen struct {
		d   *queue.Delivery[stormItem]
		ack error
	}
	lost, again := make(chan seen, 1), make(chan *queue.Delivery[stormItem], 10)
	given := make(chan *queue.Delivery[stormItem], 1)
	w.work(cli, 1, faultTTL, func(ctx context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error {
		if d.Attempt > 1 || d.Item.N > 1 {
			again <- d
			return w.done(ctx, d, r)
		}
		given <- d
		<-d.Context().Done()
		w.record.gives(r, modelDone)
		err := d.Ack(context.WithoutCancel(ctx))
		w.record.gave(r, stormOutcome(err), err)
		lost <- seen{d, err}
		return nil // which is of no matter any more
	})
	w.push(w.queue(cli), 1)
	d := etcdtest.Receive(t, faultSoon, "the delivery", given)
	worker := etcdtest.WaitKeys(t, faultSoon, cli, w.root+"line/workers/", 1).Kvs[0]
	w.record.tamper(int64(d.Guard().Token)) // it cannot know at once
	w.c.Revoke(clientv3.LeaseID(worker.Lease))
	revoked := time.Now()
	s := etcdtest.Receive(t, faultSoon, "the end of the delivery", lost)
	if took := time.Since(revoked); took > faultNoticed {
		t.Errorf("it was noticed after %v", took)
	}
	if !errors.Is(s.ack, fence.ErrLost) || !errors.Is(context.Cause(s.d.Context()), fence.ErrLost) {
		t.Errorf("Ack returned %v, and the context ended with %v", s.ack, context.Cause(s.d.Context()))
	}
	if next := etcdtest.Receive(t, faultSoon, "the job again", again); next.ID != d.ID || next.Attempt != 2 || next.Guard().Token <= d.Guard().Token {
		t.Errorf("%s, attempt %d, token %d follows %s, token %d", next.ID, next.Attempt, next.Guard().Token, d.ID, d.Guard().Token)
	}
	w.push(w.queue(cli), 1)
	etcdtest.Receive(t, faultSoon, "another job", again)
	w.empty()
	w.judge()
}

// F9: history is compacted while a worker is cut off. It goes on with what has come meanwhile.
func TestACompactionWhileAWorkerIsCutOffIsNotNoticed(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	links := w.c.Links()
	q := w.queue(w.c.Client())
	w.work(links.Client(), 4, faultTTL, w.done)
	w.push(q, 10)
	w.empty()
	links.Cut()
	w.push(q, 300)
	etcdtest.Eventually(t, faultSoon, "the trail is there", func(context.Context) error {
		if w.trail.seen.Load() < w.c.Revision() {
			return errors.New("it is not")
		}
		return nil
	})
	w.c.Compact(0)
	links.Heal()
	w.push(q, 10)
	w.empty()
	faultUndisturbed(t, w.judge())
}
