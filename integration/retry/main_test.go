package retry_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a timeout to pass: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	meter()
	etcdtest.Main(m)
}

// soon is the patience with what has no bound of its own. Bounds on times are loose throughout: what a bound is there to
// exclude (a hundred repeats, a caller's whole minute, a member's five seconds) is far above it.
const soon = 20 * time.Second

// client is a client that was given a policy, with a counter on either side of that: outer sees the calls as clientv3 makes
// them, and so how often clientv3 itself repeats one; wire sees what the policy lets out, and makes it fail.
type client struct {
	*clientv3.Client
	outer, wire *etcdtest.Calls
}

// dial opens a client with a policy. It is closed when the test ends.
func dial(t testing.TB, p retry.Policy, endpoints ...string) client {
	t.Helper()
	return dialAs(t, clientv3.Config{Endpoints: endpoints}, p)
}

// calm opens a client whose timeouts are no subject of the test, and so long that no machine is too busy for them.
func calm(t testing.TB, p retry.Policy, endpoints ...string) client {
	t.Helper()
	return dial(t, calmed(p), endpoints...)
}

func calmed(p retry.Policy) retry.Policy {
	if p.ConnectTimeout == 0 {
		p.ConnectTimeout = soon
	}
	if p.AttemptTimeout == 0 && p.ReadTimeout == 0 {
		p.AttemptTimeout, p.ReadTimeout = soon, soon
	}
	return p
}

func dialAs(t testing.TB, cfg clientv3.Config, p retry.Policy) client {
	t.Helper()
	var outer, wire etcdtest.Calls
	cfg.DialOptions = append(append(outer.DialOptions(), retry.DialOptions(p)...), wire.DialOptions()...)
	return client{etcdtest.Dial(t, cfg), &outer, &wire}
}

// stock opens a client without a policy, to show what etcd's own does in the same place.
func stock(t testing.TB, endpoints ...string) (*clientv3.Client, *etcdtest.Calls) {
	t.Helper()
	var calls etcdtest.Calls
	return etcdtest.Dial(t, clientv3.Config{Endpoints: endpoints, DialOptions: calls.DialOptions()}), &calls
}

// timed makes a call, fails the test if it takes for ever, and returns how long it took and its error.
func timed(t *testing.T, what string, call func() error) (took time.Duration, err error) {
	t.Helper()
	took = etcdtest.Returns(t, 2*soon, what, func() { err = call() })
	t.Logf("%s: after %v: %v", what, took.Round(time.Millisecond), err)
	return took, err
}

// class checks what package retry says of an error, and that it says one thing only.
func class(t *testing.T, what string, err error, transient, ambiguous bool) {
	t.Helper()
	if retry.Transient(err) != transient || retry.Ambiguous(err) != ambiguous {
		t.Errorf("%s: transient is %t, ambiguous is %t, want %t and %t: %v",
			what, retry.Transient(err), retry.Ambiguous(err), transient, ambiguous, err)
	}
}

func isTransient(t *testing.T, what string, err error) { t.Helper(); class(t, what, err, true, false) }

func isAmbiguous(t *testing.T, what string, err error) { t.Helper(); class(t, what, err, false, true) }

// mustPut writes a key, and returns its revision.
func mustPut(t testing.TB, kv clientv3.KV, key, value string) int64 {
	t.Helper()
	resp, err := kv.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// mustGet reads a key, and returns nil if there is none.
func mustGet(t testing.TB, kv clientv3.KV, key string) (value string, version int64) {
	t.Helper()
	resp, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", 0
	}
	return string(resp.Kvs[0].Value), resp.Kvs[0].Version
}

// history returns every change there has been below a prefix. It must not have been compacted.
func history(t testing.TB, cli *clientv3.Client, prefix string) []*clientv3.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	end := mustPut(t, cli, prefix+"end-of-history", "")
	var all []*clientv3.Event
	for resp := range cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision == end {
				return all
			}
			all = append(all, e)
		}
	}
	t.Fatalf("the history below %q did not come to its end", prefix)
	return nil
}

// leaderless partitions a member off and waits until it knows that it has no leader.
func leaderless(t *testing.T, c *etcdtest.Cluster, i int) {
	t.Helper()
	c.Partition(i)
	etcdtest.Eventually(t, soon, "the member has no leader", func(context.Context) error {
		if lead := c.Member(i).Server.Lead(); lead != 0 {
			return fmt.Errorf("it follows %x", lead)
		}
		return nil
	})
}

// answer is what a server might say with a gRPC code and nothing more.
func answer(c codes.Code) error { return status.Error(c, "etcdtest: injected") }

// failures are all codes but OK.
func failures() []codes.Code {
	var all []codes.Code
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		all = append(all, c)
	}
	return all
}

// uncertain reports whether a code leaves open if a call was carried out: those of the table that are ambiguous.
func uncertain(c codes.Code) bool {
	switch c {
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal,
		codes.Unavailable, codes.DataLoss:
		return true
	default:
		return false
	}
}

// want checks that an error matches another.
func want(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: %v; want %v", what, err, target)
	}
}
