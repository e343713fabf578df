package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	spreadClients, spreadEach = 12, 30
	spreadMany                = spreadClients * spreadEach
	spreadTTL                 = 4 * time.Second
)

// F15: after an outage of everybody, every instance is back on its own key before its old lease is over, and none was ever
// gone; but not all of them at once.
//
// A machine that stands still for a moment makes a peak of all that was due meanwhile, and for a long one it costs
// leases. So the best of three outages counts: instances that come together do so in each.
func TestAfterAnOutageTheInstancesComeBackSpread(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	opts := &registry.Options{Session: &session.Options{TTL: spreadTTL}}
	all := make([]*registry.Registration, spreadMany)
	var registering sync.WaitGroup
	for n := range spreadClients {
		cli := c.Client()
		registering.Go(func() {
			for m := range spreadEach {
				var err error
				if all[n*spreadEach+m], err = registry.Register(t.Context(), cli, mail(fmt.Sprintf("%d-%d", n, m)), opts); err != nil {
					t.Error(err)
				}
			}
		})
	}
	registering.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var err error
	for range 3 {
		if err = outage(t, c, all); err == nil {
			break
		}
		t.Log(err)
		for _, r := range all {
			healthy(t, 2*soon, r)
		}
	}
	if err != nil {
		t.Errorf("in three outages of three: %v", err)
	}
	closeAll(t, all)
	etcdtest.WaitKeys(t, soon, c.Client(), "services/", 0)
	noLeaseLeft(t, spreadTTL+2*time.Second, c) // a grant whose reply was lost has a TTL to live
}

// outage stops etcd for three TTLs, and returns an error unless the instances come back as they should.
//
// Each writes at a time that is uniform over a third of the TTL, counted from when its client has found etcd back. If
// all clients did so in the same moment, a bucket of a sixth of that third would have a count that is binomial with n = 360 and
// p = 1/6: 60 and 7 to either side. A peak of one and a half times that is more than four of those away, and what sets
// the clients apart only lowers the peak.
func outage(t *testing.T, c *etcdtest.Cluster, all []*registry.Registration) error {
	t.Helper()
	const (
		spread  = spreadTTL / 3
		buckets = 6
		even    = spreadMany / buckets
	)
	before := c.Revision()
	c.Stop()
	stopped := time.Now()
	for _, r := range all {
		etcdtest.Eventually(t, soon, "the session is lost", func(context.Context) error {
			if !errors.Is(r.Err(), fence.ErrLost) && !strings.Contains(errText(r.Err()), "unreachable") {
				return fmt.Errorf("it says: %w", r.Err())
			}
			return nil
		})
	}
	<-time.After(3*spreadTTL - time.Since(stopped)) // the time is the fault
	start := time.Now()
	c.Restart()

	// What comes is timed as it comes.
	ctx, cancel := context.WithTimeout(t.Context(), spreadTTL+2*time.Second)
	defer cancel()
	var at []time.Duration
	back := map[string]bool{}
	for resp := range c.Client().Watch(ctx, "services/", clientv3.WithPrefix(), clientv3.WithRev(before+1)) {
		for _, ev := range resp.Events {
			at = append(at, time.Since(start))
			back[string(ev.Kv.Key)] = true
			if ev.Type == clientv3.EventTypeDelete {
				return fmt.Errorf("%s was gone %v after the restart", ev.Kv.Key, time.Since(start))
			}
		}
		if len(back) == spreadMany {
			break
		}
	}
	if len(back) != spreadMany || len(at) != spreadMany {
		return fmt.Errorf("%d of %d were back within %v, by %d writes", len(back), spreadMany, spreadTTL+2*time.Second, len(at))
	}
	first, last := slices.Min(at), slices.Max(at)
	counts := make([]int, int((last-first)/(spread/buckets))+1)
	for _, d := range at {
		counts[int((d-first)/(spread/buckets))]++
	}
	t.Logf("back from %v to %v after the restart, in buckets of %v: %v", first, last, spread/buckets, counts)
	if peak := slices.Max(counts); 2*peak > 3*even {
		return fmt.Errorf("a peak of %d, over one and a half times the %d of an even spread", peak, even)
	}
	return nil
}

// etcd may be away without refusing anybody: then the first attempt does not fail, but waits until it is back.
func TestInstancesComeBackSpreadAlsoIfTheirFirstAttemptOutlastsTheOutage(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	const many = 20
	all := make([]*registry.Registration, many)
	for n := range all {
		all[n] = register(t, cli, mail(fmt.Sprint(n)), &registry.Options{Prefix: prefix}) // with a TTL of 10 s
	}
	silent := calls.Inject(etcdtest.Fault{Call: "LeaseGrant", Silent: true, Times: -1})
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, cli, prefix+"/mail/0").Lease))
	etcdtest.Done(t, soon, "the first attempt", silent.Hit())
	etcdtest.Eventually(t, soon, "a third attempt", func(context.Context) error {
		if n := calls.Count("LeaseGrant"); n < 3 { // the first took 500 ms, the second 1 s
			return fmt.Errorf("it is the attempt number %d", n)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	changes := etcdtest.Client(t).Watch(ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-changes
	silent.Remove()
	var at []time.Time
	for resp := range changes {
		for range resp.Events {
			at = append(at, time.Now())
		}
		if len(at) >= many {
			break
		}
	}
	if len(at) != many {
		t.Fatalf("%d writes for %d instances", len(at), many)
	}
	// Of twenty, uniform over 3.3 s, all come within the same second once in ten million times.
	if took := at[many-1].Sub(at[0]); took < time.Second || took > 3400*time.Millisecond+promptly {
		t.Errorf("all were back within %v", took)
	}
}

// What spreads is counted from the return of etcd. So it is enough that one of them finds that out.
func TestWhoFindsEtcdBackWakesTheOthersOfItsClient(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	patient := retry.Policy{Initial: 100 * time.Millisecond, Max: time.Hour, Multiplier: 10_000} // its second wait is of minutes
	one := register(t, cli, mail("a"), &registry.Options{Session: short})
	two := register(t, cli, mail("b"), &registry.Options{Session: short, Retry: patient})
	link.Cut()
	for _, r := range []*registry.Registration{one, two} {
		etcdtest.Eventually(t, soon, "an attempt has failed", func(context.Context) error {
			if err := r.Err(); !strings.Contains(errText(err), "refused") {
				return errors.New("it says: " + errText(err))
			}
			return nil
		})
	}
	link.Heal()
	healthy(t, soon, one)
	healthy(t, shortTTL/3+repaired, two)
}
