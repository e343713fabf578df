package registry_test

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// users makes a user of each name, with the permissions that its role of the same name is given, and turns authentication
// on. It returns a function that opens a client as one of them, or as root.
func users(t *testing.T, c *etcdtest.Cluster, grant map[string]func(root *clientv3.Client)) func(user string) *clientv3.Client {
	t.Helper()
	admin := c.Client()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(user string) *clientv3.Client {
		return c.Dial(clientv3.Config{Username: user, Password: user})
	}
	for _, user := range []string{"root", "registrant", "reader"} {
		must(admin.RoleAdd(t.Context(), user))
		must(admin.UserAdd(t.Context(), user, user))
		must(admin.UserGrantRole(t.Context(), user, user))
		if give := grant[user]; give != nil {
			give(admin)
		}
	}
	must(admin.AuthEnable(t.Context()))
	return as
}

// What an instance and its readers need to be allowed, and no more.
func TestTheLeastRolesSuffice(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	const key = "services/mail/a"
	allow := func(cli *clientv3.Client) {
		t.Helper()
		_, err := cli.RoleGrantPermission(t.Context(), "registrant", key, "", clientv3.PermissionType(clientv3.PermReadWrite))
		if err != nil {
			t.Fatal(err)
		}
	}
	as := users(t, c, map[string]func(*clientv3.Client){
		"registrant": allow,
		"reader": func(cli *clientv3.Client) {
			_, err := cli.RoleGrantPermission(t.Context(), "reader", "services/mail/", clientv3.GetPrefixRangeEnd("services/mail/"),
				clientv3.PermissionType(clientv3.PermRead))
			if err != nil {
				t.Fatal(err)
			}
		},
	})
	root, registrant, reader := as("root"), as("registrant"), as("reader")

	v := watch(t, reader, "mail", "")
	r := register(t, registrant, mail("a"), &registry.Options{Session: short})
	sees(t, soon, v, "a")
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" }); err != nil {
		t.Fatal(err)
	}
	kv := get(t, root, key)
	if _, err := root.Revoke(t.Context(), clientv3.LeaseID(kv.Lease)); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKey(t, repaired, root, key)
	healthy(t, repaired, r)
	sees(t, soon, v, "a")

	// Everything else is refused, promptly and for what it is.
	for what, open := range map[string]func() error{
		"another ID": func() error {
			_, err := registry.Register(t.Context(), registrant, mail("b"), nil)
			return err
		},
		"the instance by a reader": func() error {
			_, err := registry.Register(t.Context(), reader, mail("a"), nil)
			return err
		},
		"a view by a registrant": func() error {
			_, err := registry.Watch(t.Context(), registrant, "mail", nil)
			return err
		},
		"a view of another service": func() error {
			_, err := registry.Watch(t.Context(), reader, "mail2", nil)
			return err
		},
	} {
		var err error
		etcdtest.Returns(t, time.Second, what, func() { err = open() })
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}

	// A right that is taken away is told of at once, and its return is noticed.
	if _, err := root.RoleRevokePermission(t.Context(), "registrant", key, ""); err != nil {
		t.Fatal(err)
	}
	var err error
	etcdtest.Returns(t, 2*time.Second, "the update", func() {
		err = r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "us" })
	})
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || !errors.Is(r.Err(), rpctypes.ErrPermissionDenied) {
		t.Errorf("the update says %v, and Err %v", err, r.Err())
	}
	allow(root)
	healthy(t, soon, r)
	awaits(t, soon, v, "the update that was refused at first", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Zone == "us"
	})
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	sees(t, soon, v)
}
