package queue_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// scheduleFires selects the transactions that fire a tick of any schedule.
func scheduleFires(m any) bool {
	txn, ok := m.(*pb.TxnRequest)
	if !ok || len(txn.Compare) == 0 || !bytes.Contains(txn.Compare[0].Key, []byte("//schedules/")) {
		return false
	}
	return len(txn.Success) > 0 && txn.Success[0].GetRequestTxn() != nil
}

func TestATickHasOneJobThoughEveryAnswerIsLost(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	name := scheduleName(t)
	// One in two: the others are those that find out.
	var n int
	lost := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Times: -1, Match: func(m any) bool {
		if !scheduleFires(m) {
			return false
		}
		n++
		return n%2 == 1
	}})
	before := time.Now()
	d := scheduleRun(t, cli, name, "s", "@every 100ms", queue.ScheduleOptions{Overlap: true}, scheduleItem)
	etcdtest.Eventually(t, scheduleSoon, "lost answers", func(context.Context) error {
		if lost.Hits() < 20 {
			return context.DeadlineExceeded
		}
		return nil
	})
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
		t.Error(err)
	}
	scheduleContiguous(t, cli, name, "s", before, 100*time.Millisecond, 15)
}

func TestATickHasOneJobThoughItsRequestsAreLost(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	name := scheduleName(t)
	before := time.Now()
	d := scheduleRun(t, cli, name, "s", "@every 200ms", queue.ScheduleOptions{Overlap: true}, scheduleItem)
	scheduleStarted(t, cli, name, "s")
	var lost []*etcdtest.Armed
	for skip := range 5 {
		lost = append(lost, calls.Inject(etcdtest.Fault{Call: "Txn", Match: scheduleFires, Skip: 3 * skip, Times: 2}))
	}
	etcdtest.Done(t, scheduleSoon, "the last lost request", lost[len(lost)-1].Hit())
	at := time.Now()
	scheduleAwait(t, cli, name, "s", "up to date", func(i queue.ScheduleInfo) bool { return i.Last.After(at) })
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
		t.Error(err)
	}
	scheduleContiguous(t, cli, name, "s", before, 200*time.Millisecond, 5)
}

// One that is frozen between its decision and its request, until another has driven for a while, thinks that it drives; so do both for a moment.
func TestADriverThatWasFrozenFiresNothingTwice(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	c, name := etcdtest.Shared(t), scheduleName(t)
	cli, frozen := etcdtest.Client(t), c.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	before := time.Now()
	opts := queue.ScheduleOptions{Overlap: true}
	first := scheduleRun(t, frozen, name, "s", "@every 50ms", opts, scheduleItem)
	scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Job != "" })
	second := scheduleRun(t, cli, name, "s", "@every 50ms", opts, scheduleItem)
	line := etcdtest.WaitKeys(t, scheduleSoon, cli, scheduleRoot(name)+"drivers/s//", 2)

	thaw := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Match: scheduleFires, Hold: thaw})
	etcdtest.Done(t, scheduleSoon, "the request that is held", held.Hit())
	oldest := line.Kvs[0]
	for _, kv := range line.Kvs {
		if kv.CreateRevision < oldest.CreateRevision {
			oldest = kv
		}
	}
	c.Revoke(clientv3.LeaseID(oldest.Lease))
	at := time.Now()
	scheduleAwait(t, cli, name, "s", "driven by the second", func(i queue.ScheduleInfo) bool { return i.Last.After(at.Add(300 * time.Millisecond)) })
	close(thaw)
	at = time.Now()
	scheduleAwait(t, cli, name, "s", "driven on", func(i queue.ScheduleInfo) bool { return i.Last.After(at.Add(300 * time.Millisecond)) })
	for _, d := range []*scheduleDriver{first, second} {
		d.cancel()
		if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
			t.Error(err)
		}
	}
	if second.fired.Load() == 0 {
		t.Error("the second has fired nothing")
	}
	scheduleContiguous(t, cli, name, "s", before, 50*time.Millisecond, 10)
}

// Many catch up at once with none of them in line: they agree by the state alone.
func TestAnyNumberWhoThinkThatTheyDriveFireEachTickOnce(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), scheduleName(t)
	const every = 100 * time.Millisecond
	start := time.Now().Add(-30 * time.Second)
	scheduleWrite(t, cli, name, "s", "@every 100ms", start)
	opts := queue.ScheduleOptions{Overlap: true}
	drivers := make([]*scheduleDriver, 4)
	for i := range drivers {
		// Each sees a line of its own: the keys of drivers/ only are somewhere else.
		own := c.Client()
		own.KV = scheduleApart{own.KV, string(rune('a' + i))}
		drivers[i] = scheduleRun(t, own, name, "s", "@every 100ms", opts, scheduleItem)
	}
	at := time.Now()
	scheduleAwait(t, cli, name, "s", "up to date", func(i queue.ScheduleInfo) bool { return i.Last.After(at.Add(time.Second)) })
	all := 0
	for _, d := range drivers {
		d.cancel()
		if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
			t.Error(err)
		}
		if d.fired.Load() > 0 {
			all++
		}
	}
	if all < 2 {
		t.Errorf("%d drove at once", all)
	}
	scheduleContiguous(t, cli, name, "s", start, every, 300)
}

