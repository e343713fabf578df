package config_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// The least roles of docs/guarantees.md: of an instance, that reads its key and the plan and writes its own report, and of who rolls out.
func TestAnInstanceAndADriverNeedTheirRightsAndNoOther(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli, key := c.Client(), "/config/prod/mail/level"
	user(t, cli, "driver", clientv3.PermissionType(clientv3.PermReadWrite), "/config/prod/", "etcdkit/config//config/prod/")
	user(t, cli, "instance", clientv3.PermissionType(clientv3.PermRead), beside(key)+"rollout/")
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(cli.RoleGrantPermission(t.Context(), "instance", key, "",
		clientv3.PermissionType(clientv3.PermRead)))
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(cli.RoleGrantPermission(t.Context(), "instance", beside(key)+"report/a", "",
		clientv3.PermissionType(clientv3.PermReadWrite)))
	root := secure(t, c, "nothing")
	dial := func(name string) *clientv3.Client {
		return c.Dial(clientv3.Config{Username: name, Password: name})
	}

	s := store(t, dial("driver"), &config.StoreOptions{Environment: "/config/prod"})
	first := publish(t, s, key, "old")
	v := open(t, dial("instance"), key, &config.Options[string]{Identity: config.Identity{ID: "a", TTL: 2 * time.Second}})
	reported(t, root, key, "a", "it runs what is there", func(r config.Report) bool { return r.Running == first.Revision })
	drive(t, begin(t, s, key, config.Plan{Steps: []config.Step{{Percent: 100}}})).promoted(t)
	if got := v.Get(); got != "new" {
		t.Errorf("promoted, and the instance has %q, %v", got, v.Err())
	}
	if _, err := s.WaitApplied(t.Context(), key, first.Revision+1); err != nil {
		t.Error(err)
	}
}
