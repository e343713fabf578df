package telemetry_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// sessionSoon is the patience with what has no bound of its own.
const sessionSoon = 15 * time.Second

// sessionOpen opens a session for the test's time.
func sessionOpen(t *testing.T, cli *clientv3.Client, opts *session.Options) *session.Session {
	t.Helper()
	s, err := session.Open(t.Context(), cli, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // the test may have lost it, or the way to etcd
	})
	return s
}

// sessionGrows returns a check of how much a value has grown since, which may come a moment after what it counts. Tests that use
// it are not parallel: others have sessions and locks, too.
func sessionGrows(t *testing.T, name string, attrs ...string) (by func(want float64)) {
	t.Helper()
	before := value(t, name, attrs...)
	return func(want float64) {
		t.Helper()
		etcdtest.Eventually(t, sessionSoon, name, func(context.Context) error {
			if grown := value(t, name, attrs...) - before; grown != want {
				return fmt.Errorf("%s %v has grown by %v, want %v", name, attrs, grown, want)
			}
			return nil
		})
	}
}

func TestSessionsAreInTheGaugesAsLongAsTheyAreTrusted(t *testing.T) {
	cli := etcdtest.Client(t)
	opened := sessionGrows(t, "etcdkit.session.open")
	long := sessionOpen(t, cli, &session.Options{TTL: time.Hour})
	if left := value(t, "etcdkit.session.remaining"); left < 3000 || left > 3240 {
		t.Errorf("%v s remain of an hour's TTL, less a tenth", left)
	}
	short := sessionOpen(t, cli, &session.Options{TTL: 30 * time.Second})
	opened(2)
	if left := value(t, "etcdkit.session.remaining"); left < 10 || left > 27 {
		t.Errorf("%v s remain, want those of the shorter session", left)
	}
	if err := short.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened(1)
	if left := value(t, "etcdkit.session.remaining"); left < 3000 {
		t.Errorf("%v s remain, want those of the session that is left", left)
	}
	if err := long.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened(0)
	if left := points(t, "etcdkit.session.remaining"); len(left) != 0 {
		t.Errorf("something remains after the last session: %v", left)
	}
}

func TestRenewalsAreCountedByWhatCameOfThem(t *testing.T) {
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	s := sessionOpen(t, cli, &session.Options{TTL: time.Hour})
	acknowledged := sessionGrows(t, "etcdkit.session.renewals", "etcdkit.outcome", "acknowledged")
	failed := sessionGrows(t, "etcdkit.session.renewals", "etcdkit.outcome", "failed")
	s.Probe()
	acknowledged(1)
	failed(0)
	// Not to be repeated by the client.
	refused := calls.Inject(etcdtest.Fault{Call: "LeaseKeepAlive", Err: status.Error(codes.PermissionDenied, "no")})
	s.Probe()
	etcdtest.Done(t, sessionSoon, "the refusal", refused.Hit())
	failed(1)
	s.Probe()
	acknowledged(2)
	failed(1)
}

func TestTheEndOfASessionIsCountedOnceByItsReason(t *testing.T) {
	for reason, end := range map[string]func(t *testing.T) *session.Session{
		"closed": func(t *testing.T) *session.Session {
			s := sessionOpen(t, etcdtest.Client(t), nil)
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return s
		},
		"expired": func(t *testing.T) *session.Session {
			link := etcdtest.Shared(t).Link(0)
			s := sessionOpen(t, link.Client(), &session.Options{TTL: 2 * time.Second})
			link.Cut()
			return s
		},
		"revoked": func(t *testing.T) *session.Session {
			s := sessionOpen(t, etcdtest.Client(t), nil)
			etcdtest.Shared(t).Revoke(s.Lease())
			s.Probe()
			return s
		},
		"restored":  sessionRestored,
		"untrusted": sessionElsewhere,
	} {
		t.Run(reason, func(t *testing.T) {
			var counted []func(float64)
			all := []string{"closed", "expired", "revoked", "restored", "untrusted"}
			for _, one := range all {
				counted = append(counted, sessionGrows(t, "etcdkit.session.ended", "etcdkit.reason", one))
			}
			s := end(t)
			etcdtest.Done(t, sessionSoon, "the end of the session", s.Context().Done())
			_ = s.Close(t.Context()) // a second end changes nothing
			for i, one := range all {
				want := 0.0
				if one == reason {
					want = 1
				}
				counted[i](want)
			}
			if n := value(t, "etcdkit.session.open"); n != 0 {
				t.Errorf("%v sessions are open after the end of the only one", n)
			}
		})
	}
}

// sessionRestored returns a session that is about to see etcd's data restored from a backup.
func sessionRestored(t *testing.T) *session.Session {
	c := etcdtest.New(t, nil)
	s := sessionOpen(t, c.Client(), nil)
	backup := c.Backup() // which has the lease
	for range 20 {
		resp, err := c.Client().Put(t.Context(), "later", "")
		if err != nil {
			t.Fatal(err)
		}
		s.Saw(resp.Header.Revision)
	}
	c.Restore(backup)
	s.Probe()
	return s
}

// sessionElsewhere returns a session whose lease another cluster has, too, which is what it finds at its endpoint.
func sessionElsewhere(t *testing.T) *session.Session {
	here, there := etcdtest.New(t, nil).Link(0), etcdtest.New(t, nil)
	var address atomic.Value
	address.Store(here.Endpoint())
	cli := etcdtest.Dial(t, clientv3.Config{
		Endpoints: []string{here.Endpoint()},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			_, host, _ := strings.Cut(address.Load().(string), "://")
			return new(net.Dialer).DialContext(ctx, "tcp", host)
		})},
	})
	s := sessionOpen(t, cli, nil)
	lease := &pb.LeaseGrantRequest{ID: int64(s.Lease()), TTL: 60}
	if _, err := pb.NewLeaseClient(there.Client().ActiveConnection()).LeaseGrant(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	address.Store(there.Endpoint(0))
	here.Cut()
	s.Probe()
	return s
}
