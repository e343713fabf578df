package pool_test

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
)

// methods is a call of every method that a client has; nil where the end of the test calls it. An error is what etcd itself
// says to such a call.
func methods(t *testing.T, c *etcdtest.Cluster, etcd *clientv3.Client, streams bool) map[string]func(ctx context.Context) error {
	t.Helper()
	ignore := func(_ any, err error) error { return err }
	want := func(err error, as ...error) error {
		for _, one := range as {
			if errors.Is(err, one) {
				return nil
			}
		}
		return err
	}
	lease := func(ctx context.Context) clientv3.LeaseID {
		l, err := etcd.Grant(ctx, 60)
		if err != nil {
			t.Error(err)
			return 0
		}
		return l.ID
	}
	snapshot := func(r io.ReadCloser, err error) error {
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		if n == 0 {
			t.Error("an empty snapshot")
		}
		return errors.Join(err, r.Close())
	}
	endpoint := c.Endpoint(0)
	return map[string]func(ctx context.Context) error{
		// KV.
		"Put":     func(ctx context.Context) error { return ignore(etcd.Put(ctx, "k", "v")) },
		"Get":     func(ctx context.Context) error { return ignore(etcd.Get(ctx, "k")) },
		"Delete":  func(ctx context.Context) error { return ignore(etcd.Delete(ctx, "d")) },
		"Do":      func(ctx context.Context) error { return ignore(etcd.Do(ctx, clientv3.OpGet("k"))) },
		"Txn":     func(ctx context.Context) error { return ignore(etcd.Txn(ctx).Then(clientv3.OpPut("t", "")).Commit()) },
		"Compact": func(ctx context.Context) error { return ignore(etcd.Compact(ctx, 2)) },
		"GetStream": func(ctx context.Context) error {
			stream, err := etcd.GetStream(ctx, "k")
			if !streams { // clientv3's namespace has none
				if status.Code(err) != codes.Unimplemented {
					t.Errorf("GetStream in a namespace: %v", err)
				}
				return nil
			}
			if err != nil {
				return err
			}
			return ignore(clientv3.GetStreamToGetResponse(stream))
		},
		// Lease.
		"Grant":         func(ctx context.Context) error { lease(ctx); return nil },
		"Revoke":        func(ctx context.Context) error { return ignore(etcd.Revoke(ctx, lease(ctx))) },
		"TimeToLive":    func(ctx context.Context) error { return ignore(etcd.TimeToLive(ctx, lease(ctx))) },
		"Leases":        func(ctx context.Context) error { return ignore(etcd.Leases(ctx)) },
		"KeepAliveOnce": func(ctx context.Context) error { return ignore(etcd.KeepAliveOnce(ctx, lease(ctx))) },
		"KeepAlive": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			alive, err := etcd.KeepAlive(ctx, lease(ctx))
			if err == nil && (<-alive).TTL != 60 {
				t.Error("KeepAlive ended")
			}
			return err
		},
		// Watcher.
		"Watch": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			watch := etcd.Watch(ctx, "w", clientv3.WithCreatedNotify())
			<-watch
			if _, err := etcd.Put(ctx, "w", ""); err != nil {
				return err
			}
			if resp := <-watch; len(resp.Events) != 1 || string(resp.Events[0].Kv.Key) != "w" {
				t.Errorf("Watch: %v", resp)
			}
			return nil
		},
		"RequestProgress": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			watch := etcd.Watch(ctx, "quiet", clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
			<-watch
			if err := etcd.RequestProgress(ctx); err != nil {
				return err
			}
			if resp := <-watch; !resp.IsProgressNotify() {
				t.Errorf("RequestProgress: %v", resp)
			}
			return nil
		},
		// Cluster.
		"MemberList":         func(ctx context.Context) error { return ignore(etcd.MemberList(ctx)) },
		"MemberUpdate":       func(ctx context.Context) error { return memberUpdate(ctx, etcd) },
		"MemberAdd":          func(ctx context.Context) error { return memberAdd(ctx, etcd) },
		"MemberAddAsLearner": func(ctx context.Context) error { return memberAdd(ctx, etcd) },
		"MemberPromote": func(ctx context.Context) error {
			return want(ignore(etcd.MemberPromote(ctx, 1)), rpctypes.ErrMemberNotFound)
		},
		"MemberRemove": func(ctx context.Context) error {
			return want(ignore(etcd.MemberRemove(ctx, 1)), rpctypes.ErrMemberNotFound)
		},
		// Auth.
		"AuthStatus": func(ctx context.Context) error { return ignore(etcd.AuthStatus(ctx)) },
		"AuthEnable": func(ctx context.Context) error {
			return want(ignore(etcd.AuthEnable(ctx)), rpctypes.ErrRootUserNotExist)
		},
		"AuthDisable": func(ctx context.Context) error { return ignore(etcd.AuthDisable(ctx)) },
		"Authenticate": func(ctx context.Context) error {
			return want(ignore(etcd.Authenticate(ctx, "u", "p")), rpctypes.ErrAuthNotEnabled)
		},
		"RoleAdd":  func(ctx context.Context) error { return ignore(etcd.RoleAdd(ctx, "RoleAdd")) },
		"RoleList": func(ctx context.Context) error { return ignore(etcd.RoleList(ctx)) },
		"RoleGet":  func(ctx context.Context) error { return ignore(etcd.RoleGet(ctx, "r")) },
		"RoleGrantPermission": func(ctx context.Context) error {
			return ignore(etcd.RoleGrantPermission(ctx, "r", "g", "", clientv3.PermissionType(clientv3.PermRead)))
		},
		"RoleRevokePermission": func(ctx context.Context) error {
			return want(ignore(etcd.RoleRevokePermission(ctx, "r", "none", "")), rpctypes.ErrPermissionNotGranted)
		},
		"RoleDelete": func(ctx context.Context) error {
			return want(ignore(etcd.RoleDelete(ctx, "none")), rpctypes.ErrRoleNotFound)
		},
		"UserAdd": func(ctx context.Context) error { return ignore(etcd.UserAdd(ctx, "UserAdd", "p")) },
		"UserAddWithOptions": func(ctx context.Context) error {
			return ignore(etcd.UserAddWithOptions(ctx, "options", "", &clientv3.UserAddOptions{NoPassword: true}))
		},
		"UserList":           func(ctx context.Context) error { return ignore(etcd.UserList(ctx)) },
		"UserGet":            func(ctx context.Context) error { return ignore(etcd.UserGet(ctx, "u")) },
		"UserChangePassword": func(ctx context.Context) error { return ignore(etcd.UserChangePassword(ctx, "u", "q")) },
		"UserGrantRole":      func(ctx context.Context) error { return ignore(etcd.UserGrantRole(ctx, "u", "r")) },
		"UserRevokeRole": func(ctx context.Context) error {
			return want(ignore(etcd.UserRevokeRole(ctx, "u", "none")), rpctypes.ErrRoleNotGranted)
		},
		"UserDelete": func(ctx context.Context) error {
			return want(ignore(etcd.UserDelete(ctx, "none")), rpctypes.ErrUserNotFound)
		},
		// Maintenance.
		"AlarmList":   func(ctx context.Context) error { return ignore(etcd.AlarmList(ctx)) },
		"AlarmDisarm": func(ctx context.Context) error { return ignore(etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{})) },
		"Defragment":  func(ctx context.Context) error { return ignore(etcd.Defragment(ctx, endpoint)) },
		"Status":      func(ctx context.Context) error { return ignore(etcd.Status(ctx, endpoint)) },
		"HashKV":      func(ctx context.Context) error { return ignore(etcd.HashKV(ctx, endpoint, 0)) },
		"Snapshot":    func(ctx context.Context) error { return snapshot(etcd.Snapshot(ctx)) },
		"SnapshotWithVersion": func(ctx context.Context) error {
			s, err := etcd.SnapshotWithVersion(ctx)
			if err != nil {
				return err
			}
			return snapshot(s.Snapshot, nil)
		},
		"MoveLeader": func(ctx context.Context) error {
			return want(ignore(etcd.MoveLeader(ctx, 1)), rpctypes.ErrBadLeaderTransferee)
		},
		"Downgrade": func(ctx context.Context) error {
			return want(ignore(etcd.Downgrade(ctx, clientv3.DowngradeCancel, "")), rpctypes.ErrNoInflightDowngrade)
		},
		// The client itself.
		"ActiveConnection": func(ctx context.Context) error {
			return ignore(pb.NewKVClient(etcd.ActiveConnection()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}))
		},
		"Dial": func(ctx context.Context) error {
			cc, err := etcd.Dial(endpoint)
			if err != nil {
				return err
			}
			_, err = pb.NewKVClient(cc).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			return errors.Join(err, cc.Close())
		},
		"Ctx": func(context.Context) error { return etcd.Ctx().Err() },
		"Endpoints": func(context.Context) error {
			if got := etcd.Endpoints(); !slices.Equal(got, c.Endpoints()) {
				t.Errorf("Endpoints: %v", got)
			}
			return nil
		},
		"SetEndpoints": func(context.Context) error { etcd.SetEndpoints(c.Endpoints()...); return nil },
		"Sync":         func(ctx context.Context) error { return etcd.Sync(ctx) },
		"GetLogger": func(context.Context) error {
			if etcd.GetLogger() == nil {
				t.Error("no logger")
			}
			return nil
		},
		"WithLogger": func(context.Context) error { etcd.WithLogger(zap.NewNop()); return nil }, //nolint:staticcheck // deprecated, and there
		"Close":      nil,
	}
}

