package config_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// reportsIt tells a report from a read.
func reportsIt(request any) bool { return len(request.(*pb.TxnRequest).Compare) > 0 }

// F24: every call of a reader that is an instance fails once with every code there is, some after they were carried out. The last good
// document stays meanwhile, what is put then is taken and reported once, and nothing is left when the instance ends.
func TestWhateverCodeACallFailsWithTheReaderGoesOn(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	t.Run("codes", func(t *testing.T) {
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			t.Run(code.String(), func(t *testing.T) {
				t.Parallel()
				throughCode(t, c, code)
			})
		}
	})
	etcdtest.WaitKeys(t, time.Second, oracle, "etcdkit/", 0)
	// A grant whose answer was lost leaves a lease without keys, for its TTL.
	etcdtest.Eventually(t, 5*time.Second, "no lease is left", func(ctx context.Context) error {
		resp, err := oracle.Leases(ctx)
		if err == nil && len(resp.Leases) > 0 {
			err = fmt.Errorf("there are %d", len(resp.Leases))
		}
		return err
	})
}

func throughCode(t *testing.T, c *etcdtest.Cluster, code codes.Code) {
	var calls etcdtest.Calls
	link, oracle, key := c.Link(0), c.Oracle(0), "rate/"+code.String()
	cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	failure := status.Error(code, "failed by the test")
	arm := func(f etcdtest.Fault) *etcdtest.Armed {
		f.Err = failure
		return calls.Inject(f)
	}
	put(t, oracle, key, "0")
	passing := slices.Contains([]codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Unavailable}, code)

	// Open: what may be tried again is, and what is refused is said.
	for _, f := range []etcdtest.Fault{{Call: "Range"}, {Call: "Range", After: true}, {Call: "Txn"}, {Call: "Watch"}, {Call: etcdtest.WatchCreate}, {Call: etcdtest.WatchResponse}} {
		hits := arm(f)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		v, err := config.Open[int](ctx, cli, key, nil)
		cancel()
		switch {
		case err == nil:
			if v.Get() != 0 {
				t.Errorf("%s: opened with %d", f.Call, v.Get())
			}
			becomes(t, v, nil)
			v.Close()
		case f.Call != "Range" || passing || !strings.Contains(err.Error(), status.Convert(failure).Message()):
			t.Errorf("%s: Open says: %v", f.Call, err)
		}
		if hits.Remove(); hits.Hits() == 0 {
			t.Errorf("%s was not called", f.Call)
		}
	}

	v := open(t, cli, key, canaries(code.String(), "canary"))
	changed := changes(t, v)
	next(t, changed)
	report := beside(key) + "report/" + code.String()
	at := 0
	changes := func(f etcdtest.Fault, drop bool) {
		t.Helper()
		before := etcdtest.WaitKey(t, soon, oracle, report).Kvs[0]
		hits := arm(f)
		if drop {
			link.Drop()
			etcdtest.Done(t, soon, "the call", hits.Hit())
		}
		if v.Get() != at {
			t.Errorf("%s: the value is %d", f.Call, v.Get())
		}
		at++
		revision := put(t, oracle, key, fmt.Sprint(at))
		if s := next(t, changed); s.Value != at || s.Revision != revision || s.Generation != 0 {
			t.Errorf("%s: %+v", f.Call, s)
		}
		becomes(t, v, nil)
		reported(t, oracle, key, code.String(), "the newest", applies(revision, ""))
		etcdtest.Done(t, soon, "the call "+f.Call, hits.Hit())
		if after := etcdtest.WaitKey(t, soon, oracle, report).Kvs[0]; after.CreateRevision == before.CreateRevision && after.Version != before.Version+1 {
			t.Errorf("%s: reported %d times", f.Call, after.Version-before.Version)
		}
	}
	reported(t, oracle, key, code.String(), "the first", func(r config.Report) bool { return r.State == config.Applied })
	changes(etcdtest.Fault{Call: etcdtest.WatchResponse}, false)
	changes(etcdtest.Fault{Call: "Watch"}, true)
	changes(etcdtest.Fault{Call: etcdtest.WatchCreate}, true)
	changes(etcdtest.Fault{Call: etcdtest.WatchProgress}, false)
	changes(etcdtest.Fault{Call: "LeaseKeepAlive"}, true)
	changes(etcdtest.Fault{Call: etcdtest.KeepAliveSend}, true)
	changes(etcdtest.Fault{Call: "Txn", Match: reportsIt}, false)
	changes(etcdtest.Fault{Call: "Txn", Match: reportsIt, After: true}, false)
	// A watch that fails is read again, and that fails too.
	read := arm(etcdtest.Fault{Call: "Txn", Match: func(m any) bool { return !reportsIt(m) }})
	changes(etcdtest.Fault{Call: etcdtest.WatchResponse}, false)
	if read.Remove(); read.Hits() > 1 {
		t.Errorf("reading failed %d times", read.Hits())
	}
	for _, after := range []bool{false, true} {
		grant := arm(etcdtest.Fault{Call: "LeaseGrant", After: after})
		lease := etcdtest.WaitKey(t, soon, oracle, report).Kvs[0].Lease
		c.Revoke(clientv3.LeaseID(lease))
		etcdtest.WaitKey(t, soon, oracle, report)
		grant.Remove()
		if !slices.Contains([]int{0, 1}, grant.Hits()) {
			t.Errorf("granting failed %d times", grant.Hits())
		}
	}
	arm(etcdtest.Fault{Call: "LeaseRevoke", After: true})
	etcdtest.Returns(t, 2*time.Second, "Close", v.Close)
	etcdtest.WaitGone(t, time.Second, oracle, report)
}
