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
		hits, read := arm(f), (*etcdtest.Armed)(nil)
		if f.Call == "Range" { // which asks beside the view's reading, and is not called any more when that is there first
			read = calls.Inject(etcdtest.Fault{Call: "Txn", Hold: hits.Hit()})
		}
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
		if read != nil {
			read.Remove()
		}
	}

	s := &coded{t: t, c: c, cli: cli, link: link, key: key, id: code.String(), arm: arm}
	for _, f := range []etcdtest.Fault{
		{Call: etcdtest.WatchResponse},
		{Call: etcdtest.WatchProgress},
		{Call: "Txn", Match: reportsIt},
		{Call: "Txn", Match: reportsIt, After: true},
	} {
		s.meanwhile(f, false)
	}
	for _, call := range []string{"Watch", etcdtest.WatchCreate, "LeaseKeepAlive", etcdtest.KeepAliveSend} {
		s.meanwhile(etcdtest.Fault{Call: call}, true)
	}
	// A watch that fails is read again, and that fails too.
	s.meanwhile(etcdtest.Fault{Call: etcdtest.WatchResponse}, false, etcdtest.Fault{Call: "Txn", Match: func(m any) bool { return !reportsIt(m) }})
	s.leases()
}

// coded is a reader that is an instance, and what its calls are made to fail with.
type coded struct {
	t    *testing.T
	c    *etcdtest.Cluster
	cli  *clientv3.Client
	link *etcdtest.Link
	key  string
	id   string
	arm  func(etcdtest.Fault) *etcdtest.Armed
	n    int // of the newest document
}

// open begins anew, without the waits that failures before have made long.
func (s *coded) open() (v *config.Value[int], report string) {
	s.t.Helper()
	v = open(s.t, s.cli, s.key, canaries(s.id, "canary"))
	reported(s.t, s.c.Oracle(0), s.key, s.id, "the first", func(r config.Report) bool { return r.State == config.Applied && r.Revision > 0 })
	return v, beside(s.key) + "report/" + s.id
}

// meanwhile has the document change while a call fails, which is made because of that, or because the connection is lost.
func (s *coded) meanwhile(f etcdtest.Fault, drop bool, then ...etcdtest.Fault) {
	s.t.Helper()
	v, report := s.open()
	defer v.Close()
	oracle, changed := s.c.Oracle(0), changes(s.t, v)
	next(s.t, changed)
	before := etcdtest.WaitKey(s.t, soon, oracle, report).Kvs[0]
	hits := s.arm(f)
	for _, f := range then {
		also := s.arm(f)
		s.t.Cleanup(func() {
			if also.Remove(); also.Hits() > 1 { // none, if clientv3 goes on by itself
				s.t.Errorf("%s failed %d times", f.Call, also.Hits())
			}
		})
	}
	if drop {
		s.link.Drop()
		etcdtest.Done(s.t, soon, "the call", hits.Hit())
	}
	if v.Get() != s.n {
		s.t.Errorf("%s: the value is %d", f.Call, v.Get())
	}
	s.n++
	revision := put(s.t, oracle, s.key, fmt.Sprint(s.n))
	if got := next(s.t, changed); got.Value != s.n || got.Revision != revision || got.Generation != 0 {
		s.t.Errorf("%s: %+v", f.Call, got)
	}
	becomes(s.t, v, nil)
	reported(s.t, oracle, s.key, s.id, "the newest", applies(revision, ""))
	etcdtest.Done(s.t, soon, "the call "+f.Call, hits.Hit())
	if after := etcdtest.WaitKey(s.t, soon, oracle, report).Kvs[0]; after.CreateRevision == before.CreateRevision && after.Version != before.Version+1 {
		s.t.Errorf("%s: reported %d times", f.Call, after.Version-before.Version)
	}
}

// leases are revoked while none is granted, and are not given back.
func (s *coded) leases() {
	s.t.Helper()
	v, report := s.open()
	oracle := s.c.Oracle(0)
	for _, after := range []bool{false, true} {
		grant := s.arm(etcdtest.Fault{Call: "LeaseGrant", After: after})
		s.c.Revoke(clientv3.LeaseID(etcdtest.WaitKey(s.t, soon, oracle, report).Kvs[0].Lease))
		etcdtest.WaitKey(s.t, soon, oracle, report)
		if grant.Hits() != 1 {
			s.t.Errorf("granting failed %d times", grant.Hits())
		}
	}
	s.arm(etcdtest.Fault{Call: "LeaseRevoke", After: true})
	etcdtest.Returns(s.t, 2*time.Second, "Close", v.Close)
	etcdtest.WaitGone(s.t, time.Second, oracle, report)
}
