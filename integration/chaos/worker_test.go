package chaos_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

const (
	// answerIn is how long a worker waits for the answer to a write, and unlockIn for that to an unlock.
	answerIn = 500 * time.Millisecond
	unlockIn = 2 * time.Second
)

// worker is one that locks, works and unlocks. It belongs to one goroutine at a time.
type worker struct {
	index  int
	kind   kind
	client *clientv3.Client
	links  etcdtest.Links // its way to etcd
	locker locker
	rng    *rand.Rand
}

// run works in one line until ctx ends.
func (w *worker) run(ctx context.Context, h *history) {
	for ctx.Err() == nil {
		w.turn(ctx, h)
	}
}

// turn acquires once, works and gives back.
func (w *worker) turn(ctx context.Context, h *history) {
	c := claim{worker: w.index, weight: w.kind.weigh(w.rng), called: h.now()}
	patience, cancel := w.patience(ctx)
	got, err := w.locker.Lock(patience, h.name, c.weight)
	cancel()
	if err != nil {
		h.gaveUp()
		w.pause(ctx, 50*time.Millisecond)
		return
	}
	c.token, c.told = got.Token(), got.Context().Err() != nil
	j := &job{worker: w, history: h, claim: h.acquired(c), hold: got}
	told := make(chan struct{})
	stop := context.AfterFunc(got.Context(), func() {
		h.tell(j.claim)
		close(told)
	})
	j.work(ctx)
	h.leave(j.claim)
	// The guarantee is that of the answer, and ctx may have ended: it is not to be given up for that.
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockIn)
	defer cancel()
	err = got.Unlock(unlock)
	h.left(j.claim, err)
	if err != nil && ctx.Err() == nil {
		j.tooLate(ctx)
	}
	if !stop() {
		<-told
	}
}

// patience is ctx, now and then with an end of its own.
func (w *worker) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.rng.IntN(8) > 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(10+w.rng.IntN(1500))*time.Millisecond)
}

// pause lets some time pass, up to a limit, unless ctx ends. It reports whether ctx has not.
func (w *worker) pause(ctx context.Context, most time.Duration) bool {
	timer := time.NewTimer(time.Duration(w.rng.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// job is what is done under one acquisition.
type job struct {
	*worker
	history *history
	claim   *claim
	hold    hold
}

// work writes for a while. It is done when enough has been acknowledged: who is cut off tries again, and goes on believing,
// until it is told.
func (j *job) work(ctx context.Context) {
	if j.kind.slots && j.rng.IntN(2) == 0 {
		j.askSlot()
	}
	enough, pause := 1+j.rng.IntN(2), 15*time.Millisecond
	if j.rng.IntN(10) == 0 {
		enough, pause = 8, 60*time.Millisecond // one that holds for long
	}
	for ctx.Err() == nil && enough > 0 {
		if j.hold.Context().Err() != nil {
			j.history.tell(j.claim)
			return
		}
		switch j.access(j.hold.Context()) {
		case accepted:
			enough--
		case refused:
			return
		case unknown:
		}
		j.pause(j.hold.Context(), pause)
	}
}

// tooLate goes on writing after the hold has ended, as one does who does not look at its context.
func (j *job) tooLate(ctx context.Context) {
	for range j.rng.IntN(4) {
		if j.access(context.WithoutCancel(ctx)) == refused {
			return
		}
		if !j.pause(ctx, time.Second) {
			return
		}
	}
}

// askSlot asks for the holder's number.
func (j *job) askSlot() {
	ctx, cancel := context.WithTimeout(j.hold.Context(), answerIn)
	defer cancel()
	if slot, err := j.hold.(slotted).Slot(ctx); err == nil {
		j.history.number(j.claim, slot)
	}
}

// access uses the register once: who has a part of the lock for readers reads it, and others write it.
func (j *job) access(ctx context.Context) outcome {
	a := access{worker: j.index, input: input{verb: write, token: j.claim.token}}
	ops := []clientv3.Op{clientv3.OpGet(j.history.register())}
	if j.kind.size == rwSize && j.claim.weight < rwSize {
		a.verb = read
	} else {
		a.value = j.history.value()
		ops = append(ops, clientv3.OpPut(j.history.register(), strconv.FormatInt(a.value, 10)))
	}
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	a.called = j.history.now()
	resp, err := j.hold.Commit(ctx, j.client, ops...)
	switch {
	case err == nil:
		a.outcome, a.seen = accepted, registered((*clientv3.GetResponse)(resp.Responses[0].GetResponseRange()))
	case errors.Is(err, fence.ErrLost) && resp != nil: // and not what ended ctx before anything was sent
		a.outcome = refused
	default:
		a.outcome = unknown
	}
	if a.verb == write || a.outcome != unknown {
		j.history.accessed(a)
	}
	return a.outcome
}

// registered is the value in the register, 0 before the first.
func registered(resp *clientv3.GetResponse) int64 {
	if len(resp.Kvs) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
	if err != nil {
		panic(err) // nobody else writes there
	}
	return n
}
