package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// event is one of what happened to a key's rollout and reports.
type event struct {
	*clientv3.Event
	plan   *plan          // if it is one
	report *config.Report // if it is one that was put
	before *config.Report // what the report was
	id     string         // of the report's instance
}

// course is what happened to a key's rollout and its reports, from the first revision of the plan to its last, in order.
func course(t testing.TB, cli *clientv3.Client, key string) []event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	var events []event
	reports := beside(key) + "report/"
	for resp := range cli.Watch(ctx, beside(key)+"r", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithPrevKV()) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			e := event{Event: ev}
			decode := func(value []byte, into any) {
				if err := json.Unmarshal(value, into); err != nil {
					t.Fatal(err)
				}
			}
			name := string(ev.Kv.Key)
			switch {
			case name == beside(key)+"rollout/plan" && ev.IsCreate(), name == beside(key)+"rollout/plan" && ev.IsModify():
				e.plan = &plan{}
				decode(ev.Kv.Value, e.plan)
			case len(name) > len(reports) && name[:len(reports)] == reports:
				e.id = name[len(reports):]
				if ev.Type == clientv3.EventTypePut {
					e.report = &config.Report{}
					decode(ev.Kv.Value, e.report)
				}
				if ev.PrevKv != nil {
					e.before = &config.Report{}
					decode(ev.PrevKv.Value, e.before)
				}
			}
			events = append(events, e)
		}
		if len(events) > 0 && events[len(events)-1].Kv.ModRevision >= lastOf(ctx, t, cli, key) {
			break
		}
	}
	return events
}

// lastOf is the revision at which the plan was written last.
func lastOf(ctx context.Context, t testing.TB, cli *clientv3.Client, key string) int64 {
	resp, err := cli.Get(ctx, beside(key)+"rollout/plan")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatal("no plan: ", err)
	}
	return resp.Kvs[0].ModRevision
}

// transitions are the states and steps that a rollout went through.
func transitions(t testing.TB, cli *clientv3.Client, key string) []string {
	t.Helper()
	var states []string
	for _, e := range course(t, cli, key) {
		if e.plan == nil {
			continue
		}
		state := fmt.Sprintf("%s %d", e.plan.State, e.plan.Step+1)
		if n := len(states); n == 0 || states[n-1] != state {
			states = append(states, state)
		}
	}
	return states
}

// threeSteps is a plan of 1, 50 and 100 percent.
var threeSteps = config.Plan{Steps: []config.Step{{Percent: 1}, {Percent: 50}, {Percent: 100}}}

var promotedInSteps = []string{"running 1", "running 2", "running 3", "promoted 3"}

func TestAnyNumberOfDriversMakeEachTransitionOnce(t *testing.T) {
	for _, n := range []int{2, 5} {
		t.Run(fmt.Sprintf("drivers=%d", n), func(t *testing.T) {
			t.Parallel()
			cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
			put(t, cli, key, "old")
			for i := range 4 {
				join(t, cli, key, fmt.Sprintf("i-%d", i))
			}
			r := begin(t, store(t, cli, nil), key, threeSteps)
			drivers := []*driven{drive(t, r)}
			for range n - 1 {
				again := must[*config.Rollout](t)(store(t, etcdtest.Client(t), nil).Resume(t.Context(), key, nil))
				drivers = append(drivers, drive(t, again))
			}
			for _, d := range drivers {
				d.promoted(t)
			}
			if states := transitions(t, cli, key); !slices.Equal(states, promotedInSteps) {
				t.Errorf("it went through %q", states)
			}
			versions := must[[]config.Version](t)(store(t, cli, nil).History(t.Context(), key, 0))
			if len(versions) != 2 {
				t.Errorf("the history is %+v", versions)
			}
		})
	}
}

func TestDriversThatAllTakeItBackDoSoOnce(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	a := join(t, cli, key, "a")
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: time.Hour}}})
	var drivers []*driven
	for range 5 {
		again := must[*config.Rollout](t)(store(t, etcdtest.Client(t), nil).Resume(t.Context(), key, nil))
		drivers = append(drivers, drive(t, again))
	}
	shows(t, r, "a soaks", func(p config.Progress) bool { return p.Soaking })
	a.die()
	for _, d := range drivers {
		d.aborted(t, `instance "a" died`)
	}
	if states := transitions(t, cli, key); !slices.Equal(states, []string{"running 1", "aborted 1"}) {
		t.Errorf("it went through %q", states)
	}
	versions := must[[]config.Version](t)(store(t, cli, nil).History(t.Context(), key, 0))
	if len(versions) != 2 {
		t.Errorf("the history is %+v", versions)
	}
}

