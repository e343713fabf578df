package config_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestStatusSaysWhoRunsWhat(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	if reports, err := s.Status(t.Context(), key); err != nil || len(reports) > 0 {
		t.Errorf("without instances: %+v, %v", reports, err)
	}
	revision := put(t, cli, key, "old")
	join(t, cli, key, "b", labelled(map[string]string{"zone": "x"}))
	a := join(t, cli, key, "a")
	a.say(config.Failed, "500s")
	put(t, cli, beside(key)+"report/c", "{")
	reports, err := s.Status(t.Context(), key)
	if err != nil || len(reports) != 3 {
		t.Fatalf("%+v, %v", reports, err)
	}
	for i, want := range []config.Report{
		{Instance: "a", State: config.Failed, Reason: "500s", Revision: revision, Running: revision},
		{Instance: "b", State: config.Applied, Revision: revision, Running: revision},
		{Instance: "c"},
	} {
		got := reports[i]
		if got.Instance != want.Instance || got.State != want.State || got.Reason != want.Reason ||
			got.Revision != want.Revision || got.Running != want.Running {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if reports[1].Labels["zone"] != "x" {
		t.Errorf("the labels are %v", reports[1].Labels)
	}
}

// waits runs a WaitApplied.
func waits(t *testing.T, s *config.Store, key string, revision int64) <-chan error {
	out := make(chan error, 1)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_, err := s.WaitApplied(ctx, key, revision)
		out <- err
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out
}

func TestWaitAppliedWaitsForAllWhoReport(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	calls := &etcdtest.Calls{}
	s := store(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), nil)
	put(t, cli, key, "old")
	a, b := join(t, cli, key, "a"), join(t, cli, key, "b")
	for _, i := range []*instance{a, b} {
		i.deaf(true)
	}
	revision := put(t, cli, key, "new")
	end := waits(t, s, key, revision)
	etcdtest.Nothing(t, 200*time.Millisecond, "an end before anybody has applied", end)
	calls.Quiet(t, 500*time.Millisecond, etcdtest.WatchProgress)
	a.deaf(false)
	etcdtest.Nothing(t, 200*time.Millisecond, "an end before b has applied", end)
	c := join(t, cli, key, "c", func(i *instance) { i.silent = true; i.revision = 1 })
	c.say(config.Applied, "")
	b.deaf(false)
	etcdtest.Nothing(t, 200*time.Millisecond, "an end before the newcomer has applied", end)
	c.die()
	if err := etcdtest.Receive(t, soon, "the end", end); err != nil {
		t.Error(err)
	}
	reports, err := s.WaitApplied(t.Context(), key, revision-1)
	if err != nil || len(reports) != 2 || reports[0].Instance != "a" || reports[1].Running != revision {
		t.Errorf("a later revision counts: %+v, %v", reports, err)
	}
}

func TestWaitAppliedFailsAtOnce(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	s := store(t, cli, nil)
	if _, err := s.WaitApplied(t.Context(), key, 1); !errors.Is(err, config.ErrNobody) {
		t.Errorf("without instances: %v", err)
	}
	put(t, cli, key, "1")
	values := []*config.Value[int]{open[int](t, cli, key, canaries("a", "x")), open[int](t, cli, key, canaries("b", "x"))}
	revision := put(t, cli, key, "-1")
	if _, err := s.WaitApplied(t.Context(), key, revision); !errors.Is(err, config.ErrRefused) || !strings.Contains(err.Error(), "must not be negative") {
		t.Errorf("refused: %v", err)
	}
	revision = put(t, cli, key, "2")
	if reports, err := s.WaitApplied(t.Context(), key, revision); err != nil || len(reports) != 2 {
		t.Errorf("healed: %+v, %v", reports, err)
	}
	if err := values[1].Report(errors.New("500s")); err != nil {
		t.Fatal(err)
	}
	reported(t, cli, key, "b", "it fails", func(r config.Report) bool { return r.State == config.Failed })
	if _, err := s.WaitApplied(t.Context(), key, revision); !errors.Is(err, config.ErrFailed) || !strings.Contains(err.Error(), `instance "b"`) {
		t.Errorf("failed: %v", err)
	}
	end := waits(t, s, key, revision+1)
	etcdtest.Nothing(t, 100*time.Millisecond, "an end before the revision is there", end)
	put(t, cli, key, "-2")
	if err := etcdtest.Receive(t, soon, "the end", end); !errors.Is(err, config.ErrRefused) {
		t.Errorf("refused while it was waited for: %v", err)
	}
}

func TestWaitAppliedNamesWhoIsAwaitedWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"limits"
	revision := put(t, cli, key, "old")
	join(t, cli, key, "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("no time")
	cancel(cause)
	_, err := store(t, cli, nil).WaitApplied(ctx, key, revision+1)
	if !errors.Is(err, context.Canceled) && !errors.Is(err, cause) {
		t.Errorf("with a context that has ended: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := store(t, cli, nil).WaitApplied(ctx, key, revision+1)
		done <- err
	}()
	etcdtest.Nothing(t, 200*time.Millisecond, "an end", done)
	cancel(cause)
	if err := etcdtest.Receive(t, time.Second, "the end", done); !errors.Is(err, cause) || !strings.Contains(err.Error(), "not applied by a:") {
		t.Errorf("it says: %v", err)
	}
}
