package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// anewWithin is the bound of reading again when a member is gone and there is a leader.
const anewWithin = 1500 * time.Millisecond

// F1, F2: leaders and followers are killed and come back, one after the other, while a document changes, each time once all have seen
// it. Everybody sees every revision that there was, once and in order, and Open works within two seconds all the time.
func TestSlowChangesAreAllSeenWhicheverMemberGoes(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	oracle := c.Oracle(c.WaitLeader())
	truth := newChronicle(t, oracle)
	put(t, oracle, "n", "0")
	var readers []<-chan config.Snapshot[int]
	seen := make([][]int64, 3)
	for range seen {
		readers = append(readers, changes(t, open[int](t, c.Client(), "n", nil)))
	}
	sees := func(want int) {
		t.Helper()
		for n, changed := range readers {
			s := etcdtest.Receive(t, anewWithin, "the change", changed)
			if s.Value != want {
				t.Errorf("reader %d got %d and not %d", n, s.Value, want)
			}
			seen[n] = append(seen[n], s.Revision)
		}
	}
	sees(0)
	for n := range 4 {
		gone := c.WaitLeader()
		if n%2 == 1 {
			gone = c.Follower()
		}
		truth.from(c.Oracle((gone + 1) % 3))
		c.Stop(gone)
		leader := c.WaitOtherLeader(gone)
		put(t, c.Oracle(leader), "n", strconv.Itoa(2*n+1))
		sees(2*n + 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		v, err := config.Open[int](ctx, c.Client(), "n", nil)
		cancel()
		if err != nil {
			t.Fatalf("without member %d: %v", gone, err)
		}
		if s := v.Snapshot(); s.Value != 2*n+1 || s.Source != config.Live {
			t.Errorf("without member %d: %+v", gone, s)
		}
		v.Close()
		c.Restart(gone)
		put(t, c.Oracle(c.WaitLeader()), "n", strconv.Itoa(2*n+2))
		sees(2*n + 2)
	}
	truth.now(c.Oracle(c.WaitLeader()))
	var there []int64
	for _, e := range truth.trial().keys[0]["n"] {
		there = append(there, e.Kv.ModRevision)
	}
	for n := range seen {
		if !slices.Equal(seen[n], there) {
			t.Errorf("reader %d saw %v, and there were %v", n, seen[n], there)
		}
	}
}

// F3: while there is no majority nobody is told anything; and of what has changed when a reader is back it is told once.
func TestTheReturnOfAMajorityIsOneUpdate(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	put(t, c.Client(), "port", "8080")
	links := c.Links()
	var validated atomic.Int64
	v := open(t, links.Client(), "port", &config.Options[int]{Validate: func(n int) error {
		validated.Add(1)
		if n == 0 {
			t.Error("Validate is given a zero value")
		}
		return nil
	}})
	var applied []string
	if _, err := v.Bind(func(old, to int) (commit, abort func(), err error) {
		applied = append(applied, fmt.Sprint(old, " to ", to))
		return nil, nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	changed := changes(t, v)
	next(t, changed)
	leader := c.WaitLeader()
	c.Stop(leader, (leader+1)%3)
	becomes(t, v, config.ErrNotCurrent)
	before := v.Snapshot()
	etcdtest.Nothing(t, 500*time.Millisecond, "a change without a majority", changed)
	s := v.Snapshot()
	if v.Get() != 8080 || s.Source != config.Stale || !s.SyncedAt.Equal(before.SyncedAt) {
		t.Errorf("without a majority: %+v, and then %+v", before, s)
	}
	links.Cut()
	c.Restart()
	for n := range 20 {
		put(t, c.Client(), "port", strconv.Itoa(9000+n))
	}
	links.Heal()
	if s := next(t, changed); s.Value != 9019 {
		t.Errorf("first seen again: %+v", s)
	}
	becomes(t, v, nil)
	etcdtest.Nothing(t, 200*time.Millisecond, "another change", changed)
	if want := []string{"0 to 8080", "8080 to 9019"}; !slices.Equal(applied, want) || validated.Load() != 2 {
		t.Errorf("applied %q, want %q; validated %d times", applied, want, validated.Load())
	}
}

// F15: members are restarted one after the other, and then all at once. That is no change to anybody, what changes in between is seen,
// and an instance's report is under the same lease, where it was.
func TestARollingRestartAndOneOfAllAreNoChange(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	cli := c.Client()
	put(t, cli, "port", "0")
	who := canaries("a", "canary")
	who.Identity.TTL = 10 * time.Second
	values := []*config.Value[int]{open[int](t, c.Client(), "port", nil), open(t, c.Client(), "port", who)}
	var changed []<-chan config.Snapshot[int]
	for _, v := range values {
		changed = append(changed, changes(t, v))
		next(t, changed[len(changed)-1])
	}
	lease := etcdtest.WaitKey(t, soon, cli, beside("port")+"report/a").Kvs[0].Lease
	for n, which := range [][]int{{0}, {1}, {2}, {0, 1, 2}} {
		c.Stop(which...)
		c.Restart(which...)
		leader := c.WaitLeader()
		for _, v := range values {
			becomes(t, v, nil)
		}
		for _, from := range changed {
			etcdtest.Nothing(t, 100*time.Millisecond, "a change without a put", from)
		}
		revision := put(t, c.Oracle(leader), "port", strconv.Itoa(n+1))
		for _, from := range changed {
			if s := etcdtest.Receive(t, 2*time.Second, "the change", from); s.Value != n+1 || s.Revision != revision {
				t.Errorf("after the restart of %v: %+v", which, s)
			}
		}
		reported(t, cli, "port", "a", "the newest", applies(revision, ""))
	}
	if again := etcdtest.WaitKey(t, soon, cli, beside("port")+"report/a").Kvs[0]; again.Lease != lease {
		t.Errorf("reported under lease %x, and now under %x", lease, again.Lease)
	}
}

// F6: every way is 200 ms longer, more or less. That is no trouble: what changes is seen when it comes, and nobody is taken for dead.
func TestALongWayIsNoTrouble(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, oracle := c.Link(0), c.Oracle(0)
	put(t, oracle, "port", "0")
	link.Delay(etcdtest.Both, 100*time.Millisecond, 300*time.Millisecond)
	who := canaries("a", "canary")
	who.Identity.TTL = 5 * time.Second
	v := open(t, link.Client(), "port", who)
	changed := changes(t, v)
	next(t, changed)
	first := etcdtest.WaitKey(t, soon, oracle, beside("port")+"report/a").Kvs[0]
	becomes(t, v, nil)
	end := time.After(4 * time.Second)
	for n, on := 1, true; on; n++ {
		put(t, oracle, "port", strconv.Itoa(n))
		if s := etcdtest.Receive(t, 500*time.Millisecond, "the change", changed); s.Value != n {
			t.Errorf("%+v instead of %d", s, n)
		}
		select {
		case <-time.After(200 * time.Millisecond):
			if err := v.Err(); err != nil {
				t.Errorf("Err is: %v", err)
			}
			if age := v.Snapshot().Age(); age > 2*known {
				t.Errorf("last known to be current %v ago", age)
			}
		case <-end:
			on = false
		}
	}
	if last := etcdtest.WaitKey(t, soon, oracle, beside("port")+"report/a").Kvs[0]; last.Lease != first.Lease || last.CreateRevision != first.CreateRevision {
		t.Errorf("reported as %v, and then as %v", first, last)
	}
}

// F13: while the database is full, instances keep their leases and go on running what is there; what they cannot report is not tried in
// a hot loop, and said when there is room again. Who ends, ends.
func TestAFullDatabaseHoldsUpReportsAndNothingElse(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	base := put(t, oracle, "rate", "1")
	var calls etcdtest.Calls
	v := open(t, c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "rate", canaries("a", "canary"))
	ends := open(t, c.Client(), "rate", canaries("b", "canary"))
	reported(t, oracle, "rate", "a", "the base", applies(base, ""))
	kept := etcdtest.WaitKey(t, soon, oracle, beside("rate")+"report/b").Kvs[0]
	first := etcdtest.WaitKey(t, soon, oracle, beside("rate")+"report/a").Kvs[0]
	c.FillUp()
	if err := v.Report(errors.New("it does badly")); err != nil {
		t.Fatal(err)
	}
	pass(2 * time.Second) // the first waits are short
	calls.Reset()
	const during = 4 * time.Second
	pass(during) // which is longer than the TTL
	if n := calls.Count("LeaseGrant") + calls.Count("Txn"); n < 1 || n > 8 {
		t.Errorf("%d attempts in %v: %v", n, during, calls.Counts())
	}
	if now := etcdtest.WaitKey(t, soon, oracle, beside("rate")+"report/a").Kvs[0]; now.ModRevision != first.ModRevision || now.Lease != first.Lease {
		t.Errorf("%v became %v", first, now)
	}
	if v.Get() != 1 || v.Err() != nil {
		t.Errorf("got %d, %v", v.Get(), v.Err())
	}
	etcdtest.Returns(t, 2*time.Second, "Close", ends.Close)
	etcdtest.WaitGone(t, time.Second, oracle, string(kept.Key))
	refused := open(t, c.Client(), "rate", canaries("c", "canary")) // which need not be able to report
	if refused.Get() != 1 || refused.Err() != nil {
		t.Errorf("opened while it is full: %d, %v", refused.Get(), refused.Err())
	}
	c.FreeUp()
	reported(t, oracle, "rate", "a", "that it does badly", func(r config.Report) bool { return r.State == config.Failed })
	reported(t, oracle, "rate", "c", "the base", applies(base, ""))
	// What was refused has left nothing behind.
	etcdtest.Eventually(t, soon, "two leases are left", func(ctx context.Context) error {
		resp, err := oracle.Leases(ctx)
		if err == nil && len(resp.Leases) != 2 {
			err = fmt.Errorf("there are %d", len(resp.Leases))
		}
		return err
	})
}
