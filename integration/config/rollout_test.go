package config_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// begin begins a rollout of the value "new" over "old".
func begin(t testing.TB, s *config.Store, key string, p config.Plan) *config.Rollout {
	t.Helper()
	r, err := s.Rollout(t.Context(), key, []byte("new"), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ended fails the test unless the key, its history and its rollout are as they should be after the end.
func ended(t testing.TB, cli *clientv3.Client, r *config.Rollout, state config.RolloutState) config.Version {
	t.Helper()
	p, _ := standing(t, cli, r.Key())
	if p.ID != r.ID() || p.State != state {
		t.Errorf("the plan says %+v, want it %s", p, state)
	}
	etcdtest.WaitGone(t, soon, cli, beside(r.Key())+"rollout/value")
	kind, value := config.RolledOut, "new"
	if state == config.Aborted {
		kind, value = config.TakenBack, "old"
	}
	resp, err := cli.Get(t.Context(), r.Key())
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
		t.Errorf("the key holds %v, %v; want %q", resp.Kvs, err, value)
	}
	versions, err := store(t, cli, nil).History(t.Context(), r.Key(), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(versions, func(v config.Version) bool { return v.Rollout == r.ID() })
	if n < 0 || versions[n].Kind != kind || string(versions[n].Value) != "new" {
		t.Fatalf("the history is %+v", versions)
	}
	return versions[n]
}

func TestARolloutIsPromotedStepByStep(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	for n := range 10 {
		join(t, cli, key, fmt.Sprintf("i-%d", n))
	}
	r := begin(t, store(t, cli, nil), key, config.Plan{
		Steps:  []config.Step{{Percent: 5}, {Percent: 35, Soak: 1500 * time.Millisecond}, {Percent: 100}},
		Author: "ann", Reason: "more mail",
	})
	d := drive(t, r)
	for step, in := range []int{1, 4, 10} {
		p := shows(t, r, fmt.Sprintf("all of step %d soak", step+1), func(p config.Progress) bool { return p.Step == step+1 && p.Soaking })
		if len(p.Applied) != in || p.Reporting != 10 || len(p.Awaited) > 0 || p.SoakLeft > 2*time.Second {
			t.Errorf("step %d: %+v", step+1, p)
		}
	}
	d.promoted(t)
	if v := ended(t, cli, r, config.Promoted); v.Author != "ann" || v.Reason != "more mail" {
		t.Errorf("the version is %+v", v)
	}
}
