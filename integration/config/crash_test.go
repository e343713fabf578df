package config_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func init() { etcdproc.Child("canary", canary) }

// canary is a process that runs the key in its arguments, at the endpoint there, until it is killed.
func canary() {
	cli, err := clientv3.New(clientv3.Config{Endpoints: os.Args[2:], Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	v, err := config.Open(context.Background(), cli, os.Args[1], canaries("canary", "canary"))
	if err != nil {
		panic(err)
	}
	for s := range v.Changes(context.Background()) {
		fmt.Println("runs", s.Value, s.Revision)
	}
}

// kubernetes#20200: a canary applies the new value, says so, and dies of it. Nobody has to look: the rollout is taken back, and no other
// instance has ever run the value.
func TestACanaryThatIsKilledTakesTheRolloutBack(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, oracle := c.Client(), c.Oracle(0)
	s := store(t, cli, nil)
	base := publish(t, s, "rate", "1")
	others := []<-chan config.Snapshot[int]{}
	for n := range 3 {
		changed := changes(t, open(t, c.Client(), "rate", canaries(fmt.Sprint("other", n), "stable")))
		next(t, changed)
		others = append(others, changed)
	}
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "canary", Args: []string{"rate", c.Endpoint(0)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	reported(t, oracle, "rate", "canary", "the base", applies(base.Revision, ""))

	r, err := s.Rollout(t.Context(), "rate", []byte("2"), config.Plan{Steps: []config.Step{
		{Labels: map[string]string{"tier": "canary"}}, {Percent: 100},
	}})
	if err != nil {
		t.Fatal(err)
	}
	driver := drive(t, r)
	reported(t, oracle, "rate", "canary", "the rollout's value", func(r config.Report) bool {
		return r.State == config.Applied && r.Rollout != "" && r.Running > base.Revision
	})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	driver.aborted(t, "canary")
	if got, err := s.Get(t.Context(), "rate"); err != nil || string(got.Value) != "1" || got.Revision != base.Revision {
		t.Errorf("taken back, the key is %q at %d, %v", got.Value, got.Revision, err)
	}
	versions, err := s.History(t.Context(), "rate", 1)
	if err != nil || len(versions) != 1 || versions[0].Kind != config.TakenBack || string(versions[0].Value) != "2" {
		t.Errorf("the newest of the history is %+v, %v", versions, err)
	}
	for n, changed := range others {
		select {
		case s := <-changed:
			t.Errorf("instance %d has run %+v", n, s)
		default:
		}
	}
}
