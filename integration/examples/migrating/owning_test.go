package migrating

import (
	"context"
	"errors"
	"testing"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestOldAndNewMutexesStandInOneLine(t *testing.T) {
	t.Parallel()
	cli, name := own(t)
	sess := opened(t, cli)
	old := func(ctx context.Context, work func() error) error { return oldLock(ctx, cli, name, work) }
	now := func(ctx context.Context, work func() error) error {
		return newLock(ctx, sess, name, func(context.Context, fence.Guard) error { return work() })
	}
	inLine := func() { etcdtest.WaitKeys(t, soon, cli, name+"/", 2) }
	turns(t, inLine, old, now)
	turns(t, inLine, now, old)
	turns(t, inLine, now, now)
}

func TestOldAndNewCandidatesStandInOneElection(t *testing.T) {
	t.Parallel()
	cli, name := own(t)
	old := func(ctx context.Context, work func() error) error {
		return oldLead(ctx, cli, name, "old", func(context.Context) error { return work() })
	}
	now := func(ctx context.Context, work func() error) error {
		return newLead(ctx, cli, name, "new", func(context.Context) error { return work() })
	}
	inLine := func() { etcdtest.WaitKeys(t, soon, cli, name+"/", 2) }
	turns(t, inLine, old, now)
	turns(t, inLine, now, old)
}

func TestALockOfOnesOwnIsHeldBesideTheNewOne(t *testing.T) {
	t.Parallel()
	cli, name := own(t)
	a, b := opened(t, cli), opened(t, cli)
	key := name + "-old"
	never := func(context.Context, fence.Guard) error { t.Error("both have it"); return nil }
	had, err := oldTry(t.Context(), cli, key, func() error {
		if err := bothLocks(t.Context(), a, name, key, never); !errors.Is(err, errOldHolds) {
			t.Errorf("%v", err)
		}
		return nil
	})
	if !had || err != nil {
		t.Fatal(had, err)
	}
	err = bothLocks(t.Context(), a, name, key, func(ctx context.Context, _ fence.Guard) error {
		if had, err := oldTry(ctx, cli, key, func() error { t.Error("both have it"); return nil }); had || err != nil {
			t.Errorf("%t, %v", had, err)
		}
		if had, err := newTry(t.Context(), b, name, never); had || err != nil {
			t.Errorf("%t, %v", had, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKeys(t, soon, cli, name, 0)
	had, err = newTry(t.Context(), b, name, func(ctx context.Context, _ fence.Guard) error { return ctx.Err() })
	if !had || err != nil {
		t.Errorf("%t, %v", had, err)
	}
}
