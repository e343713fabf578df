package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// followPort opens a Value of the key "port", which it puts, until the test ends.
func followPort(t *testing.T, c *etcdtest.Cluster, cli *clientv3.Client) *config.Value[int] {
	t.Helper()
	followPut(t, c, "port", "8080")
	v, err := config.Open[int](t.Context(), cli, "port", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// followPut puts a key past all faults.
func followPut(t *testing.T, c *etcdtest.Cluster, key, document string) int64 {
	t.Helper()
	resp, err := c.Oracle(0).Put(t.Context(), key, document)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.GetRevision()
}

// followErr waits until a Value is current, or is not because of want.
func followErr(t *testing.T, v *config.Value[int], want error) {
	t.Helper()
	etcdtest.Eventually(t, gaugeSoon, fmt.Sprintf("Err is %v", want), func(context.Context) error {
		if err := v.Err(); !errors.Is(err, want) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
}

// followOpened runs open, and returns when what it follows was counted for a recipe, and is reported as current.
func followOpened(t *testing.T, recipe string, open func()) {
	t.Helper()
	attrs := []string{"etcdkit.recipe", recipe, "etcdkit.reason", "opened"}
	before := value(t, "etcdkit.follow.resyncs", attrs...)
	open()
	etcdtest.Eventually(t, gaugeSoon, "it follows", func(context.Context) error {
		if n := value(t, "etcdkit.follow.resyncs", attrs...) - before; n == 0 {
			return errors.New("nothing was counted")
		}
		return nil
	})
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", recipe)
}

func TestWhatFollowsIsToldApartByItsRecipe(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var v *registry.View
	followOpened(t, "registry", func() {
		var err error
		if v, err = registry.Watch(ctx, cli, "mail", nil); err != nil {
			t.Fatal(err)
		}
	})
	v.Close()
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "registry")

	var port *config.Value[int]
	followOpened(t, "config", func() { port = followPort(t, c, cli) })
	port.Close()
	followOpened(t, "config", func() {
		m, err := config.OpenMap[string](ctx, cli, "tenants", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "config")
		v := followPort(t, c, cli)
		m.Close()
		gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "config") // of the Value
		t.Cleanup(v.Close)
	})

	worked := make(chan error, 1)
	followOpened(t, "queue", func() {
		go func() {
			worked <- queue.New[int](cli, "jobs", nil).Work(ctx, nil, func(context.Context, *queue.Delivery[int]) error { return nil })
		}()
	})
	observed := make(chan struct{})
	followOpened(t, "election", func() {
		go func() {
			defer close(observed)
			for _, err := range election.Observe(ctx, cli, "boss") {
				_ = err // what is cut is told by the metrics
			}
		}()
	})
	cancel()
	if err := etcdtest.Receive(t, gaugeSoon, "the worker's end", worked); err != nil {
		t.Error(err)
	}
	etcdtest.Done(t, gaugeSoon, "the observer's end", observed)
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "queue")
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "election")
}

