package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// F8, rpcx#420 (put again with the dead lease), kratos#2398.
func TestARevokedLeaseIsReplacedWithinASecond(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, etcdtest.Client(t), "mail", prefix)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	key := prefix + "/mail/a"
	sees(t, soon, v, "a")
	for range 3 {
		before := get(t, cli, key)
		etcdtest.Shared(t).Revoke(clientv3.LeaseID(before.Lease))
		start := time.Now()
		after := etcdtest.WaitKey(t, repaired, cli, key).Kvs[0]
		t.Logf("back after %v", time.Since(start))
		if after.Lease == before.Lease || string(after.Value) != string(before.Value) {
			t.Errorf("%v became %v", before, after)
		}
		healthy(t, repaired, r)
	}
	sees(t, soon, v, "a")
}

// Defect go-zero PR#4960: a key that somebody deleted by hand is never put again.
func TestAKeyThatAStrangerDeletedIsPutBack(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	key := prefix + "/mail/a"
	before := get(t, cli, key)
	etcdtest.Shared(t).Delete(key)
	after := etcdtest.WaitKey(t, repaired, cli, key).Kvs[0]
	if after.Lease != before.Lease || string(after.Value) != string(before.Value) {
		t.Errorf("%v became %v", before, after)
	}
	healthy(t, repaired, r)
	if r.Revision() != after.ModRevision {
		t.Errorf("put back at revision %d, and Revision is %d", after.ModRevision, r.Revision())
	}
}

func TestAKeyThatAStrangerOverwroteIsRestored(t *testing.T) {
	t.Parallel()
	for what, opts := range map[string][]clientv3.OpOption{
		"without a lease":       nil,
		"keeping our own lease": {clientv3.WithIgnoreLease()},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, prefix := etcdtest.Client(t), under(t)
			r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
			key := prefix + "/mail/a"
			before := get(t, cli, key)
			v := watch(t, etcdtest.Client(t), "mail", prefix)
			for _, value := range []string{`{"Addr":"10.6.6.6:80"}`, "garbage", ""} {
				strange, err := cli.Put(t.Context(), key, value, opts...)
				if err != nil {
					t.Fatal(err)
				}
				awaits(t, repaired, v, "restored", func(s registry.Snapshot) bool {
					return s.Revision > strange.Header.Revision && len(s.Instances) == 1 && s.Instances[0].Addr == "10.0.0.7:80"
				})
				after := get(t, cli, key)
				if after.Lease != before.Lease || string(after.Value) != string(before.Value) {
					t.Errorf("%v became %v", before, after)
				}
			}
			healthy(t, repaired, r)
			if err := v.Err(); err != nil {
				t.Errorf("restored, and yet: %v", err)
			}
		})
	}
}

// Somebody who keeps deleting the key is answered, but not in a hot loop.
func TestAStrangerThatDoesNotStopIsAnsweredLessAndLess(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	register(t, etcdtest.Client(t), mail("a"), &registry.Options{Prefix: prefix})
	key := prefix + "/mail/a"
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	answers := 0
	for resp := range cli.Watch(ctx, key, clientv3.WithCreatedNotify()) {
		if resp.Created || resp.Events[len(resp.Events)-1].Type == clientv3.EventTypePut {
			answers++
			if _, err := cli.Delete(ctx, key); err != nil && ctx.Err() == nil {
				t.Fatal(err)
			}
		}
	}
	if answers < 3 || answers > 30 {
		t.Errorf("answered %d times in 4 s", answers)
	}
	etcdtest.WaitKey(t, soon, cli, key)
}

// While the registration cannot see its key, it is put and deleted: for what is followed nothing has changed then.
func TestAKeyThatCameAndWentUnseenIsPutBack(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	key := prefix + "/mail/a"
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	calls.WaitCount(t, soon, "Txn", 2) // the key is followed

	other := etcdtest.Client(t)
	free := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: free, Match: func(request any) bool {
		return len(request.(*pb.TxnRequest).Compare) > 0
	}})
	etcdtest.Shared(t).Delete(key)
	etcdtest.Done(t, soon, "the key is about to be put back", held.Hit())
	mute := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Times: -1})
	watches := calls.Count(etcdtest.WatchCreate)
	close(free)
	etcdtest.WaitKey(t, soon, other, key)
	etcdtest.Shared(t).Delete(key)
	calls.WaitCount(t, soon, etcdtest.WatchCreate, watches+1) // the silent stream is given up
	mute.Remove()
	etcdtest.WaitKey(t, soon, other, key)
	healthy(t, repaired, r)
}

