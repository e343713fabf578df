package registry

import (
	"context"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// leaseWithin bounds the questions about leases, all of them together.
const leaseWithin = time.Second

// doubts are the waits between questions that etcd did not answer, or not as is hoped for.
var doubts = retry.Policy{Initial: 100 * time.Millisecond, Max: 2 * time.Second}

// mind is the goroutine that looks after instances that are held, until the roster's life ends: it asks etcd why they are gone
// and whether really nobody is left, and lets go of those that are old enough.
func (r *roster) mind() {
	waits := doubts.Backoff()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.life.Done():
			return
		case <-r.wake:
			waits.Reset()
		case <-timer.C:
		}
		next, doubtful := r.lookAtHeld()
		if doubtful {
			next = min(next, waits.Next())
		}
		timer.Reset(next)
	}
}

// lookAtHeld settles what can be settled, and returns when to look again, and whether etcd is to be asked again before.
func (r *roster) lookAtHeld() (next time.Duration, doubtful bool) {
	r.mu.Lock()
	leases, unconfirmed := r.holds.unasked(), r.holds.unconfirmed()
	r.mu.Unlock()
	why := reasons(r.life, r.client, leases)
	nobody := unconfirmed && r.nobody()

	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.apply(r.holds.settle(why, nobody && r.holds.unconfirmed(), r.source == Live, len(r.next.Instances), now))
	if r.behind && r.source != 0 {
		if held := len(r.next.Held); held > 0 {
			r.log.Warn("instances are kept that etcd has lost", zap.Int("held", held), zap.Int("instances", len(r.next.Instances)))
		}
		r.publish()
	}
	next, ok := r.holds.next(now)
	if !ok {
		next = time.Hour
	}
	if r.source != Live {
		next = max(next, time.Second)
	}
	return next, r.holds.unconfirmed() || len(r.holds.unasked()) > 0
}

// nobody reports whether a linearizable read confirms that the service has no instances but malformed ones.
func (r *roster) nobody() bool {
	resp, err := call.Do(r.life, r.client, "confirm that nobody is left", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return r.client.KV.Get(ctx, r.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	})
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kv := range resp.Kvs {
		if id := string(kv.Key[len(r.prefix):]); !strings.Contains(id, "/") && !r.bad.has(id) {
			return false
		}
	}
	return true
}

// reasons asks etcd why the keys of leases are gone.
func reasons(ctx context.Context, client *clientv3.Client, leases []int64) map[int64]Reason {
	ctx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	why := make(map[int64]Reason, len(leases))
	for _, lease := range leases {
		why[lease] = reason(ctx, client, lease)
	}
	return why
}

// reason asks why a key of a lease is gone.
func reason(ctx context.Context, client *clientv3.Client, lease int64) Reason {
	if lease == 0 {
		return Deleted
	}
	resp, err := call.Do(ctx, client, "ask for a lease", func(ctx context.Context) (*clientv3.LeaseTimeToLiveResponse, error) {
		return client.Lease.TimeToLive(ctx, clientv3.LeaseID(lease))
	})
	switch {
	case call.LeaseGone(err), err == nil && resp.TTL <= 0:
		return Expired
	case err != nil:
		return Unknown
	}
	return Deleted
}
