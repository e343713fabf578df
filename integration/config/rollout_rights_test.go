package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
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

// One that could run a rollout's value and say nothing of it would be a canary that nobody hears. So an instance without the rights of
// one is told at once.
func TestAnInstanceWithoutItsRightsIsToldAtOnce(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli, key := c.Client(), "/config/prod/mail/level"
	put(t, cli, key, "1")
	read := clientv3.PermissionType(clientv3.PermRead)
	user(t, cli, "silent", read, key, beside(key)+"rollout/")
	user(t, cli, "blind", clientv3.PermissionType(clientv3.PermReadWrite), key, beside(key)+"report/")
	secure(t, c, "nothing")
	for name, lacks := range map[string]string{"silent": "report", "blind": "rollouts"} {
		etcdtest.Returns(t, soon, "Open by the "+name, func() {
			v, err := config.Open(t.Context(), c.Dial(clientv3.Config{Username: name, Password: name}), key, canaries("a", "canary"))
			if !errors.Is(err, rpctypes.ErrPermissionDenied) || !strings.Contains(err.Error(), lacks) {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil {
				v.Close()
			}
		})
	}
}

// That etcd takes no report for a while, as when it is full, keeps no instance from its key's document: only from a rollout's.
func TestAnInstanceRunsARolloutsValueOnceItsReportIsInEtcd(t *testing.T) {
	t.Parallel()
	c := etcdtest.Shared(t)
	calls := &etcdtest.Calls{}
	cli, key := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), etcdtest.Prefix(t)+"rate"
	put(t, cli, key, "1")
	candidate := rollout(t, cli, key, "r1", "2")
	full := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: reportsIt, Err: rpctypes.ErrGRPCNoSpace})
	v := open(t, cli, key, canaries("a", "canary"))
	changed := changes(t, v)
	if s := next(t, changed); s.Value != 1 || v.Err() != nil {
		t.Errorf("without a report it runs %+v, %v", s, v.Err())
	}
	etcdtest.Nothing(t, 300*time.Millisecond, "the rollout's value, of which it could say nothing", changed)
	full.Remove()
	if s := next(t, changed); s.Value != 2 || s.Revision != candidate {
		t.Errorf("with a report it runs %+v", s)
	}
	reported(t, cli, key, "a", "the rollout's value", applies(candidate, "r1"))
}