// The one that registered last has the ID. The other one says so, does not fight, and is back when the ID is free.
func TestOfTwoLiveInstancesWithOneIDTheLastHasIt(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/a"
	opts := &registry.Options{Prefix: prefix}
	one := register(t, etcdtest.Client(t), mail("a"), opts)
	start := one.Revision()
	second := mail("a")
	second.Addr = "10.0.0.8:80"
	two := register(t, etcdtest.Client(t), second, opts)

	etcdtest.Eventually(t, repaired, "the first one knows", func(context.Context) error {
		if err := one.Err(); !errors.Is(err, registry.ErrReplaced) {
			return errors.New("it says: " + errText(err))
		}
		return nil
	})
	if err := two.Err(); err != nil {
		t.Errorf("the second one has it, and yet: %v", err)
	}
	// An update of the first one is refused for now, and remembered. One of the second one changes nothing of that.
	if err := one.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" }); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("an update of the first one: %v", err)
	}
	if err := two.Update(t.Context(), func(i *registry.Instance) { i.Zone = "us" }); err != nil {
		t.Error(err)
	}
	puts := 0
	for _, ev := range history(t, cli, prefix+"/", start) {
		if ev.Type == clientv3.EventTypeDelete {
			t.Errorf("the key was gone at revision %d", ev.Kv.ModRevision)
		}
		puts++
	}
	if puts != 2 {
		t.Errorf("%d writes, want the second one's registration and its update", puts)
	}

	if err := two.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv := etcdtest.WaitKey(t, repaired, cli, key).Kvs[0]
	if !strings.Contains(string(kv.Value), "10.0.0.7:80") || !strings.Contains(string(kv.Value), `"eu"`) {
		t.Errorf("back is %s", kv.Value)
	}
	healthy(t, repaired, one)
}

// One that is replaced and loses its lease meanwhile is back all the same when the ID is free.
func TestAReplacedInstanceThatLostItsLeaseComesBack(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/a"
	one := register(t, etcdtest.Client(t), mail("a"), &registry.Options{Prefix: prefix, Session: short})
	lease := clientv3.LeaseID(get(t, cli, key).Lease)
	two := register(t, etcdtest.Client(t), mail("a"), &registry.Options{Prefix: prefix})
	etcdtest.Eventually(t, repaired, "the first one knows", func(context.Context) error {
		if !errors.Is(one.Err(), registry.ErrReplaced) {
			return errors.New("not yet")
		}
		return nil
	})
	etcdtest.Shared(t).Revoke(lease)
	if err := two.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKey(t, repaired, cli, key)
	healthy(t, repaired, one)
}

// A process that was killed and started again need not wait for its old lease, which does not take the key along
// when it expires.
func TestARestartedProcessTakesItsIDOverAtOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	register(t, link.Client(), mail("a"), &registry.Options{Session: short})
	key := "services/mail/a"
	old := get(t, c.Client(), key)
	link.Cut() // as a process that is no more
	r := register(t, c.Client(), mail("a"), &registry.Options{Session: short})
	cli := c.Client()
	etcdtest.Eventually(t, shortTTL+2*time.Second, "the old lease is over", func(ctx context.Context) error {
		resp, err := cli.TimeToLive(ctx, clientv3.LeaseID(old.Lease))
		if err == nil && resp.TTL > 0 {
			return errors.New("it lives")
		}
		return err
	})
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	for _, ev := range history(t, cli, "services/", old.ModRevision) {
		if ev.Type == clientv3.EventTypeDelete {
			t.Errorf("the key was gone at revision %d", ev.Kv.ModRevision)
		}
	}
}

// F7's like: an instance that was cut off for longer than its TTL is gone, knows it, and comes back on the same key.
func TestAnInstanceThatWasCutOffComesBackOnTheSameKey(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	r := register(t, link.Client(), mail("a"), &registry.Options{Session: short})
	v := watch(t, c.Client(), "mail", "")
	sees(t, soon, v, "a")
	link.Cut()
	sees(t, shortTTL+2*time.Second, v) // nobody
	if err := r.Err(); !errors.Is(err, fence.ErrLost) {
		t.Errorf("gone, and Err is %v", err)
	}
	link.Heal()
	s := sees(t, soon, v, "a")
	if s.Instances[0].Addr != "10.0.0.7:80" {
		t.Errorf("back is %+v", s.Instances[0])
	}
	healthy(t, repaired, r)
	if n := len(etcdtest.WaitKeys(t, soon, c.Client(), "services/", 1).Kvs); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// An update that is made while the lease is being replaced is what is announced in the end.
func TestAnUpdateDuringARepairWins(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	key := prefix + "/mail/a"
	for _, call := range []string{"LeaseGrant", "Txn"} {
		free := make(chan struct{})
		held := calls.Inject(etcdtest.Fault{Call: call, Hold: free, Skip: map[string]int{"LeaseGrant": 0, "Txn": 1}[call]})
		etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, cli, key).Lease))
		etcdtest.Done(t, soon, "the repair is under way", held.Hit())
		updated := make(chan error, 1)
		go func() {
			updated <- r.Update(t.Context(), func(i *registry.Instance) { i.Zone = call })
		}()
		etcdtest.Nothing(t, 100*time.Millisecond, "the update returns before etcd can have it", updated)
		close(free)
		if err := etcdtest.Receive(t, soon, "the update", updated); err != nil {
			t.Fatal(err)
		}
		if kv := get(t, cli, key); !strings.Contains(string(kv.Value), call) {
			t.Errorf("updated to %s, and etcd has %s", call, kv.Value)
		}
		healthy(t, repaired, r)
	}
}