// scheduleApart lets a client stand in line alone: no other's key is found there.
type scheduleApart struct {
	clientv3.KV
	who string
}

func (a scheduleApart) Txn(ctx context.Context) clientv3.Txn { return &scheduleApartTxn{a.KV.Txn(ctx)} }

type scheduleApartTxn struct{ clientv3.Txn }

func (x *scheduleApartTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	x.Txn = x.Txn.If(cs...)
	return x
}

func (x *scheduleApartTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	x.Txn = x.Txn.Then(ops...)
	return x
}

func (x *scheduleApartTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	x.Txn = x.Txn.Else(ops...)
	return x
}

// Commit takes the other places out of the answer to who enters the line.
func (x *scheduleApartTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := x.Txn.Commit()
	if err == nil && len(resp.Responses) == 2 {
		if r := resp.Responses[1].GetResponseRange(); r != nil {
			line := false
			for _, kv := range r.Kvs {
				line = line || strings.Contains(string(kv.Key), "//drivers/")
			}
			if line {
				r.Kvs, r.Count, r.More = nil, 0, false
			}
		}
	}
	return resp, err
}

func TestAThousandTicksAcrossKillsHaveOneJobEach(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	name := scheduleName(t)
	const (
		cron  = "@every 10ms"
		every = 10 * time.Millisecond
	)
	opts := queue.ScheduleOptions{Overlap: true, MaxLate: 100_000}
	before := time.Now()

	// Four processes, each with links of its own.
	var (
		links   []etcdtest.Links
		clients []*clientv3.Client
		drivers []*scheduleDriver
	)
	for range 4 {
		l := c.Links()
		links = append(links, l)
		clients = append(clients, l.Client())
	}
	for _, cli := range clients {
		drivers = append(drivers, scheduleRun(t, cli, name, "s", cron, opts, scheduleItem))
	}
	cli := c.Client()
	goesOn := func(what string) {
		t.Helper()
		at := time.Now()
		scheduleAwait(t, cli, name, "s", "going on after "+what, func(i queue.ScheduleInfo) bool { return i.Last.After(at.Add(500 * time.Millisecond)) })
	}
	// who returns the lease of who drives, and its number: of the process whose jobs are counting up.
	leads := func() clientv3.LeaseID {
		t.Helper()
		var lease int64
		etcdtest.Eventually(t, scheduleSoon, "somebody who drives", func(ctx context.Context) error {
			resp, err := cli.Get(ctx, scheduleRoot(name)+"drivers/s//", clientv3.WithFirstCreate()...)
			if err != nil {
				return err
			}
			if len(resp.Kvs) == 0 {
				return context.DeadlineExceeded
			}
			lease = resp.Kvs[0].Lease
			return nil
		})
		return clientv3.LeaseID(lease)
	}
	number := func() int {
		t.Helper()
		counts := make([]int64, len(drivers))
		for i, d := range drivers {
			counts[i] = d.fired.Load()
		}
		found := -1
		etcdtest.Eventually(t, scheduleSoon, "a driver that fires", func(context.Context) error {
			for i, d := range drivers {
				if d.fired.Load() > counts[i]+5 {
					found = i
					return nil
				}
			}
			return context.DeadlineExceeded
		})
		return found
	}
	goesOn("the start")
	for round := range 2 {
		c.Revoke(leads())
		goesOn("a lease revoked")

		n := number()
		drivers[n].cancel()
		if err := etcdtest.Receive(t, scheduleSoon, "the end of a driver", drivers[n].done); err != nil {
			t.Error(err)
		}
		drivers[n] = scheduleRun(t, clients[n], name, "s", cron, opts, scheduleItem)
		goesOn("a driver's end")

		leader := c.Leader()
		c.Stop(leader)
		c.WaitOtherLeader(leader)
		goesOn("etcd's leader killed")
		c.Restart(leader)

		n = number()
		if round == 0 {
			links[n].Blackhole(etcdtest.Both)
		} else {
			links[n].Blackhole(etcdtest.Responses) // requests arrive, answers do not
		}
		goesOn("a driver cut off")
		links[n].Heal()

		leader = c.WaitLeader()
		c.Partition(leader)
		c.WaitOtherLeader(leader)
		goesOn("etcd's leader cut off")
		c.HealPartition()
		goesOn("all healed")
	}
	scheduleAwait(t, cli, name, "s", "a thousand ticks", func(i queue.ScheduleInfo) bool { return i.Last.Sub(before) > 1100*every })
	var ends sync.WaitGroup
	for _, d := range drivers {
		d.cancel()
		ends.Go(func() { <-d.done })
	}
	etcdtest.Returns(t, scheduleSoon, "the end of all", ends.Wait)
	scheduleContiguous(t, cli, name, "s", before, every, 1000)
}
