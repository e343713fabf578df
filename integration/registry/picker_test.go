package registry_test

import (
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

var kinds = []registry.PickKind{registry.RoundRobin, registry.LeastLoaded, registry.Weighted, registry.ConsistentHash}

func TestPickersFollowWhatIsRegistered(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, cli, "mail", prefix)
	pickers := map[registry.PickKind]*registry.Picker{}
	for _, kind := range kinds {
		pickers[kind] = registry.NewPicker(v, kind, nil)
	}
	picks := func(ids ...string) {
		t.Helper()
		for kind, p := range pickers {
			got := map[string]bool{}
			for _, key := range "abcdefghijklmnopqrstuvwxyz" {
				for range 10 {
					pick, err := p.Pick(string(key))
					if err != nil {
						if !errors.Is(err, registry.ErrNoInstances) || len(ids) > 0 {
							t.Fatalf("%s: %v", kind, err)
						}
						continue
					}
					got[pick.Instance.ID] = true
					pick.Done(nil)
				}
			}
			for _, id := range ids {
				if !got[id] {
					t.Errorf("%s: %s was not picked", kind, id)
				}
			}
			if len(got) != len(ids) {
				t.Errorf("%s: picked %v, want %v", kind, got, ids)
			}
		}
	}
	picks()
	opts := &registry.Options{Prefix: prefix}
	a := register(t, cli, mail("a"), opts)
	b := register(t, cli, mail("b"), opts)
	sees(t, soon, v, "a", "b")
	picks("a", "b")
	if err := a.Update(t.Context(), func(i *registry.Instance) { i.State = registry.Draining }); err != nil {
		t.Fatal(err)
	}
	awaits(t, soon, v, "draining", func(s registry.Snapshot) bool { return s.Instances[0].State == registry.Draining })
	picks("b")
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(t, soon, v, "a")
	picks()
}

// What is known is of use without etcd. What is wrong is in the error as soon as there is nothing to pick.
func TestAViewThatIsCutOffIsPickedFromAndSaysSoWhenItIsEmpty(t *testing.T) {
	cluster := etcdtest.New(t, nil)
	cli := cluster.Dial(clientv3.Config{})
	prefix := "services"
	full, none := watch(t, cli, "mail", prefix), watch(t, cli, "post", prefix)
	announce(t, cli, prefix+"/mail/a", "10.0.0.7:80")
	sees(t, soon, full, "a")
	pickFull, pickNone := registry.NewPicker(full, registry.LeastLoaded, nil), registry.NewPicker(none, registry.LeastLoaded, nil)
	cluster.Stop()
	for _, v := range []*registry.View{full, none} {
		awaits(t, 3*soon, v, "stale", func(s registry.Snapshot) bool { return s.Source == registry.Stale })
	}
	pick, err := pickFull.Pick("")
	if err != nil {
		t.Fatal(err)
	}
	pick.Done(nil)
	if _, err := pickNone.Pick(""); !errors.Is(err, registry.ErrNoInstances) || !errors.Is(err, registry.ErrNotCurrent) {
		t.Errorf("got %v, want that there is none, and that this is not known to be so", err)
	}
}
