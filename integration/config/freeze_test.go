package config_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func init() { etcdproc.Child("follower", follower) }

// follower is a process that follows the key in its arguments, at the endpoint there, and says what it takes, until it is killed.
func follower() {
	cli, err := clientv3.New(clientv3.Config{Endpoints: os.Args[2:], Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	var validated atomic.Int64
	opts := canaries("frozen", "canary")
	opts.Validate = func(int) error { validated.Add(1); return nil }
	v, err := config.Open(context.Background(), cli, os.Args[1], opts)
	if err != nil {
		panic(err)
	}
	for s := range v.Changes(context.Background()) {
		fmt.Println("runs", s.Value, s.Revision, s.Generation, validated.Load())
	}
}

// F7: a process is frozen for longer than its lease and all patience, and its key is changed, deleted and put again, and all of that
// compacted. When it wakes, the first thing that it takes is the last thing that was put, and nothing else; and it reports that.
func TestAFrozenProcessTakesTheNewestWhenItWakes(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, link := c.Oracle(0), c.Link(0)
	base := put(t, oracle, "rate", "1")
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "follower", Args: []string{"rate", link.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	runs := func() string {
		t.Helper()
		said, err := p.Expect(ctx, "runs ")
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	if said, want := runs(), fmt.Sprint(1, " ", base, " 0 1"); said != want {
		t.Errorf("it runs %q, want %q", said, want)
	}
	reported(t, oracle, "rate", "frozen", "the base", applies(base, ""))
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	link.Blackhole(etcdtest.Responses) // its kernel is awake, and would take what is sent
	for n := range 50 {
		put(t, oracle, "rate", fmt.Sprint(n+2))
	}
	etcdtest.WaitGone(t, soon, oracle, beside("rate")+"report/frozen")
	remove(t, oracle, "rate")
	put(t, oracle, "rate", "not a rate")
	last := put(t, oracle, "rate", "99")
	c.Compact(0)
	link.Drop()
	link.Heal()
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	awake := time.Now()
	said, took := runs(), time.Since(awake)
	if want := fmt.Sprint(99, " ", last, " 0 2"); said != want {
		t.Errorf("awake, it runs %q, want %q", said, want)
	}
	t.Logf("it runs the newest %v after it woke up", took)
	reported(t, oracle, "rate", "frozen", "the newest", applies(last, ""))
	end := put(t, oracle, "rate", "100")
	if said := runs(); !strings.HasPrefix(said, fmt.Sprint(100, " ", end)) {
		t.Errorf("it runs %q next", said)
	}
}
