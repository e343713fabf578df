package config_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// A rollout is taken back without anybody's doing but the driver's, also while it is paused.
func TestWhatHappensToAnInstanceTakesTheRolloutBack(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(t *testing.T, cli *clientv3.Client, a *instance)
		cause   string // empty: it is not taken back
	}{
		"fails":      {func(_ *testing.T, _ *clientv3.Client, a *instance) { a.say(config.Failed, "500s") }, `instance "a" reports: 500s`},
		"dies":       {func(_ *testing.T, _ *clientv3.Client, a *instance) { a.die() }, `instance "a" died after it had applied`},
		"is another": {func(_ *testing.T, _ *clientv3.Client, a *instance) { a.again() }, `instance "a" ended after it had applied, and was started again`},
		"leaves":     {func(_ *testing.T, _ *clientv3.Client, a *instance) { a.leave() }, ""},
		"leaves and comes back": {func(_ *testing.T, _ *clientv3.Client, a *instance) {
			a.leave()
			a.again()
		}, ""},
		"is overwritten": {func(t *testing.T, cli *clientv3.Client, a *instance) { put(t, cli, a.key, "old") }, "the key was changed by others"},
		"is deleted":     {func(t *testing.T, cli *clientv3.Client, a *instance) { remove(t, cli, a.key) }, "the key was changed by others"},
		"loses the value": {func(t *testing.T, cli *clientv3.Client, a *instance) {
			remove(t, cli, beside(a.key)+"rollout/value")
		}, "the rollout's value was deleted"},
		"gets another value": {func(t *testing.T, cli *clientv3.Client, a *instance) {
			put(t, cli, beside(a.key)+"rollout/value", "worse")
		}, "the rollout's value was changed"},
	} {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, paused %v", name, paused), func(t *testing.T) {
				t.Parallel()
				cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
				put(t, cli, key, "old")
				a := join(t, cli, key, "a")
				join(t, cli, key, "b")
				r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100, Soak: 2 * time.Second}}})
				d := drive(t, r)
				shows(t, r, "both soak", func(p config.Progress) bool { return p.Soaking && len(p.Applied) == 2 })
				if paused {
					if err := r.Pause(t.Context(), ""); err != nil {
						t.Fatal(err)
					}
				}
				c.happens(t, cli, a)
				if c.cause != "" {
					d.aborted(t, c.cause)
					if p, _ := standing(t, cli, key); p.State != config.Aborted || p.Cause != c.cause {
						t.Errorf("the plan says %+v", p)
					}
					versions := must[[]config.Version](t)(store(t, cli, nil).History(t.Context(), key, 0))
					taken := false
					for _, v := range versions {
						taken = taken || v.Kind == config.TakenBack && v.Rollout == r.ID() && v.Reason == c.cause
					}
					if !taken {
						t.Errorf("the history is %+v", versions)
					}
					etcdtest.WaitGone(t, soon, cli, beside(key)+"rollout/value")
					return
				}
				if paused {
					holdsOff(t, d, "an end while paused")
					if err := r.Continue(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				d.promoted(t)
				ended(t, cli, r, config.Promoted)
			})
		}
	}
}

// The crash may come before there is time to say that the value was applied.
func TestADeathWhileApplyingTakesTheRolloutBack(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	a := join(t, cli, key, "a", applying("", ""))
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100}}})
	d := drive(t, r)
	shows(t, r, "a is awaited", func(p config.Progress) bool { return len(p.Awaited) == 1 })
	a.die()
	d.aborted(t, `instance "a" died while it was to apply`)
	ended(t, cli, r, config.Aborted)
}

func TestAnInstanceThatRefusesTakesTheRolloutBack(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a", applying(config.Refused, "rate must be at least 1"))
	r := begin(t, store(t, cli, nil), key, config.Plan{Steps: []config.Step{{Percent: 100}}})
	drive(t, r).aborted(t, `instance "a" refused it: rate must be at least 1`)
	if v := ended(t, cli, r, config.Aborted); v.Reason != `instance "a" refused it: rate must be at least 1` {
		t.Errorf("the version is %+v", v)
	}
}

var errRate = errors.New("1 % of mails fail")

func TestACheckThatFailsTakesTheRolloutBack(t *testing.T) {
	for name, c := range map[string]struct {
		check func(ctx context.Context) error
		is    error
		says  string
	}{
		"error":         {func(context.Context) error { return errRate }, errRate, "the check failed: 1 % of mails fail"},
		"panic":         {func(context.Context) error { panic("secret") }, nil, "the check failed: Check panicked in"},
		"hangs":         {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, context.DeadlineExceeded, "the check failed: context deadline exceeded"},
		"fails at last": {failsAt(3), errRate, "the check failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
			put(t, cli, key, "old")
			join(t, cli, key, "a")
			r := begin(t, store(t, cli, nil), key, config.Plan{
				Steps: []config.Step{{Percent: 100}}, Check: c.check, CheckEvery: 700 * time.Millisecond, CheckWithin: 300 * time.Millisecond,
			})
			d := drive(t, r)
			d.aborted(t, c.says)
			if c.is != nil && !errors.Is(d.err, c.is) {
				t.Errorf("the error does not wrap the check's: %v", d.err)
			}
			ended(t, cli, r, config.Aborted)
		})
	}
}

// failsAt is a check whose nth call fails. In a soak of a second with one each 700 ms the third is the one at the end.
func failsAt(n int) func(context.Context) error {
	calls := 0
	return func(context.Context) error {
		if calls++; calls == n {
			return errRate
		}
		return nil
	}
}

// The value is not promoted while a check that began before the end of the soak runs, nor by it.
func TestACheckAtTheEndOfTheSoakDecides(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	put(t, cli, key, "old")
	join(t, cli, key, "a")
	began, end := make(chan struct{}), make(chan error)
	r := begin(t, store(t, cli, nil), key, config.Plan{
		Steps: []config.Step{{Percent: 100}}, CheckWithin: time.Minute,
		Check: func(ctx context.Context) error {
			select {
			case began <- struct{}{}:
			case <-ctx.Done():
			}
			select {
			case err := <-end:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	d := drive(t, r)
	etcdtest.Receive(t, soon, "the first check", began)
	holdsOff(t, d, "an end while the check runs")
	end <- nil
	etcdtest.Receive(t, soon, "the last check", began)
	end <- nil
	d.promoted(t)
}
