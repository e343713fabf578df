package registry

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// metricsView returns a view of 100 instances in three states, whose etcd does not answer.
func metricsView(t *testing.T) *View {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	key, err := newServiceKey(client, "mail", &ViewOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := acquire(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &View{service: s}
	v.cell.Store(s.roster.cell)
	v.life, v.end = s.life, func() {}
	t.Cleanup(v.Close)
	var events []follow.Event
	for n := range 100 {
		events = append(events, put(fmt.Sprintf("%03d", n), fmt.Sprintf(`{"Addr":"h:1","State":%q}`, stateNames[n%len(stateNames)])))
	}
	s.roster.Changed(follow.Change{Revision: 10, Initial: true, Events: events})
	s.roster.Live()
	return v
}

// Reading is not measured: what there is to say of a view is looked up when metrics are read.
func TestMetricsCostAViewNothing(t *testing.T) {
	v := metricsView(t)
	if of := populations()["mail"]; len(v.Snapshot().Instances) != 100 || of != (population{Ready: 34, Starting: 33, Draining: 33}) {
		t.Fatalf("%d instances, of which %v are reported", len(v.Snapshot().Instances), of)
	}
	p := NewPicker(v, RoundRobin, nil)
	for what, do := range map[string]func(){
		"Snapshot":       func() { _ = v.Snapshot() },
		"a pick":         func() { _, _ = p.Pick("") },
		"a key's return": func() { countReturn("mail") },
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

func TestOfSeveralListsOfAServiceTheLongestIsReported(t *testing.T) {
	services.Lock()
	before := services.of
	services.of = map[serviceKey]*service{}
	services.Unlock()
	defer func() {
		services.Lock()
		services.of = before
		services.Unlock()
	}()
	add := func(prefix string, r *roster) {
		services.Lock()
		services.of[serviceKey{name: "mail", prefix: prefix}] = &service{roster: r}
		services.Unlock()
	}
	add("unread", newTestRoster())
	if p := populations(); len(p) != 0 {
		t.Errorf("%v is reported of what was never read", p)
	}
	add("empty", synced())
	if p := populations(); len(p) != 1 || p["mail"].sum() != 0 {
		t.Errorf("%v is reported of an empty list", p)
	}
	add("two", synced(put("a", good), put("b", good)))
	add("one", synced(put("a", good)))
	if p := populations()["mail"]; p[Ready] != 2 || p.sum() != 2 {
		t.Errorf("%v, want two that are ready", p)
	}
}
