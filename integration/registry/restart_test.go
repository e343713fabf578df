package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// Defects kratos#3883, go-zero#4201, go-zero#1926 and L6: after an outage longer than the TTL the instance stays away, or
// readers see an empty list until it is back.
func TestAllMembersAwayForLongerThanTheTTLCostNoInstance(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	// gRPC waits longer and longer before it dials again, up to two minutes. These clients have come to such a wait
	// with the first failure.
	slow := grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: time.Minute, Multiplier: 1, MaxDelay: time.Minute},
	})
	dial := func() *clientv3.Client { return c.Dial(clientv3.Config{DialOptions: []grpc.DialOption{slow}}) }
	r := register(t, dial(), mail("a"), &registry.Options{Session: short})
	key := "services/mail/a"
	v := watch(t, dial(), "mail", "")
	sees(t, soon, v, "a")
	before := get(t, c.Client(), key)

	// Whatever the view publishes from now on is looked at.
	ctx, stop := context.WithCancel(t.Context())
	empty := make(chan registry.Snapshot, 1)
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		for s := range v.Changes(ctx) {
			if len(s.Instances) == 0 {
				empty <- s
				return
			}
		}
	}()
	defer func() { stop(); <-seen }()

	c.Stop()
	awaits(t, soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale && len(s.Instances) == 1 })
	etcdtest.Eventually(t, soon, "the session is lost", func(context.Context) error {
		if !errors.Is(r.Err(), fence.ErrLost) {
			return errors.New("not yet")
		}
		return nil
	})
	etcdtest.Nothing(t, shortTTL, "an empty list", empty)
	start := time.Now()
	c.Restart()
	healthy(t, soon, r)
	t.Logf("announced again %v after the restart", time.Since(start))
	sees(t, soon, v, "a")
	etcdtest.Nothing(t, shortTTL+time.Second, "an empty list", empty) // for as long as the old lease could live

	oracle := c.Client()
	after := get(t, oracle, key)
	if after == nil || after.Lease == before.Lease {
		t.Fatalf("the key is %v, want it under another lease than %x", after, before.Lease)
	}
	for _, ev := range history(t, oracle, "services/", before.ModRevision) {
		if ev.Type == clientv3.EventTypeDelete {
			t.Errorf("%s was gone at revision %d", ev.Kv.Key, ev.Kv.ModRevision)
		}
	}
}
