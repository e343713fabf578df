package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// beside is where what belongs to a configuration key is kept: docs/keys.md.
func beside(key string) string { return "etcdkit/config/" + key + "//" }

// canaries are the options of an instance, in the labels' rollouts.
func canaries(id, tier string) *config.Options[int] {
	return &config.Options[int]{
		Identity: config.Identity{ID: id, Labels: map[string]string{"tier": tier}, TTL: 2 * time.Second},
		Validate: func(n int) error {
			if n < 0 {
				return errors.New("must not be negative")
			}
			return nil
		},
	}
}

// rollout writes the beginning of a rollout to those who are canaries, and returns the revision of its value.
func rollout(t *testing.T, cli *clientv3.Client, key, id, value string) int64 {
	t.Helper()
	resp, err := cli.Txn(t.Context()).Then(
		clientv3.OpPut(beside(key)+"rollout/plan", planText(id, "running")),
		clientv3.OpPut(beside(key)+"rollout/value", value),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func planText(id, state string) string {
	return fmt.Sprintf(`{"id":%q,"state":%q,"steps":[{"labels":{"tier":"canary"}}],"step":0}`, id, state)
}

// reported waits until an instance has reported what is wanted.
func reported(t *testing.T, cli *clientv3.Client, key, id, what string, holds func(config.Report) bool) config.Report {
	t.Helper()
	var r config.Report
	etcdtest.Eventually(t, soon, id+" reports: "+what, func(ctx context.Context) error {
		resp, err := cli.Get(ctx, beside(key)+"report/"+id)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return errors.New("it reports nothing")
		}
		r = config.Report{}
		if err := json.Unmarshal(resp.Kvs[0].Value, &r); err != nil {
			return err
		}
		if !holds(r) {
			return fmt.Errorf("it reports %+v", r)
		}
		return nil
	})
	return r
}

// applies is a report of a document that is run.
func applies(revision int64, rollout string) func(config.Report) bool {
	return func(r config.Report) bool {
		return r.State == config.Applied && r.Revision == revision && r.Running == revision && r.Rollout == rollout
	}
}

// apollo#1677, kubernetes#20200: a part of the instances runs the new value and says how it does; the others never see it. Promoted, it
// is everybody's, without a step back in between; taken back, it is nobody's.
func TestOnlyTheInstancesOfAPlanRunItsValue(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"rate"
	base := put(t, cli, key, "1")
	canary, other := open(t, cli, key, canaries("a", "canary")), open(t, cli, key, canaries("b", "stable"))
	nobody := open[int](t, cli, key, nil)
	reported(t, cli, key, "a", "the base", applies(base, ""))
	reported(t, cli, key, "b", "the base", applies(base, ""))
	canaryChanged, otherChanged := changes(t, canary), changes(t, other)
	next(t, canaryChanged)
	next(t, otherChanged)

	candidate := rollout(t, cli, key, "r1", "2")
	if s := next(t, canaryChanged); s.Value != 2 || s.Revision != candidate || s.Rollout != "r1" || s.Source != config.Live {
		t.Errorf("the canary runs %+v", s)
	}
	reported(t, cli, key, "a", "the rollout's value", applies(candidate, "r1"))
	put(t, cli, beside(key)+"rollout/plan", planText("r1", "aborted"))
	if s := next(t, canaryChanged); s.Value != 1 || s.Revision != base || s.Rollout != "" {
		t.Errorf("taken back, the canary runs %+v", s)
	}
	reported(t, cli, key, "a", "the base again", applies(base, ""))

	second := rollout(t, cli, key, "r2", "3")
	if s := next(t, canaryChanged); s.Value != 3 || s.Revision != second || s.Rollout != "r2" {
		t.Errorf("the canary runs %+v", s)
	}
	// One that comes now is in it from the beginning.
	if late := open(t, cli, key, canaries("c", "canary")); late.Get() != 3 || late.Snapshot().Rollout != "r2" {
		t.Errorf("the late canary runs %+v", late.Snapshot())
	}
	etcdtest.Nothing(t, 100*time.Millisecond, "another instance has changed", otherChanged)
	resp, err := cli.Txn(t.Context()).Then(
		clientv3.OpPut(key, "3"),
		clientv3.OpPut(beside(key)+"rollout/plan", planText("r2", "promoted")),
		clientv3.OpDelete(beside(key)+"rollout/value"),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	promoted := resp.Header.Revision
	if s := next(t, canaryChanged); s.Value != 3 || s.Revision != promoted || s.Rollout != "" {
		t.Errorf("promoted, the canary runs %+v", s)
	}
	if s := next(t, otherChanged); s.Value != 3 || s.Revision != promoted || s.Rollout != "" {
		t.Errorf("promoted, the others run %+v", s)
	}
	reported(t, cli, key, "a", "the promoted value", applies(promoted, ""))
	becomes(t, nobody, nil)
	if nobody.Get() != 3 {
		t.Errorf("who takes no part runs %d", nobody.Get())
	}
}

// The key and the plan are followed by two views. Whichever is told first, nobody steps back when a rollout is promoted, and
// nobody who is not in it steps ahead.
func TestAPromotionIsNeverAStepBack(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"rate"
	put(t, cli, key, "0")
	var mu sync.Mutex
	ran := map[string][]int{} // guarded by mu
	for n := range 6 {
		tier := []string{"canary", "stable"}[n%2]
		opts := canaries(fmt.Sprint("i", n), tier)
		validate := opts.Validate
		opts.Validate = func(n int) error {
			mu.Lock()
			defer mu.Unlock()
			ran[opts.Identity.ID] = append(ran[opts.Identity.ID], n)
			return validate(n)
		}
		open(t, cli, key, opts)
	}
	const rollouts = 40
	for n := 1; n <= rollouts; n++ {
		id, value := fmt.Sprint("r", n), fmt.Sprint(n)
		candidate := rollout(t, cli, key, id, value)
		reported(t, cli, key, "i0", "the rollout's value", applies(candidate, id))
		mu.Lock()
		for who, values := range ran {
			if who[1]%2 == 1 && slices.Contains(values, n) { // i1, i3, i5
				t.Errorf("%s, which is not in rollout %d, was given its value", who, n)
			}
		}
		mu.Unlock()
		resp, err := cli.Txn(t.Context()).Then(
			clientv3.OpPut(key, value),
			clientv3.OpPut(beside(key)+"rollout/plan", planText(id, "promoted")),
			clientv3.OpDelete(beside(key)+"rollout/value"),
		).Commit()
		if err != nil {
			t.Fatal(err)
		}
		for who := range 6 {
			reported(t, cli, key, fmt.Sprint("i", who), "the promoted value", applies(resp.Header.Revision, ""))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for who, values := range ran {
		if !slices.IsSorted(values) {
			t.Errorf("%s ran %v", who, values)
		}
	}
}

func TestAnInstanceSaysWhatItRefusesAndHowItDoes(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"rate"
	base := put(t, cli, key, "1")
	v := open(t, cli, key, canaries("a", "canary"))
	bad := put(t, cli, key, "-2")
	r := reported(t, cli, key, "a", "a refusal", func(r config.Report) bool { return r.State == config.Refused })
	if r.Revision != bad || r.Running != base || r.Reason == "" || r.TTL != 2 || r.Labels["tier"] != "canary" || r.Incarnation == "" {
		t.Errorf("it reports %+v", r)
	}
	candidate := rollout(t, cli, key, "r1", "-3")
	reported(t, cli, key, "a", "a refusal of the rollout's", func(r config.Report) bool {
		return r.State == config.Refused && r.Revision == candidate && r.Rollout == "r1" && r.Running == base
	})
	good := rollout(t, cli, key, "r2", "3")
	reported(t, cli, key, "a", "the rollout's value", applies(good, "r2"))
	if err := v.Report(errors.New("error rate 40 %")); err != nil {
		t.Fatal(err)
	}
	reported(t, cli, key, "a", "that it is not well", func(r config.Report) bool {
		return r.State == config.Failed && r.Revision == good && r.Rollout == "r2" && r.Reason == "error rate 40 %" && r.Running == good
	})
	if err := v.Report(nil); err != nil {
		t.Fatal(err)
	}
	reported(t, cli, key, "a", "that it is well", applies(good, "r2"))
	if err := v.Report(errors.New("again")); err != nil {
		t.Fatal(err)
	}
	put(t, cli, beside(key)+"rollout/plan", planText("r2", "aborted"))
	back := put(t, cli, key, "4")
	reported(t, cli, key, "a", "another value, with which it is well", applies(back, ""))
	if err := open[int](t, cli, key, nil).Report(nil); err == nil {
		t.Error("one without an Identity can report")
	}
}

// A report is desired state: it comes back with the next lease, and from a process that was cut off.
func TestAReportComesBackWhenItsLeaseWasLost(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Oracle(0)
	base := put(t, cli, "rate", "1")
	link := c.Link(0)
	open(t, link.Client(), "rate", canaries("a", "canary"))
	reported(t, cli, "rate", "a", "the base", applies(base, ""))
	lease := func() clientv3.LeaseID {
		resp, err := cli.Get(t.Context(), beside("rate")+"report/a")
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatal(resp, err)
		}
		return clientv3.LeaseID(resp.Kvs[0].Lease)
	}
	first := lease()
	c.Revoke(first)
	etcdtest.WaitKey(t, soon, cli, beside("rate")+"report/a")
	second := lease()
	link.Blackhole(etcdtest.Both)
	etcdtest.WaitGone(t, soon, cli, beside("rate")+"report/a")
	link.Drop()
	link.Heal()
	etcdtest.WaitKey(t, soon, cli, beside("rate")+"report/a")
	if third := lease(); first == second || second == third {
		t.Errorf("leases %x, %x, %x", first, second, third)
	}
	reported(t, cli, "rate", "a", "the base", applies(base, ""))
}

// An answer that is lost is no second report, and none that comes late.
func TestAReportWhoseAnswerIsLostIsResolved(t *testing.T) {
	t.Parallel()
	c := etcdtest.Shared(t)
	calls := &etcdtest.Calls{}
	cli, key := c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), etcdtest.Prefix(t)+"rate"
	base := put(t, cli, key, "1")
	open(t, cli, key, canaries("a", "canary"))
	reported(t, etcdtest.Client(t), key, "a", "the base", applies(base, ""))
	before := etcdtest.WaitKey(t, soon, etcdtest.Client(t), beside(key)+"report/a").Kvs[0].Version
	lost := calls.Inject(etcdtest.Fault{Call: "Txn", Times: 3, After: true})
	defer lost.Remove()
	for n := range 3 {
		revision := put(t, etcdtest.Client(t), key, fmt.Sprint(n+2))
		reported(t, etcdtest.Client(t), key, "a", "the newest", applies(revision, ""))
	}
	// Once more, so that what the answers before were lost of is settled.
	last := put(t, etcdtest.Client(t), key, "9")
	reported(t, etcdtest.Client(t), key, "a", "the newest", applies(last, ""))
	if kv := etcdtest.WaitKey(t, soon, etcdtest.Client(t), beside(key)+"report/a").Kvs[0]; kv.Version != before+4 {
		t.Errorf("four reports were put %d times", kv.Version-before)
	}
}

// Who ends in order says so: its end is not a death.
func TestAnInstanceThatEndsSaysGoodbye(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"rate"
	base := put(t, cli, key, "1")
	v := open(t, cli, key, canaries("a", "canary"))
	reported(t, cli, key, "a", "the base", applies(base, ""))
	events := cli.Watch(t.Context(), beside(key)+"report/a", clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the watch is open", events)
	v.Close()
	var seen []string
	for len(seen) < 2 {
		for _, ev := range etcdtest.Receive(t, soon, "what the instance does", events).Events {
			var r config.Report
			if ev.Type == clientv3.EventTypePut {
				if err := json.Unmarshal(ev.Kv.Value, &r); err != nil {
					t.Error(err)
				}
			}
			seen = append(seen, ev.Type.String()+" "+string(r.State))
		}
	}
	if want := []string{"PUT left", "DELETE "}; !slices.Equal(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
}

// Without etcd Close does not wait for it.
func TestAnInstanceThatIsCutOffEndsPromptly(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	base := put(t, c.Oracle(0), "rate", "1")
	v := open(t, link.Client(), "rate", canaries("a", "canary"))
	reported(t, c.Oracle(0), "rate", "a", "the base", applies(base, ""))
	link.Blackhole(etcdtest.Both)
	etcdtest.Returns(t, 3*time.Second, "Close", v.Close)
	link.Heal()
}

func TestAnIdentityIsChecked(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"rate"
	put(t, cli, key, "1")
	for _, who := range []config.Identity{{ID: "a/b"}, {ID: ".."}, {ID: "a\x00"}, {ID: "a", TTL: time.Second}} {
		if v, err := config.Open(t.Context(), cli, key, &config.Options[int]{Identity: who}); err == nil {
			t.Errorf("%+v was taken", who)
			v.Close()
		}
	}
}
