package config_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// writesState selects a transaction that writes a rollout's record of such a state.
func writesState(key string, state config.RolloutState, step int) func(any) bool {
	return func(message any) bool {
		txn, ok := message.(*pb.TxnRequest)
		if !ok {
			return false
		}
		for _, op := range txn.Success {
			if p := op.GetRequestPut(); p != nil && string(p.Key) == beside(key)+"rollout/plan" {
				var rec plan
				return json.Unmarshal(p.Value, &rec) == nil && rec.State == state && rec.Step == step
			}
		}
		return false
	}
}

// A driver is frozen between its decision and the write. What is reported meanwhile counts.
func TestAFrozenDriverDoesNotGoOnOverAnError(t *testing.T) {
	for name, c := range map[string]struct {
		state   config.RolloutState
		step    int
		happens func(t *testing.T, a *instance)
		cause   string
	}{
		"promotion, an error":  {config.Promoted, 1, func(_ *testing.T, a *instance) { a.say(config.Failed, "500s") }, "500s"},
		"promotion, a death":   {config.Promoted, 1, func(_ *testing.T, a *instance) { a.die() }, "died"},
		"promotion, a restart": {config.Promoted, 1, func(_ *testing.T, a *instance) { a.again() }, "started again"},
		"promotion, a refusal": {config.Promoted, 1, func(t *testing.T, a *instance) {
			join(t, a.cli, a.key, "new", applying(config.Refused, "not here"))
		}, "not here"},
		"promotion, a put": {config.Promoted, 1, func(t *testing.T, a *instance) { put(t, a.cli, a.key, "mine") }, "changed by others"},
		"step, an error":   {config.Running, 1, func(_ *testing.T, a *instance) { a.say(config.Failed, "500s") }, "500s"},
		"step, a death":    {config.Running, 1, func(_ *testing.T, a *instance) { a.die() }, "died"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
			put(t, cli, key, "old")
			a := join(t, cli, key, "a")
			calls := &etcdtest.Calls{}
			frozen := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			hold := make(chan struct{})
			fault := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: writesState(key, c.state, c.step), Hold: hold})
			r := begin(t, store(t, frozen, nil), key, config.Plan{Steps: []config.Step{{Percent: 50}, {Percent: 100}}})
			d := drive(t, r)
			etcdtest.Done(t, soon, "the driver is frozen", fault.Hit())
			c.happens(t, a)
			close(hold)
			d.aborted(t, c.cause)
			for _, e := range course(t, cli, key) {
				if e.plan != nil && (e.plan.State == c.state && e.plan.Step == c.step) {
					t.Errorf("it went on: %+v", e.plan)
				}
			}
		})
	}
}

// While one driver is frozen another goes on, to the end. The first finds that out.
func TestAFrozenDriverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a")
	calls := &etcdtest.Calls{}
	frozen := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	hold := make(chan struct{})
	r := begin(t, store(t, frozen, nil), key, config.Plan{Steps: []config.Step{{Percent: 50}, {Percent: 100}}})
	fault := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Hold: hold})
	d := drive(t, r)
	etcdtest.Done(t, soon, "the driver is frozen", fault.Hit())
	drive(t, must[*config.Rollout](t)(store(t, cli, nil).Resume(t.Context(), key, nil))).promoted(t)
	close(hold)
	d.promoted(t)
	if states := transitions(t, cli, key); !slices.Equal(states, []string{"running 1", "running 2", "promoted 2"}) {
		t.Errorf("it went through %q", states)
	}
}

// The answer to every write of the record is lost, and every transition is made once all the same.
func TestATransitionWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	lossy := func(t *testing.T, key string) (*clientv3.Client, *etcdtest.Armed) {
		var mu sync.Mutex
		var lost [][]byte
		calls := &etcdtest.Calls{}
		fault := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Times: -1, Match: func(message any) bool {
			txn, ok := message.(*pb.TxnRequest)
			if !ok {
				return false
			}
			for _, op := range txn.Success {
				p := op.GetRequestPut()
				if p == nil || string(p.Key) != beside(key)+"rollout/plan" {
					continue
				}
				mu.Lock()
				again := slices.ContainsFunc(lost, func(value []byte) bool { return bytes.Equal(value, p.Value) })
				lost = append(lost, p.Value)
				mu.Unlock()
				return !again
			}
			return false
		}})
		return etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), fault
	}
	t.Run("promotion", func(t *testing.T) {
		t.Parallel()
		cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
		put(t, cli, key, "old")
		c, fault := lossy(t, key)
		r := begin(t, store(t, c, nil), key, config.Plan{Steps: []config.Step{{Percent: 1}, {Percent: 50, Soak: 1500 * time.Millisecond}}})
		d := drive(t, r)
		join(t, cli, key, "a")
		join(t, cli, key, "b")
		d.promoted(t)
		ended(t, cli, r, config.Promoted)
		if states := transitions(t, cli, key); !slices.Equal(states, []string{"running 1", "running 2", "promoted 2"}) {
			t.Errorf("it went through %q", states)
		}
		if fault.Hits() < 4 {
			t.Errorf("only %d answers were lost", fault.Hits())
		}
	})
	t.Run("taking back", func(t *testing.T) {
		t.Parallel()
		cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
		put(t, cli, key, "old")
		c, _ := lossy(t, key)
		r := begin(t, store(t, c, nil), key, threeSteps)
		d := drive(t, r)
		join(t, cli, key, "a", applying(config.Refused, "no"))
		d.aborted(t, "no")
		ended(t, cli, r, config.Aborted)
	})
	t.Run("by hand", func(t *testing.T) {
		t.Parallel()
		cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
		put(t, cli, key, "old")
		c, fault := lossy(t, key)
		r := begin(t, store(t, c, nil), key, threeSteps)
		ctx := t.Context()
		for _, do := range []func() error{
			func() error { return r.Pause(ctx, "x") },
			func() error { return r.Continue(ctx) },
			func() error { return r.Promote(ctx) },
			func() error { return r.Promote(ctx) },
			func() error { return r.Promote(ctx) },
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
		ended(t, cli, r, config.Promoted)
		want := []string{"running 1", "paused 1", "running 1", "running 2", "running 3", "promoted 3"}
		if states := transitions(t, cli, key); !slices.Equal(states, want) {
			t.Errorf("it went through %q", states)
		}
		if fault.Hits() != 6 {
			t.Errorf("%d answers were lost", fault.Hits())
		}
		next, err := store(t, c, nil).Rollout(ctx, key, []byte("newer"), threeSteps)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Abort(ctx, "y"); err != nil {
			t.Fatal(err)
		}
		if p, _ := standing(t, cli, key); p.State != config.Aborted {
			t.Errorf("aborted, it is %+v", p)
		}
	})
}

