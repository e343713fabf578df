package config_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// F22: a process with a thousand Values loses etcd, which changes all their documents meanwhile, and is let in again; and etcd refuses as
// many reads as there are Values. All are right within five seconds, without asking again and again, and they do not come in line. (The
// race detector has a smaller herd: what a thousand have left to do when etcd is back is the machine's work, and ten times as much with
// it.)
func TestAThousandValuesAreBackWithinSeconds(t *testing.T) { // not beside other tests: it takes times
	herd := 1000
	if raceEnabled {
		herd = 200
	}
	c := etcdtest.New(t, nil)
	oracle, link := c.Oracle(0), c.Link(0)
	puts := func(what string) {
		for n := 0; n < herd; n += 100 {
			ops := make([]clientv3.Op, 100)
			for i := range ops {
				ops[i] = clientv3.OpPut(fmt.Sprint("app/", n+i), what)
			}
			if _, err := oracle.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	puts("before")
	var (
		mu     sync.Mutex
		reads  []time.Time // guarded by mu
		calls  etcdtest.Calls
		cli    = link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		values = make([]*config.Value[string], herd)
		all    sync.WaitGroup
	)
	for n := range values {
		all.Go(func() { values[n] = open[string](t, cli, fmt.Sprint("app/", n), nil) })
		if n%50 == 49 {
			all.Wait()
		}
	}
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: func(any) bool {
		mu.Lock()
		defer mu.Unlock()
		reads = append(reads, time.Now())
		return len(reads) <= herd // the others are only noted
	}, Err: status.Error(codes.Unknown, rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests))}) // as it arrives
	link.Cut()
	for _, v := range values {
		becomes(t, v, config.ErrNotCurrent)
	}
	puts("after")
	// Part of what it takes is the machine's work: what as many bare watches take is the yardstick for one that is busy.
	plain := watches(t, c, herd)
	within := max(5*time.Second, 10*plain)
	pass(2 * time.Second) // so that all of them wait, and not for the first time
	link.Heal()
	start := time.Now()
	took := make([]time.Duration, herd)
	for n, v := range values {
		all.Go(func() {
			for s := range v.Changes(t.Context()) {
				if s.Value == "after" {
					took[n] = time.Since(start)
					return
				}
			}
		})
	}
	etcdtest.Returns(t, 2*soon, "all are back", all.Wait)
	slices.Sort(took)
	mu.Lock()
	defer mu.Unlock()
	cv, most := variation(reads), peak(reads, 100*time.Millisecond)
	t.Logf("as many watches need %v to be confirmed", plain)
	t.Logf("%d Values are back: median %v, p99 %v; %d reads, at most %d in 100 ms, coefficient of variation of what is between them %.2f",
		herd, took[herd/2], took[herd*99/100], len(reads), most, cv)
	if p99 := took[herd*99/100]; p99 > within {
		t.Errorf("p99 is %v, over %v", p99, within)
	}
	if cv < 0.8 {
		t.Errorf("the Values come in line: coefficient of variation %.2f", cv)
	}
	if len(reads) > 5*herd {
		t.Errorf("%d reads of %d Values", len(reads), herd)
	}
}

// watches returns how long so many watches of one client take, side by side, to read and to be confirmed.
func watches(t *testing.T, c *etcdtest.Cluster, many int) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cli := c.Client()
	start := time.Now()
	var all sync.WaitGroup
	for n := range many {
		all.Go(func() {
			key := fmt.Sprint("app/", n)
			_, err := cli.Get(ctx, key)
			if resp := <-cli.Watch(ctx, key, clientv3.WithCreatedNotify()); err != nil || !resp.Created {
				t.Error(err, resp)
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// peak is how many of the times, which are in order, are within so long of each other.
func peak(at []time.Time, within time.Duration) (most int) {
	first := 0
	for n, now := range at {
		for now.Sub(at[first]) > within {
			first++
		}
		most = max(most, n-first+1)
	}
	return most
}

// variation is the coefficient of variation of the times between events: 0 if they are equal, 1 if events are independent.
func variation(at []time.Time) float64 {
	var sum, squares float64
	for n := 1; n < len(at); n++ {
		d := at[n].Sub(at[n-1]).Seconds()
		sum += d
		squares += d * d
	}
	n := float64(len(at) - 1)
	mean := sum / n
	return math.Sqrt(squares/n-mean*mean) / mean
}
