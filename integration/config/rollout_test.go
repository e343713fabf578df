package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// holdsOff fails the test if the rollout goes anywhere within a moment.
func holdsOff(t testing.TB, d *driven, what string) {
	t.Helper()
	etcdtest.Nothing(t, 1500*time.Millisecond, what, d.done)
}

func TestARolloutOfValuesIsPromoted(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "1")
	var values []*config.Value[int]
	for n := range 5 {
		tier := "rest"
		if n == 0 {
			tier = "canary"
		}
		values = append(values, open[int](t, cli, key, canaries(fmt.Sprintf("i-%d", n), tier)))
	}
	s := store(t, cli, nil)
	r, err := s.Rollout(t.Context(), key, []byte("2"), config.Plan{Steps: []config.Step{{Labels: map[string]string{"tier": "canary"}}, {Percent: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	d := drive(t, r)
	shows(t, r, "the canary soaks", func(p config.Progress) bool { return p.Step == 1 && p.Soaking })
	for n, v := range values {
		if want := map[bool]int{true: 2, false: 1}[n == 0]; v.Get() != want {
			t.Errorf("instance %d runs %d, want %d", n, v.Get(), want)
		}
	}
	d.promoted(t)
	version, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	reports, err := s.WaitApplied(t.Context(), key, version.Revision)
	if err != nil || len(reports) != 5 {
		t.Errorf("applied by %+v, %v", reports, err)
	}
	for n, v := range values {
		if v.Get() != 2 {
			t.Errorf("instance %d runs %d", n, v.Get())
		}
	}
}

func TestAValueThatReportsAnErrorTakesTheRolloutBack(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "1")
	v := open[int](t, cli, key, canaries("a", "canary"))
	r, err := store(t, cli, nil).Rollout(t.Context(), key, []byte("2"), config.Plan{Steps: []config.Step{{Percent: 1, Soak: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	d := drive(t, r)
	shows(t, r, "the canary soaks", func(p config.Progress) bool { return p.Soaking })
	if err := v.Report(fmt.Errorf("too many timeouts")); err != nil {
		t.Fatal(err)
	}
	d.aborted(t, `instance "a" reports: too many timeouts`)
	etcdtest.Eventually(t, soon, "the canary is back", func(context.Context) error {
		if n := v.Get(); n != 1 {
			return fmt.Errorf("it runs %d", n)
		}
		return nil
	})
}

func TestAStepWaitsForWhoIsInIt(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 50}, {Labels: map[string]string{"zone": "b"}, MinReports: 2}}})
	d := drive(t, r)
	shows(t, r, "nobody reports", func(p config.Progress) bool { return p.Waiting == "no instance reports" })
	join(t, cli, key, "a", labelled(map[string]string{"zone": "a"}))
	shows(t, r, "the second step waits", func(p config.Progress) bool {
		return p.Step == 2 && p.Waiting == "no instance has the labels of the step"
	})
	b := join(t, cli, key, "b", labelled(map[string]string{"zone": "b"}), applying("", ""))
	shows(t, r, "b is awaited", func(p config.Progress) bool { return slices.Equal(p.Awaited, []string{"b"}) })
	holdsOff(t, d, "an end without b")
	b.say(config.Applied, "") // still of the key's own document
	holdsOff(t, d, "an end by a report of another document")
	b.becomes(config.Applied)
	shows(t, r, "one is not enough", func(p config.Progress) bool { return p.Waiting == "1 of 2 instances have applied" })
	join(t, cli, key, "c", labelled(map[string]string{"zone": "b"}))
	d.promoted(t)
	ended(t, cli, r, config.Promoted)
}

// Who joins in the middle of a soak is soaked too.
func TestANewcomerIsWaitedFor(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a")
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: 2 * time.Second}}})
	d := drive(t, r)
	shows(t, r, "a soaks", func(p config.Progress) bool { return p.Soaking })
	b := join(t, cli, key, "b", applying(config.Refused, "not for me"))
	d.aborted(t, `instance "b" refused it: not for me`)
	b.leave()
}