// Who owns watches its own key, who waits watches the line, and behind many others those right ahead of it.
func TestWhoStandsInLineFollowsAsALock(t *testing.T) {
	c := etcdtest.New(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	var door [2]lock.Mutex // through a client each
	for i := range door {
		sess, err := session.Open(ctx, c.Client(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sess.Close(context.WithoutCancel(ctx)) })
		door[i] = lock.NewMutex(sess, "door")
	}
	enter := func(m lock.Mutex, others int) {
		t.Helper()
		waiting.Go(func() {
			if held, err := m.Lock(ctx); err == nil {
				_ = held.Unlock(context.WithoutCancel(ctx))
			}
		})
		etcdtest.WaitKeys(t, gaugeSoon, c.Oracle(0), "door/", others+1)
	}
	followOpened(t, "lock", func() {
		if _, err := door[0].Lock(ctx); err != nil {
			t.Fatal(err)
		}
	})
	followOpened(t, "lock", func() { enter(door[0], 1) })
	for others := 2; others < 10; others++ {
		enter(door[0], others)
	}
	followOpened(t, "lock", func() { enter(door[1], 10) })
}

// followResyncs is how often what configuration follows was read for a reason.
func followResyncs(t *testing.T, reason string) float64 {
	t.Helper()
	return value(t, "etcdkit.follow.resyncs", "etcdkit.recipe", "config", "etcdkit.reason", reason)
}

func TestAResyncSaysWhy(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	v := followPort(t, c, link.Client())
	before := map[string]float64{}
	for _, reason := range []string{"opened", "compacted", "interrupted", "restored"} {
		before[reason] = followResyncs(t, reason)
	}
	// A busy machine may interrupt a view at any time; the others are exact.
	counts := func(what string, want map[string]float64) {
		t.Helper()
		for reason, n := range before {
			got := followResyncs(t, reason) - n
			if got < want[reason] || got > want[reason] && reason != "interrupted" {
				t.Errorf("%s: %v reads counted as %q, want %v", what, got, reason, want[reason])
			}
		}
	}

	link.Cut()
	followErr(t, v, config.ErrNotCurrent)
	link.Heal()
	followErr(t, v, nil)
	counts("a cut", map[string]float64{"interrupted": 1})

	// client/v3 takes up the watch where it broke, if that is soon enough, and there history has gone. It may be too late on a busy
	// machine: then the view has been interrupted.
	rounds := 0
	for followResyncs(t, "compacted") == before["compacted"] && rounds < 5 {
		rounds++
		link.Blackhole(etcdtest.Both)
		followPut(t, c, "port", "1")
		revision := followPut(t, c, "port", fmt.Sprint(rounds))
		c.Compact(0)
		link.Drop()
		link.Heal()
		etcdtest.Eventually(t, gaugeSoon, "the newest document", func(context.Context) error {
			if s := v.Snapshot(); s.Revision != revision || s.Source != config.Live {
				return fmt.Errorf("%+v, want revision %d", s, revision)
			}
			return nil
		})
	}
	counts("a compaction", map[string]float64{"compacted": 1, "interrupted": 1})
	t.Logf("the watch was taken up in time in round %d", rounds)

	backup := c.Backup()
	followPut(t, c, "port", "9090")
	etcdtest.Eventually(t, gaugeSoon, "the document that will be lost", func(context.Context) error {
		if v.Get() != 9090 || v.Err() != nil {
			return fmt.Errorf("%d, %w", v.Get(), v.Err())
		}
		return nil
	})
	c.Restore(backup)
	etcdtest.Eventually(t, 2*gaugeSoon, "another history", func(context.Context) error {
		if s := v.Snapshot(); s.Generation == 0 || s.Source != config.Live {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	counts("a restored backup", map[string]float64{"compacted": 1, "interrupted": 1, "restored": 1})
}

// The lag is what who asks the view finds out: nothing while it is current, and else the time since it last was.
func TestTheLagIsHowLongViewsAreNotCurrent(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	port := followPort(t, c, cli)
	mail, err := registry.Watch(t.Context(), cli, "mail", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mail.Close()
	synced := map[string]func() time.Time{
		"config":   func() time.Time { return port.Snapshot().SyncedAt },
		"registry": func() time.Time { return mail.Snapshot().SyncedAt },
	}
	for recipe := range synced {
		gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", recipe)
	}
	link.Blackhole(etcdtest.Both)
	followErr(t, port, config.ErrNotCurrent)
	etcdtest.Eventually(t, gaugeSoon, "the registry's view is cut off", func(context.Context) error {
		if err := mail.Err(); !errors.Is(err, registry.ErrNotCurrent) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	for recipe, at := range synced {
		for range 3 {
			least := time.Since(at())
			lag := value(t, "etcdkit.follow.lag", "etcdkit.recipe", recipe)
			most := time.Since(at())
			if lag < least.Seconds() || lag > most.Seconds() {
				t.Errorf("%s lags by %v s, and was current between %v and %v ago", recipe, lag, most, least)
			}
			if lag < 1 { // it is noticed after 1.4 s of silence
				t.Errorf("%s lags by %v s, for one that was given up", recipe, lag)
			}
		}
	}
	link.Drop()
	link.Heal()
	for recipe := range synced {
		gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", recipe)
	}
	port.Close()
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "config")
	mail.Close()
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "registry")
}

// followNobody takes what a view says, and does nothing.
type followNobody struct{}

func (followNobody) Changed(follow.Change) {}
func (followNobody) Stale(error)           {}
func (followNobody) Live()                 {}

// A view that has never been read lags since it was opened, and the one that is furthest behind counts.
func TestAViewThatWasNeverReadLagsFromTheBeginning(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Cut()
	current := follow.Attach(c.Client(), follow.Prefix("a/").For(follow.Lock), followNobody{})
	defer current.Close()
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "lock")
	began := time.Now()
	never := follow.Attach(link.Client(), follow.Prefix("a/").For(follow.Lock), followNobody{})
	attached := time.Now()
	etcdtest.Eventually(t, gaugeSoon, "a second has passed", func(context.Context) error {
		least := time.Since(attached).Seconds()
		lag := value(t, "etcdkit.follow.lag", "etcdkit.recipe", "lock")
		if most := time.Since(began).Seconds(); lag < least || lag > most {
			t.Errorf("the lag is %v s after %v to %v s", lag, least, most)
		}
		if lag < 1 {
			return fmt.Errorf("a lag of %v s", lag)
		}
		return nil
	})
	never.Close()
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "lock")

	// Nobody's view, as that of tests, is nobody's lag; and one that two recipes share is both's.
	nobody := follow.Attach(link.Client(), follow.Prefix("b/"), followNobody{})
	defer nobody.Close()
	gaugeReads(t, 0, "etcdkit.follow.lag")
	shared := follow.Attach(c.Client(), follow.Prefix("c/").For(follow.Queue), followNobody{})
	other := follow.Attach(c.Client(), follow.Prefix("c/").For(follow.Election), followNobody{})
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "queue")
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "election")
	shared.Close()
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "queue")
	gaugeReads(t, 0, "etcdkit.follow.lag", "etcdkit.recipe", "election")
	other.Close()
	gaugeGone(t, "etcdkit.follow.lag", "etcdkit.recipe", "election")
}