// etcd is restarted, or the driver is cut off, in the middle of a soak.
func TestADriverOutlivesEtcd(t *testing.T) {
	for name, dies := range map[string]bool{"all well": false, "a dies meanwhile": true} {
		for _, how := range []string{"restart", "cut", "no answers"} {
			t.Run(how+", "+name, func(t *testing.T) {
				cluster := etcdtest.New(t, nil)
				link := cluster.Link(0)
				oracle := cluster.Client()
				key := "limits"
				put(t, oracle, key, "old")
				a := join(t, oracle, key, "a")
				join(t, oracle, key, "b")
				r := begin(t, store(t, link.Client(), nil), key, config.Plan{Steps: []config.Step{{Percent: 50}, {Percent: 100, Soak: 3 * time.Second}}})
				d := drive(t, r)
				cut := make(chan struct{})
				go func() {
					defer close(cut)
					for p := range r.Changes(t.Context()) {
						if p.Err != nil {
							return
						}
					}
				}()
				observed := must[*config.Rollout](t)(store(t, oracle, nil).Resume(t.Context(), key, nil))
				shows(t, observed, "both soak", func(p config.Progress) bool { return p.Step == 2 && p.Soaking && len(p.Applied) == 2 })
				switch how {
				case "restart":
					cluster.Stop(0)
					cluster.Restart(0)
				case "cut":
					link.Cut()
				default:
					link.Blackhole(etcdtest.Responses)
				}
				if dies {
					a.die()
					a.again()
				}
				etcdtest.Done(t, soon, "the driver is cut off", cut)
				link.Drop()
				link.Heal()
				if dies {
					d.aborted(t, `instance "a" died after it had applied`)
				} else {
					d.promoted(t)
				}
			})
		}
	}
}

// The answer to a promotion by hand is lost, and before it is asked for again somebody else has written the record: whose write made the
// step cannot be seen any more, and it is not made twice.
func TestAStepByHandIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	calls := &etcdtest.Calls{}
	slow := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	r := begin(t, store(t, slow, nil), key, threeSteps)
	hold := make(chan struct{})
	fault := calls.Inject(etcdtest.Fault{Call: "Txn", Match: writesState(key, config.Running, 1), After: true, Hold: hold, Err: rpctypes.ErrGRPCTimeout})
	done := make(chan error, 1)
	go func() { done <- r.Promote(t.Context()) }()
	etcdtest.Done(t, soon, "the step is made", fault.Hit())
	other := must[*config.Rollout](t)(store(t, cli, nil).Resume(t.Context(), key, nil))
	if err := other.Pause(t.Context(), "wait"); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if err := etcdtest.Receive(t, soon, "the promotion returns", done); err != nil {
		t.Error(err)
	}
	if states := transitions(t, cli, key); !slices.Equal(states, []string{"running 1", "running 2", "paused 2"}) {
		t.Errorf("it went through %q", states)
	}
}

// A new leader renews every lease, that of the dead included. The soak takes that into account.
func TestASoakBeginsAnewUnderANewLeader(t *testing.T) {
	cluster := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli, key := cluster.Client(), "limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a", func(i *instance) { i.ttl = 3 })
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100}}})
	d := drive(t, r)
	shows(t, r, "a has soaked for a while", func(p config.Progress) bool { return p.Soaking && p.SoakLeft <= 2*time.Second })
	old := cluster.WaitLeader()
	next := (old + 1) % 3
	since := time.Now()
	if _, err := cluster.ClientTo(old).MoveLeader(t.Context(), uint64(cluster.Member(next).ID())); err != nil {
		t.Fatal(err)
	}
	d.promoted(t)
	if took := time.Since(since); took < 4*time.Second {
		t.Errorf("promoted %v after the leases were renewed for 3 s", took)
	}
}