// F12: a restored backup may hold an older state of the key, or none.
func TestARestoredBackupIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	older := register(t, c.Client(), mail("older"), nil)
	b := c.Backup()
	newer := register(t, c.Client(), mail("newer"), nil)
	for n := range 20 { // so that the repair does not come to the very revision that was lost
		if err := older.Update(t.Context(), func(i *registry.Instance) { i.Zone, i.Weight = "eu", n+1 }); err != nil {
			t.Fatal(err)
		}
	}
	v := watch(t, c.Client(), "mail", "")
	s := sees(t, soon, v, "newer", "older")
	if s.Generation != 0 {
		t.Errorf("generation %d before anything was restored", s.Generation)
	}
	c.Restore(b)
	awaits(t, 2*soon, v, "as before", func(s registry.Snapshot) bool {
		return s.Generation == 1 && s.Source == registry.Live && len(s.Instances) == 2 && s.Instances[1].Weight == 20
	})
	healthy(t, soon, older)
	healthy(t, soon, newer)
	etcdtest.WaitKeys(t, soon, c.Client(), "services/", 2)
}

// The same, when what was lost was written while the registration's own view was cut off: it has heard of it from the
// answers to its writes only.
func TestARestoredBackupIsBroughtUpToDateWithWhatWasWrittenInTheDark(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, direct := c.Link(0), c.Client()
	cli := link.Client()
	cli.KV, cli.Lease = direct.KV, direct.Lease // so that only the watch is cut off
	r := register(t, cli, mail("a"), nil)
	b := c.Backup()
	link.Cut()
	for n := range 20 { // so that the repair does not come to the very revision that was lost
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.Weight = n + 1 }); err != nil {
			t.Fatal(err)
		}
	}
	c.Restore(b)
	link.Heal()
	v := watch(t, direct, "mail", "")
	awaits(t, 2*soon, v, "as it was last updated", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Weight == 20
	})
	healthy(t, soon, r)
}

// F13: while the database is full nothing can be written, and what there is stays; closing works.
func TestAFullDatabaseIsReportedAndWaitedOut(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	r := register(t, c.Client(), mail("a"), &registry.Options{Session: short})
	leaving := register(t, c.Client(), mail("b"), nil)
	v := watch(t, c.Client(), "mail", "")
	sees(t, soon, v, "a", "b")
	c.FillUp()
	var err error
	etcdtest.Returns(t, 2*time.Second, "Update", func() {
		err = r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" })
	})
	if !errors.Is(err, rpctypes.ErrNoSpace) || !errors.Is(r.Err(), rpctypes.ErrNoSpace) {
		t.Errorf("the update says %v, and Err %v", err, r.Err())
	}
	if _, err := registry.Register(t.Context(), c.Client(), mail("c"), nil); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("Register says %v", err)
	}
	if err := leaving.Close(t.Context()); err != nil {
		t.Errorf("Close says %v", err)
	}
	sees(t, soon, v, "a")
	c.FreeUp()
	healthy(t, 5*time.Second, r)
	awaits(t, soon, v, "the update that was refused at first", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Zone == "eu"
	})
}

func errText(err error) string {
	if err == nil {
		return "nothing"
	}
	return err.Error()
}

// A process registers an ID once more through the same client, before it has closed the first registration: both follow the key
// through one view, which has not heard yet of what the second one has written.
func TestASecondRegistrationOfAKeyIsNotMisledByTheViewOfTheFirst(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli, prefix := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), under(t)
	first := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	calls.WaitCount(t, soon, etcdtest.WatchCreate, 1)
	calls.WaitCount(t, soon, "Txn", 2) // written, and read to be followed
	goOn := make(chan struct{})
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Times: -1, Hold: goOn})
	core, logs := observer.New(zap.WarnLevel)
	second := register(t, cli, mail("a"), &registry.Options{Prefix: prefix, Logger: zap.New(core)})
	<-time.After(500 * time.Millisecond) // for it to believe what the view says
	if err := second.Err(); err != nil {
		t.Errorf("while the view is behind: %v", err)
	}
	close(goOn)
	etcdtest.Eventually(t, soon, "the first one is replaced", func(context.Context) error {
		if !errors.Is(first.Err(), registry.ErrReplaced) {
			return fmt.Errorf("it says: %w", first.Err())
		}
		return nil
	})
	for _, l := range logs.FilterMessage("instance is not announced").All() {
		t.Errorf("the second one: %v %v", l.Message, l.ContextMap())
	}
}
