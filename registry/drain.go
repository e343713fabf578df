package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

const (
	// goodbyeWithin bounds the attempt to say goodbye, and goodbyeAfter what is left of it when the caller's context ends:
	// what counts is to go.
	goodbyeWithin = 500 * time.Millisecond
	goodbyeAfter  = 50 * time.Millisecond
)

// Drain announces that the instance is about to leave, and gives readers the time to learn it: it sets State to Draining and
// returns when etcd has that and the wait has passed since then. Then finish what is under way, and Close. A wait of 0 is
// none; 2 s are plenty for readers whose views are live. With [Options.HideUnready] the instance disappears instead.
//
// It stays Draining, whatever its health checks say, unless an Update sets its State. ctx bounds all of it, and its cause is
// returned; the instance is, or will be, Draining all the same. Errors are otherwise those of [Registration.Update], of
// which [ErrReplaced] comes after the wait: readers learn of the other one, too. A wait that is negative is an error, and
// changes nothing. Drain is safe for concurrent use.
func (r *Registration) Drain(ctx context.Context, wait time.Duration) error {
	if wait < 0 {
		return r.failed(fmt.Errorf("drain: a wait of %v is negative; 0 is none", wait))
	}
	told := r.Update(ctx, func(i *Instance) { i.State = Draining })
	if told != nil && !errors.Is(told, ErrReplaced) {
		return told
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return told
	case <-r.life.Done():
		return r.failed(ErrClosed)
	case <-ctx.Done():
		return r.failed(fmt.Errorf("is draining, but readers were not waited for: %w", context.Cause(ctx)))
	}
}

// leave takes away what the registration has written. The announcer has ended, or has never run.
func (a *announcer) leave(ctx context.Context) error {
	soon, cancel := call.Release(ctx, a.ttl)
	defer cancel()
	a.sayGoodbye(ctx, soon)
	return a.sessions.close(ctx, soon)
}

// sayGoodbye announces that the instance is draining, in one attempt, if it is announced as anything else, and may be. It takes two
// transactions to be seen and to go, since etcd refuses one that puts and deletes the same key.
//
// The request may arrive late, after the deletion, without harm: it writes over the last write only.
func (a *announcer) sayGoodbye(ctx, soon context.Context) {
	if a.r.wishes.hide || a.at == 0 || a.place.Context().Err() != nil || a.r.status.Load().trouble != nil || a.client.Ctx().Err() != nil {
		return
	}
	last := a.r.wishes.newest().instance
	last.State = Draining
	value, err := encode(last)
	if err != nil || value == a.value {
		return
	}
	soon, cancel := context.WithTimeout(clientv3.WithRequireLeader(soon), goodbyeWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(goodbyeAfter, cancel) })
	defer stop()
	_, _ = a.client.KV.Txn(soon).
		If(clientv3.Compare(clientv3.ModRevision(a.r.key), "=", a.at)).
		Then(clientv3.OpPut(a.r.key, value, clientv3.WithLease(a.place.Lease()))).
		Commit()
}
