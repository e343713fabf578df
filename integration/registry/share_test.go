package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// leases are how many keys hang on each lease, of those under a prefix.
func leases(t *testing.T, cli *clientv3.Client, prefix string) map[int64]int {
	t.Helper()
	resp, err := cli.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	n := map[int64]int{}
	for _, kv := range resp.Kvs {
		n[kv.Lease]++
	}
	return n
}

// noLeaseLeft fails the test unless a cluster has no lease within the given time.
func noLeaseLeft(t *testing.T, within time.Duration, c *etcdtest.Cluster) {
	t.Helper()
	cli := c.Client()
	etcdtest.Eventually(t, within, "no lease is left", func(ctx context.Context) error {
		resp, err := cli.Leases(ctx)
		if err == nil && len(resp.Leases) > 0 {
			err = fmt.Errorf("%v", resp.Leases)
		}
		return err
	})
}

// closeAll closes registrations, many at a time.
func closeAll(t *testing.T, all []*registry.Registration) {
	t.Helper()
	var closing sync.WaitGroup
	turns := make(chan struct{}, 64)
	for _, r := range all {
		turns <- struct{}{}
		closing.Go(func() {
			defer func() { <-turns }()
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
}

// backOn returns an error unless a registration has been announced again after a revision.
func backOn(r *registry.Registration, revision int64) error {
	if at := r.Revision(); at <= revision {
		return fmt.Errorf("it was written at revision %d last", at)
	}
	return r.Err()
}

// alive fails the test unless a lease is there.
func alive(t *testing.T, cli *clientv3.Client, lease int64) {
	t.Helper()
	if ttl, err := cli.TimeToLive(t.Context(), clientv3.LeaseID(lease)); err != nil || ttl.TTL < 0 {
		t.Errorf("lease %x is gone: %v, %v", lease, ttl, err)
	}
}

func TestRegistrationsOfOneClientShareALease(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	var all []*registry.Registration
	for n := range 5 {
		opts := &registry.Options{Session: &session.Options{TTL: 5 * time.Second}} // equal, not the same
		all = append(all, register(t, cli, mail(fmt.Sprint(n)), opts))
	}
	if n := leases(t, cli, "services/"); len(n) != 1 || calls.Count("LeaseGrant") != 1 {
		t.Errorf("5 instances hang on %v, %d were granted", n, calls.Count("LeaseGrant"))
	}
	all = append(all,
		register(t, cli, mail("other TTL"), nil),
		register(t, cli, mail("other margin"), &registry.Options{Session: &session.Options{TTL: 5 * time.Second, Margin: time.Second}}),
		register(t, c.Client(), mail("other client"), &registry.Options{Session: &session.Options{TTL: 5 * time.Second}}))
	if n := leases(t, cli, "services/"); len(n) != 4 {
		t.Errorf("8 instances hang on %v, want 4 leases", n)
	}

	// One that goes takes its key along, and nothing of the others'.
	lease := get(t, cli, "services/mail/1").Lease
	if err := all[0].Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := leases(t, cli, "services/"); n[lease] != 4 || calls.Count("LeaseRevoke") != 0 {
		t.Errorf("4 of 5 are left, and %v; %d leases revoked", n, calls.Count("LeaseRevoke"))
	}
	alive(t, cli, lease)
	closeAll(t, all)
	noLeaseLeft(t, time.Second, c)
	etcdtest.WaitKeys(t, soon, cli, "services/", 0)
}

func TestALeaseHasAThousandKeysAtTheMost(t *testing.T) { // not beside other tests: it takes all processors
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	const many = 1001
	all := make([]*registry.Registration, many)
	var registering sync.WaitGroup
	turns := make(chan struct{}, 64)
	for n := range all {
		turns <- struct{}{}
		registering.Go(func() {
			defer func() { <-turns }()
			var err error
			if all[n], err = registry.Register(t.Context(), cli, mail(fmt.Sprint(n)), nil); err != nil {
				t.Error(err)
			}
		})
	}
	registering.Wait()
	n := leases(t, cli, "services/")
	for lease, keys := range n {
		if keys != 1000 && keys != 1 {
			t.Errorf("%d keys on lease %x", keys, lease)
		}
	}
	if len(n) != 2 || calls.Count("LeaseGrant") != 2 {
		t.Errorf("%d instances hang on %d leases, %d were granted", many, len(n), calls.Count("LeaseGrant"))
	}
	closeAll(t, all)
	noLeaseLeft(t, time.Second, c)
}

// Leases tell who wrote a key. Two registrations of one process must not be taken for one.
func TestOfTwoInstancesWithOneIDThroughOneClientTheLastHasIt(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/a"
	opts := &registry.Options{Prefix: prefix}
	one := register(t, cli, mail("a"), opts)
	start := one.Revision()
	second := mail("a")
	second.Addr = "10.0.0.8:80"
	two := register(t, cli, second, opts)
	etcdtest.Eventually(t, repaired, "the first one knows who has its ID", func(context.Context) error {
		if err := one.Err(); !errors.Is(err, registry.ErrReplaced) || !strings.Contains(err.Error(), "10.0.0.8:80") {
			return fmt.Errorf("it says: %w", err)
		}
		return nil
	})
	if n := len(history(t, cli, prefix+"/", start)); n != 1 {
		t.Errorf("%d writes, want the second one's registration", n)
	}
	if err := two.Close(t.Context()); err != nil {
		t.Error(err)
	}
	healthy(t, repaired, one)
	if kv := get(t, cli, key); kv == nil || !strings.Contains(string(kv.Value), "10.0.0.7:80") {
		t.Errorf("back is %v", kv)
	}
}

// F8 for many: all are back within a second, and the next session is opened once for all.
func TestALostSharedLeaseIsReplacedOnceForAll(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	const many = 50
	var all []*registry.Registration
	for n := range many {
		all = append(all, register(t, cli, mail(fmt.Sprint(n)), nil))
	}
	for range 2 {
		lease := get(t, cli, "services/mail/0").Lease
		calls.Reset()
		revision := c.Revision()
		c.Revoke(clientv3.LeaseID(lease))
		started := time.Now()
		for _, r := range all {
			etcdtest.Eventually(t, repaired, "it is back", func(context.Context) error { return backOn(r, revision) })
		}
		t.Logf("all back after %v", time.Since(started))
		if n := leases(t, cli, "services/"); len(n) != 1 || n[lease] > 0 || calls.Count("LeaseGrant") != 1 {
			t.Errorf("%d instances hang on %v, %d were granted", many, n, calls.Count("LeaseGrant"))
		}
	}
	// One that comes in the moment of the loss is not told of it.
	revision := c.Revision()
	c.Revoke(clientv3.LeaseID(get(t, cli, "services/mail/0").Lease))
	all = append(all, register(t, cli, mail("late"), nil))
	for _, r := range all {
		etcdtest.Eventually(t, repaired, "it is back", func(context.Context) error { return backOn(r, revision) })
	}
	etcdtest.WaitKeys(t, soon, cli, "services/", many+1)
	closeAll(t, all)
	noLeaseLeft(t, time.Second, c)
}

// A lease that was lost may live on in etcd. It is not given back before the last key has moved to the next: readers would see
// that instance go.
func TestALostSharedLeaseIsGivenBackWhenAllHaveMoved(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	oracle, prefix := etcdtest.Client(t), under(t)
	opts := &registry.Options{Prefix: prefix, Session: &session.Options{TTL: 5 * time.Second, Margin: 2 * time.Second}}
	one, two := register(t, cli, mail("a"), opts), register(t, cli, mail("b"), opts)
	gone := register(t, cli, mail("c"), opts)
	old := get(t, oracle, prefix+"/mail/a").Lease
	calls.WaitCount(t, soon, "Txn", 6) // all are written, and followed

	// The second one's move is held up, and etcd's answers to renewals are lost, though it keeps to them.
	free := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: free, Times: -1, Match: func(request any) bool {
		return puts(request) && string(request.(*pb.TxnRequest).Compare[0].Key) == prefix+"/mail/b"
	}})
	mute := calls.Inject(etcdtest.Fault{Call: etcdtest.KeepAliveAnswer, Silent: true, Times: -1})
	etcdtest.Done(t, soon, "the move of the second one", held.Hit())
	mute.Remove()
	healthy(t, soon, one)
	if err := gone.Close(t.Context()); err != nil { // which has moved too, or is about to
		t.Error(err)
	}
	if now := get(t, oracle, prefix+"/mail/a").Lease; now == old {
		t.Error("the first one has not moved")
	}
	alive(t, oracle, old)
	close(free)
	healthy(t, soon, two)
	etcdtest.Eventually(t, time.Second, "the old lease is given back", func(ctx context.Context) error {
		ttl, err := oracle.TimeToLive(ctx, clientv3.LeaseID(old))
		if err == nil && ttl.TTL >= 0 {
			err = errors.New("it lives")
		}
		return err
	})
	for _, ev := range history(t, oracle, prefix+"/", 0) {
		if ev.Type == clientv3.EventTypeDelete && !strings.HasSuffix(string(ev.Kv.Key), "/c") {
			t.Errorf("%s was gone at revision %d", ev.Kv.Key, ev.Kv.ModRevision)
		}
	}
}

// A key that etcd did not delete in time would stay for as long as others renew its lease.
func TestWhatCouldNotBeDeletedGoesAsSoonAsEtcdCanBeReached(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	stays := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	leaves := register(t, cli, mail("b"), &registry.Options{Prefix: prefix})
	f := calls.Inject(etcdtest.Fault{Call: "Txn", Match: deletes, Times: -1, Err: status.Error(codes.Unavailable, "lost on its way")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	etcdtest.Returns(t, promptly, "Close", func() { err = leaves.Close(ctx) })
	if err == nil {
		t.Error("the key was not deleted, and Close is content")
	}
	if get(t, cli, prefix+"/mail/b") == nil {
		t.Fatal("the fault has not hit")
	}
	lease := get(t, cli, prefix+"/mail/a").Lease
	f.Remove()
	etcdtest.WaitGone(t, soon, cli, prefix+"/mail/b")
	alive(t, cli, lease)
	if err := stays.Err(); err != nil {
		t.Error(err)
	}
}

// A request that was sent and given up may arrive at any later time, also when the key is gone, as it demands. Then the lease
// alone would take it away, and that lives on with others.
func TestAKeyThatArrivesAfterItsRegistrationHasLeftIsDeleted(t *testing.T) {
	t.Parallel()
	var (
		calls etcdtest.Calls
		mu    sync.Mutex
		first *pb.TxnRequest // guarded by mu
	)
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	key := prefix + "/mail/b"
	stays := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Match: func(request any) bool {
		mu.Lock()
		defer mu.Unlock()
		if !puts(request) {
			return false
		}
		first = proto.Clone(request.(*pb.TxnRequest)).(*pb.TxnRequest)
		return true
	}})
	leaves := register(t, cli, mail("b"), &registry.Options{Prefix: prefix}) // by its second request
	if err := leaves.Close(t.Context()); err != nil {
		t.Error(err)
	}
	other := etcdtest.Client(t)
	for range 3 {
		mu.Lock()
		resp, err := pb.NewKVClient(other.ActiveConnection()).Txn(t.Context(), first)
		mu.Unlock()
		if err != nil || !resp.Succeeded {
			t.Fatalf("the first request has come too late: %v, %v", resp, err)
		}
		etcdtest.WaitGone(t, repaired, other, key)
	}
	if err := stays.Err(); err != nil {
		t.Error(err)
	}
	// Whoever has the ID next is not taken for it.
	next := register(t, cli, mail("b"), &registry.Options{Prefix: prefix})
	if a, b := get(t, other, prefix+"/mail/a"), get(t, other, key); a.Lease == b.Lease {
		t.Error("it hangs on the same lease")
	}
	healthy(t, repaired, next)
}

// F16 beside others: cancelled in whatever call, Register leaves nothing behind though the lease lives on.
func TestARegisterThatIsCancelledBesideOthersLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("carried out %v", after), func(t *testing.T) {
			t.Parallel()
			var calls etcdtest.Calls
			cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			prefix := under(t)
			register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
			f := calls.Inject(etcdtest.Fault{Call: "Txn", Match: puts, After: after, Silent: true, Times: -1})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := registry.Register(ctx, cli, mail("b"), &registry.Options{Prefix: prefix})
				ended <- err
			}()
			etcdtest.Done(t, soon, "the call is under way", f.Hit())
			cancel()
			if err := etcdtest.Receive(t, promptly, "Register", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			etcdtest.WaitGone(t, time.Second, etcdtest.Client(t), prefix+"/mail/b")
			f.Remove()
		})
	}
}

// A Register that is cancelled while it waits for the session of all must not take it from the others.
func TestACancelledRegisterDoesNotFailThoseThatWaitWithIt(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	var calls etcdtest.Calls
	cli := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	free := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "LeaseGrant", Hold: free})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan *registry.Registration, 1)
	go func() {
		_, err := registry.Register(ctx, cli, mail("a"), nil)
		first <- err
	}()
	etcdtest.Done(t, soon, "the grant is under way", held.Hit())
	go func() {
		r, err := registry.Register(t.Context(), cli, mail("b"), nil)
		if err != nil {
			t.Error(err)
		}
		second <- r
	}()
	cancel()
	if err := etcdtest.Receive(t, promptly, "Register", first); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(free)
	r := etcdtest.Receive(t, soon, "the other Register", second)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	noLeaseLeft(t, time.Second, c)
}