func memberUpdate(ctx context.Context, etcd *clientv3.Client) error {
	list, err := etcd.MemberList(ctx)
	if err != nil {
		return err
	}
	_, err = etcd.MemberUpdate(ctx, list.Members[0].ID, list.Members[0].PeerURLs)
	return err
}

// memberAdd adds one whose address is taken, which the cluster refuses: with the next member it would have no majority.
func memberAdd(ctx context.Context, etcd *clientv3.Client) error {
	list, err := etcd.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, add := range []func(context.Context, []string) error{
		func(ctx context.Context, urls []string) error { _, err := etcd.MemberAdd(ctx, urls); return err },
		func(ctx context.Context, urls []string) error {
			_, err := etcd.MemberAddAsLearner(ctx, urls)
			return err
		},
	} {
		if err := add(ctx, list.Members[0].PeerURLs); !errors.Is(err, rpctypes.ErrPeerURLExist) {
			return err
		}
	}
	return nil
}

// Every method, and what clientv3 adds to its client with the next version is missed here.
func TestEveryMethodOfTheClientWorks(t *testing.T) {
	t.Parallel()
	for what, namespace := range map[string]string{"plain": "", "namespace": "n/"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil) // users and members are the cluster's
			p := open(t, pool.Config{Endpoints: c.Endpoints(), Namespace: namespace})
			etcd := p.Client()
			for _, prepare := range []func() error{
				func() error { _, err := etcd.Put(t.Context(), "k", "v"); return err },
				func() error { _, err := etcd.RoleAdd(t.Context(), "r"); return err },
				func() error { _, err := etcd.UserAdd(t.Context(), "u", "p"); return err },
			} {
				if err := prepare(); err != nil {
					t.Fatal(err)
				}
			}
			calls := methods(t, c, etcd, namespace == "")
			for m := range reflect.TypeFor[*clientv3.Client]().Methods() {
				call, known := calls[m.Name]
				if !known {
					t.Errorf("%s: is there, and not called", m.Name)
				}
				delete(calls, m.Name)
				if call == nil {
					continue
				}
				etcdtest.Returns(t, soon, m.Name, func() {
					if err := call(t.Context()); err != nil {
						t.Errorf("%s: %v", m.Name, err)
					}
				})
			}
			for name := range calls {
				t.Errorf("%s: is not a method", name)
			}
			// In the namespace are all keys, and nothing beside it.
			all, err := c.Oracle(0).Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range all.Kvs {
				if !strings.HasPrefix(string(kv.Key), namespace) {
					t.Errorf("key %q", kv.Key)
				}
			}
		})
	}
}

// A stream that goes on for ever is counted where it goes, and one that ended is not.
func TestKindsOfTrafficGoThroughConnectionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints()})
	etcd, key := p.Client(), etcdtest.Prefix(t)
	wait := func(lease, watch int) {
		t.Helper()
		etcdtest.Eventually(t, soon, "the streams", func(context.Context) error {
			if s := p.Stats(); s.Lease.Calls != lease || s.Watch.Calls != watch || s.Unary.Calls != 0 {
				return errors.New(s.String())
			}
			return nil
		})
	}
	wait(0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := etcd.Watch(ctx, key, clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the watch", watch)
	wait(0, 1)
	lease, err := etcd.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := etcd.KeepAlive(ctx, lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	etcdtest.Receive(t, soon, "a keepalive", alive)
	wait(1, 1)
	if _, err := etcd.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	wait(1, 1)
	cancel()
	wait(1, 0) // clientv3 keeps the stream of keepalives
	if s := p.Stats().String(); !strings.Contains(s, etcdtest.Shared(t).Endpoint(0)) {
		t.Error(s)
	}
}
