package registry_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// F17: 10,000 instances of 1 KiB each are listed, through a client that takes no message of over 4 MiB, and so is the difference
// after a cut, in one step.
func TestTenThousandInstancesOfAKilobyteAreListed(t *testing.T) { // not beside other tests: it takes times
	const many = 10_000
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	rest := fmt.Sprintf(`,"Metadata":{"note":%q}}`, strings.Repeat("x", 1<<10-60))
	value := func(n int) string { return fmt.Sprintf(`{"Addr":"10.%d.%d.7:80"`, n/256, n%256) + rest }
	if n := len(value(many)); n < 1000 || n > 1<<10 {
		t.Fatalf("a value has %d bytes", n)
	}
	for n := 0; n < many; n += 100 {
		puts := make([]clientv3.Op, 100)
		for i := range puts {
			puts[i] = clientv3.OpPut(fmt.Sprintf("services/mail/%05d", n+i), value(n+i))
		}
		if _, err := oracle.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	link := c.Link(0)
	cli := link.Dial(clientv3.Config{MaxCallRecvMsgSize: 4 << 20})
	start := time.Now()
	v := watch(t, cli, "mail", "")
	t.Logf("listed after %v, with %d processors", time.Since(start), runtime.GOMAXPROCS(0))
	check := func(s registry.Snapshot, gone int) {
		t.Helper()
		if len(s.Instances) != many-gone || len(s.Held) > 0 {
			t.Fatalf("%d instances, %d of them held", len(s.Instances), len(s.Held))
		}
		for at, i := range s.Instances {
			n := at + gone
			if i.ID != fmt.Sprintf("%05d", n) || i.Addr != fmt.Sprintf("10.%d.%d.7:80", n/256, n%256) || len(i.Metadata["note"]) != 1<<10-60 {
				t.Fatalf("instance %d is %+v", n, *i)
			}
		}
	}
	check(v.Snapshot(), 0)
	link.Cut()
	awaits(t, soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	if _, err := oracle.Delete(t.Context(), "services/mail/0", clientv3.WithRange("services/mail/01")); err != nil {
		t.Fatal(err)
	}
	link.Heal()
	start = time.Now()
	s := awaits(t, 2*soon, v, "live", func(s registry.Snapshot) bool { return s.Source == registry.Live })
	t.Logf("live again after %v", time.Since(start))
	check(s, 1000)
}

// F22: a herd of readers, each with a client of its own, is cut off and let in again at once, and etcd refuses as many reads as there
// are readers. All are back within five seconds, and see what has happened, without asking again and again.
func TestAHerdOfReadersIsBackWithinSeconds(t *testing.T) { // not beside other tests: it takes times
	const herd = 200
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	for n := range 20 {
		announce(t, oracle, fmt.Sprintf("services/mail/%02d", n), "10.0.0.7:80")
	}
	var (
		mu    sync.Mutex
		reads []time.Time // guarded by mu
	)
	var calls etcdtest.Calls
	link := c.Link(0)
	views := make([]*registry.View, herd)
	for n := range views {
		views[n] = watch(t, link.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "mail", "")
	}
	calls.Inject(etcdtest.Fault{Call: "Range", Times: -1, Match: func(any) bool {
		mu.Lock()
		defer mu.Unlock()
		reads = append(reads, time.Now())
		return len(reads) <= herd // the others are only noted
	}, Err: status.Error(codes.Unknown, rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests))}) // as it arrives
	link.Cut()
	for _, v := range views {
		awaits(t, soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	}
	pass(time.Second) // so that all of them wait, and not for the first time
	// Most of what it takes is the machine's work on so many connections: what a herd without views takes is the yardstick for a
	// machine that is busy.
	plain := dials(t, c, herd)
	within := max(5*time.Second, 4*plain)
	last := announce(t, oracle, "services/mail/new", "10.0.0.8:80")
	c.Delete("services/mail/00")
	start := time.Now()
	link.Heal()
	took := make([]time.Duration, herd)
	var all sync.WaitGroup
	for n, v := range views {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
			defer cancel()
			for s := range v.Changes(ctx) {
				if s.Source == registry.Live && s.Revision > last && len(s.Instances) == 20 {
					took[n] = time.Since(start)
					return
				}
			}
			t.Errorf("reader %d is not back: %v", n, v.Err())
		})
	}
	all.Wait()
	slices.Sort(took)
	mu.Lock()
	defer mu.Unlock()
	cv, most := variation(reads), peak(reads, 100*time.Millisecond)
	t.Logf("as many clients need %v for a read each", plain)
	t.Logf("%d readers are back: median %v, p99 %v; %d reads, at most %d in 100 ms, coefficient of variation of what is between them %.2f",
		herd, took[herd/2], took[herd*99/100], len(reads), most, cv)
	if p99 := took[herd*99/100]; p99 > within {
		t.Errorf("p99 is %v, over %v", p99, within)
	}
	if cv < 0.8 {
		t.Errorf("the readers come in line: coefficient of variation %.2f", cv)
	}
	if len(reads) > 5*herd {
		t.Errorf("%d reads of %d readers", len(reads), herd)
	}
}

// dials returns how long so many clients take, side by side, to connect and read.
func dials(t *testing.T, c *etcdtest.Cluster, many int) time.Duration {
	t.Helper()
	link := c.Link(0)
	all := make([]*clientv3.Client, many)
	for n := range all {
		all[n] = link.Client()
	}
	start := time.Now()
	var reading sync.WaitGroup
	for _, cli := range all {
		reading.Go(func() {
			if _, err := cli.Get(t.Context(), "services/", clientv3.WithPrefix()); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	took := time.Since(start)
	for _, cli := range all {
		_ = cli.Close() // it is done with
	}
	return took
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