func TestWhileARolloutIsUnderWayNothingElseIsPublished(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	revision := put(t, cli, key, "old")
	plan := config.Plan{Steps: []config.Step{{Percent: 100}}}
	plan.Expect = revision - 1
	if _, err := s.Rollout(t.Context(), key, []byte("new"), plan); !errors.Is(err, config.ErrConflict) {
		t.Errorf("a rollout on another base: %v", err)
	}
	plan.Expect = revision
	r := begin(t, s, key, plan)
	if _, err := s.Publish(t.Context(), key, []byte("other"), config.PublishOptions{}); !errors.Is(err, config.ErrRollout) {
		t.Errorf("published: %v", err)
	}
	if _, err := s.Rollout(t.Context(), key, []byte("other"), plan); !errors.Is(err, config.ErrRollout) {
		t.Errorf("a second rollout: %v", err)
	}
	if err := r.Abort(t.Context(), "enough"); err != nil {
		t.Fatal(err)
	}
	if v := ended(t, cli, r, config.Aborted); v.Reason != "enough" {
		t.Errorf("the version is %+v", v)
	}
	if _, err := s.Resume(t.Context(), key, nil); !errors.Is(err, config.ErrNoRollout) {
		t.Errorf("resumed: %v", err)
	}
	if _, err := s.Publish(t.Context(), key, []byte("other"), config.PublishOptions{}); err != nil {
		t.Errorf("not published afterwards: %v", err)
	}
	next := begin(t, s, key, config.Plan{Steps: plan.Steps})
	if state, err := r.Drive(t.Context()); state != config.Aborted || !errors.Is(err, config.ErrAborted) {
		t.Errorf("driven after the next has begun: %s, %v", state, err)
	}
	if err := next.Abort(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
}

// A key that does not exist comes to be by its first rollout.
func TestARolloutMayCreateItsKey(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	join(t, cli, key, "a")
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100}}, Expect: config.Absent})
	drive(t, r).promoted(t)
	ended(t, cli, r, config.Promoted)
}

func TestARolloutIsPausedContinuedPromotedByHand(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	for n := range 4 {
		join(t, cli, key, fmt.Sprintf("i-%d", n))
	}
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 25}, {Percent: 50, Soak: time.Hour}, {Percent: 100, Soak: time.Hour}}})
	d := drive(t, r)
	ctx := t.Context()
	if err := errors.Join(r.Pause(ctx, "lunch"), r.Pause(ctx, "again")); err != nil {
		t.Fatal(err)
	}
	shows(t, r, "paused", func(p config.Progress) bool { return p.State == config.Paused && p.Cause == "lunch" })
	holdsOff(t, d, "an end while paused")
	if p, _ := standing(t, cli, key); p.Step != 0 {
		t.Fatalf("it went on while paused: %+v", p)
	}
	if err := errors.Join(r.Continue(ctx), r.Continue(ctx)); err != nil {
		t.Fatal(err)
	}
	shows(t, r, "the second step soaks", func(p config.Progress) bool {
		return p.State == config.Running && p.Cause == "" && p.Step == 2 && p.Soaking && p.SoakLeft > 59*time.Minute
	})
	if err := errors.Join(r.Pause(ctx, ""), r.Promote(ctx)); err != nil {
		t.Fatal(err)
	}
	p := shows(t, r, "the third step soaks", func(p config.Progress) bool { return p.State == config.Running && p.Step == 3 && p.Soaking })
	if len(p.Applied) != 4 {
		t.Errorf("in the third step: %+v", p)
	}
	if err := errors.Join(r.Promote(ctx), r.Promote(ctx)); err != nil {
		t.Fatal(err)
	}
	d.promoted(t)
	ended(t, cli, r, config.Promoted)
	for name, err := range map[string]error{"paused": r.Pause(ctx, ""), "continued": r.Continue(ctx), "aborted": r.Abort(ctx, "")} {
		if !errors.Is(err, config.ErrNoRollout) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

// Whoever promotes by hand does not wait, but does not pass over what was said either.
func TestAComplaintIsNotPromotedByHand(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	a := join(t, cli, key, "a", applying(config.Refused, "no"))
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100}}})
	etcdtest.Eventually(t, soon, "a refuses", func(ctx context.Context) error {
		reports, err := store(t, cli, nil).Status(ctx, key)
		if err == nil && reports[0].State != config.Refused {
			err = fmt.Errorf("%+v", reports)
		}
		return err
	})
	if err := r.Promote(t.Context()); err == nil || !strings.Contains(err.Error(), `instance "a" has refused it: no`) {
		t.Errorf("promoted: %v", err)
	}
	put(t, cli, key, "other")
	a.leave()
	if err := r.Promote(t.Context()); err == nil || !strings.Contains(err.Error(), "the key was changed") {
		t.Errorf("promoted over another base: %v", err)
	}
	if err := errors.Join(r.Abort(t.Context(), "x"), r.Abort(t.Context(), "y")); err != nil {
		t.Error(err)
	}
}

func TestChangesShowTheCourseOfARolloutAndEndWithIt(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a")
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: 2500 * time.Millisecond}}})
	d := drive(t, r)
	var seen []string
	for p := range r.Changes(t.Context()) {
		seen = append(seen, fmt.Sprintf("%s %v %v", p.State, p.Soaking, p.SoakLeft))
	}
	d.promoted(t)
	for _, want := range []string{"running true 3s", "running true 2s", "running true 1s"} {
		if !slices.Contains(seen, want) {
			t.Errorf("%q was not shown of %q", want, seen)
		}
	}
	if last := seen[len(seen)-1]; last != "promoted false 0s" {
		t.Errorf("the last is %q", last)
	}
}