// What happens between two drivers is seen by the second.
func TestADriverKnowsWhatHappenedBeforeIt(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(a *instance)
		cause   string // empty: it is promoted
	}{
		"nothing":                   {func(*instance) {}, ""},
		"a died":                    {(*instance).die, `instance "a" died after it had applied`},
		"a died and is back":        {func(a *instance) { a.die(); a.again() }, `instance "a" died after it had applied`},
		"a was started anew":        {(*instance).again, `instance "a" ended after it had applied, and was started again`},
		"a left":                    {(*instance).leave, ""},
		"a left and is back":        {func(a *instance) { a.leave(); a.again() }, ""},
		"a left, was back and died": {func(a *instance) { a.leave(); a.again(); a.die() }, `instance "a" died after it had applied`},
		"a failed for a while":      {func(a *instance) { a.say(config.Failed, "500s"); a.say(config.Applied, "") }, `instance "a" reports: 500s`},
		"another came and died": {func(a *instance) {
			join(a.t, a.cli, a.key, "c").die()
		}, `instance "c" died after it had applied`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
			put(t, cli, key, "old")
			a := join(t, cli, key, "a")
			join(t, cli, key, "b")
			s := store(t, cli, nil)
			first := begin(t, s, key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: time.Second}}})
			d := drive(t, first)
			shows(t, first, "both soak", func(p config.Progress) bool { return p.Soaking && len(p.Applied) == 2 })
			d.stop()
			if state, err := d.wait(t); state != config.Running || !errors.Is(err, context.Canceled) {
				t.Fatalf("the first driver: %s, %v", state, err)
			}
			c.happens(a)
			r := must[*config.Rollout](t)(s.Resume(t.Context(), key, nil))
			if r.ID() != first.ID() {
				t.Errorf("resumed %s instead of %s", r.ID(), first.ID())
			}
			if c.cause == "" {
				drive(t, r).promoted(t)
			} else {
				drive(t, r).aborted(t, c.cause)
			}
		})
	}
}

// What etcd has forgotten is made out by who is in the record and who is there. It is not known then how somebody went.
func TestADeathBetweenDriversIsSeenThoughEtcdWasCompacted(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(a *instance)
		cause   string
	}{
		"nothing":           {func(*instance) {}, ""},
		"a died":            {(*instance).die, `instance "a" is gone after it had applied`},
		"a is another":      {func(a *instance) { a.die(); a.again() }, `instance "a" ended after it had applied, and was started again`},
		"a said it is well": {func(a *instance) { a.say(config.Applied, "") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := etcdtest.New(t, nil)
			cli, key := cluster.Client(), "limits"
			put(t, cli, key, "old")
			a := join(t, cli, key, "a")
			s := store(t, cli, nil)
			first := begin(t, s, key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: 4 * time.Second}}})
			d := drive(t, first)
			etcdtest.Eventually(t, soon, "it is written down who has applied", func(context.Context) error {
				if p, _ := standing(t, cli, key); p.Applied["a"] == "" {
					return errors.New("a is not")
				}
				return nil
			})
			d.stop()
			<-d.done
			c.happens(a)
			put(t, cli, "other", "x")
			cluster.Compact(0)
			r := must[*config.Rollout](t)(s.Resume(t.Context(), key, nil))
			if c.cause == "" {
				drive(t, r).promoted(t)
			} else {
				drive(t, r).aborted(t, c.cause)
			}
		})
	}
}

func TestDriveEndsWithItsContextPromptly(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a")
	r := begin(t, store(t, cli, nil), key, config.Plan{
		Steps: []config.Step{{Percent: 100, Soak: time.Hour}},
		Check: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, CheckWithin: time.Hour,
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Drive(ctx)
		done <- err
	}()
	shows(t, r, "a soaks", func(p config.Progress) bool { return p.Soaking })
	cause := errors.New("shift is over")
	cancel(cause)
	if err := etcdtest.Receive(t, time.Second, "the end of Drive", done); !errors.Is(err, cause) {
		t.Errorf("Drive returns %v", err)
	}
	if p, _ := standing(t, cli, key); p.State != config.Running {
		t.Errorf("the rollout is %+v", p)
	}
}
