package follow

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTheLagBeginsWhenAViewWasLastCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{trouble: errNotSynced}
		opened := time.Now()
		lags := func(what string, want time.Duration) {
			t.Helper()
			if got := p.lag(time.Now(), opened); got != want {
				t.Errorf("%s: it lags by %v, want %v", what, got, want)
			}
		}
		after(time.Second)
		lags("before the first read", time.Second)
		sent := time.Now()
		after(100 * time.Millisecond)
		p.readAt(sent, 5, 0)
		after(500 * time.Millisecond)
		lags("while it is live", 0)
		p.failed(errSilent)
		lags("cut off", 600*time.Millisecond)
		after(time.Second)
		lags("still", 1600*time.Millisecond)
		p.failed(errNotConfirmed)
		lags("after another attempt", 1600*time.Millisecond)
		p.readAt(time.Now(), 6, 1)
		lags("live again", 0)
	})
}

// The worst of each recipe is reported, and of a view that several share each is.
func TestTheLagOfARecipeIsThatOfItsLastFollower(t *testing.T) {
	now := time.Now()
	cut := func(behind time.Duration, of users) *view {
		return &view{users: of, pulse: pulse{trouble: errSilent, proven: now.Add(-behind)}}
	}
	live := &view{}
	live.pulse.readAt(now, 1, 0)
	live.users[Lock] = 1
	client := new(clientv3.Client)
	hubs.Lock()
	before := hubs.of
	hubs.of = map[*clientv3.Client]*hub{
		client: {views: map[string]*view{
			"1": cut(time.Second, users{Config: 1}),
			"2": cut(3*time.Second, users{Config: 2, Queue: 1}),
			"3": cut(time.Hour, users{0: 1}),
		}},
		nil: {views: map[string]*view{"1": cut(2*time.Second, users{Config: 1}), "2": live}},
	}
	hubs.Unlock()
	got := lags(now)
	hubs.Lock()
	hubs.of = before
	hubs.Unlock()
	if want := (map[Recipe]time.Duration{Config: 3 * time.Second, Queue: 3 * time.Second, Lock: 0}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAResyncIsNamedAfterWhatEndedTheStream(t *testing.T) {
	for _, c := range []struct {
		ended    error
		replaced bool
		want     string
	}{
		{fmt.Errorf("watch: %w", rpctypes.ErrCompacted), false, compacted},
		{rpctypes.ErrCompacted, true, restored},
		{errSilent, false, interrupted},
		{errWentBack, true, restored},
		{errWentBack, false, interrupted}, // by a member that lags behind
		{errClosed, false, interrupted},
	} {
		if got := (&view{ended: c.ended}).reason(c.replaced); got != c.want {
			t.Errorf("%v, replaced %t: %q, want %q", c.ended, c.replaced, got, c.want)
		}
	}
}

func TestAResyncThatNobodyCountsAllocatesNothing(t *testing.T) {
	v := &view{users: users{Config: 1}}
	if n := testing.AllocsPerRun(1000, func() { v.countResync(interrupted) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestARangeKeepsItsRecipe(t *testing.T) {
	r := Prefix("a/").For(Queue)
	for what, same := range map[string]Range{"With": r.With("b"), "Tail": r.Tail(), "Deletions": r.Deletions()} {
		if same.recipe != Queue {
			t.Errorf("%s forgets the recipe", what)
		}
	}
	if Prefix("a/").id() != r.id() {
		t.Error("recipes do not share a view")
	}
}
