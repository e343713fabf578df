package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// three are three names of a test's own.
func three(t *testing.T) []string {
	t.Helper()
	prefix := etcdtest.Prefix(t)
	return []string{prefix + "a", prefix + "b", prefix + "c"}
}

// lockedAll locks several, and fails the test if that cannot be done soon.
func lockedAll(t *testing.T, m lock.Multi) *lock.MultiHeld {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	h, err := m.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Whatever names they lock and in whatever order they say them, all get their turn, and at each name one holds at a time.
func TestManyWhoLockSomeOfTheNamesDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	const owners, turns = 6, 8
	names := three(t)
	holders := map[string]int{}
	var (
		mu  sync.Mutex // guards holders
		all sync.WaitGroup
	)
	count := func(names []string, by int) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			if holders[name] += by; holders[name] > 1 {
				t.Errorf("%d hold %s", holders[name], name)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	for i := range owners {
		s := open(t, etcdtest.Client(t))
		random := rand.New(rand.NewPCG(uint64(i), 7))
		all.Go(func() {
			for range turns {
				mine := slices.Clone(names)
				random.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				mine = mine[:1+random.IntN(len(mine))]
				err := lock.NewMulti(s, mine...).Do(ctx, func(context.Context, []fence.Guard) error {
					count(mine, 1)
					count(mine, -1)
					return nil
				})
				if err != nil {
					t.Errorf("%v: %v", mine, err)
					return
				}
			}
		})
	}
	all.Wait()
	for _, name := range names {
		etcdtest.WaitKeys(t, soon, etcdtest.Client(t), name+"/", 0)
	}
}

// There is a guard for each name, in the order of the names, and one that is void refuses what goes through all.
func TestEachNameHasItsGuard(t *testing.T) {
	t.Parallel()
	cli, names := etcdtest.Client(t), three(t)
	s := open(t, cli)
	h := lockedAll(t, lock.NewMulti(s, names[2], names[0], names[1]))
	guards := h.Guards()
	kv := cli.KV
	for i, name := range []string{names[2], names[0], names[1]} {
		line, err := cli.Get(t.Context(), name+"/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		if g := guards[i]; len(line.Kvs) != 1 || string(line.Kvs[0].Key) != g.Key || line.Kvs[0].CreateRevision != int64(g.Token) {
			t.Errorf("guard %d is %v, and in the line of %s is %v", i, g, name, line.Kvs)
		}
		kv = guards[i].KV(kv)
	}
	data := etcdtest.Prefix(t) + "data"
	if _, err := kv.Put(t.Context(), data, "in time"); err != nil {
		t.Errorf("a write under all guards: %v", err)
	}
	if _, err := cli.Delete(t.Context(), guards[1].Key); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), data, "too late"); !errors.Is(err, fence.ErrLost) {
		t.Errorf("a write under a void guard: %v", err)
	}
	_ = h.Unlock(t.Context()) // one is lost
	if got, err := cli.Get(t.Context(), data); err != nil || string(got.Kvs[0].Value) != "in time" {
		t.Errorf("%v, %v", got, err)
	}
}

// Whoever gives up waiting for one of the names holds none.
func TestAMultiThatIsCancelledLeavesNothingInAnyLine(t *testing.T) {
	t.Parallel()
	cli, names := etcdtest.Client(t), three(t)
	s := open(t, cli)
	last := locked(t, lock.NewMutex(s, names[2]))
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	ended := make(chan error, 1)
	go func() { _, err := lock.NewMulti(s, names...).Lock(ctx); ended <- err }()
	etcdtest.WaitKeys(t, soon, cli, names[2]+"/", 2) // it holds the others
	cancel(mine)
	if err := etcdtest.Receive(t, promptly, "Lock", ended); !errors.Is(err, mine) {
		t.Errorf("cancelled: %v", err)
	}
	for i, left := range []int{0, 0, 1} {
		etcdtest.WaitKeys(t, promptly, cli, names[i]+"/", left)
	}
	if _, err := lock.NewMulti(s, names...).Lock(ctx); !errors.Is(err, mine) {
		t.Errorf("with a context that has ended: %v", err)
	}
	unlock(t, last)
	if err := lockedAll(t, lock.NewMulti(s, names...)).Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTryLockOfSeveralHoldsAllOrNothing(t *testing.T) {
	t.Parallel()
	cli, names := etcdtest.Client(t), three(t)
	s, m := open(t, cli), lock.NewMulti(open(t, cli), names...)
	for i := range names {
		h := locked(t, lock.NewMutex(s, names[i]))
		if _, err := m.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("with the lock %d held: %v", i, err)
		}
		unlock(t, h)
		for _, name := range names {
			etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
		}
	}
	h, err := m.TryLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// One lock that is lost is the loss of all: while they are held, and while another is waited for.
func TestTheLossOfOneLockIsThatOfAll(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			cli, names := etcdtest.Client(t), three(t)
			h := lockedAll(t, lock.NewMulti(open(t, cli), names...))
			if _, err := cli.Delete(t.Context(), h.Guards()[i].Key); err != nil {
				t.Fatal(err)
			}
			etcdtest.Done(t, soon, "the context", h.Context().Done())
			if cause := context.Cause(h.Context()); !errors.Is(cause, fence.ErrLost) || h.Context().Err() == nil {
				t.Errorf("the cause is %v", cause)
			}
			if err := h.Unlock(t.Context()); !errors.Is(err, fence.ErrLost) {
				t.Errorf("Unlock: %v", err)
			}
			for _, name := range names { // the others were given back
				etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
			}
		})
	}
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		cli, names := etcdtest.Client(t), three(t)
		last := locked(t, lock.NewMutex(open(t, cli), names[2]))
		s := open(t, cli)
		ended := make(chan error, 1)
		go func() { _, err := lock.NewMulti(s, names...).Lock(t.Context()); ended <- err }()
		etcdtest.WaitKeys(t, soon, cli, names[2]+"/", 2)
		if _, err := cli.Delete(t.Context(), names[0]+"/", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		if err := etcdtest.Receive(t, soon, "Lock", ended); !errors.Is(err, fence.ErrLost) {
			t.Errorf("Lock: %v", err)
		}
		etcdtest.WaitKeys(t, soon, cli, names[1]+"/", 0)
		etcdtest.WaitKeys(t, soon, cli, names[2]+"/", 1)
		unlock(t, last)
	})
}

func TestAMultiIsNotReentrantAtAnyOfItsNames(t *testing.T) {
	t.Parallel()
	cli, names := etcdtest.Client(t), three(t)
	s := open(t, cli)
	h := lockedAll(t, lock.NewMulti(s, names...))
	for _, name := range names {
		if _, err := lock.NewMutex(s, name).Lock(h.Context()); !errors.Is(err, lock.ErrReentrant) {
			t.Errorf("%s under the context of its holder: %v", name, err)
		}
	}
	err := h.Unlock(t.Context())
	if err != nil {
		t.Error(err)
	}
	if cause := context.Cause(h.Context()); cause == nil || errors.Is(cause, fence.ErrLost) {
		t.Errorf("unlocked, the cause is %v: it was not lost", cause)
	}
	if again := h.Unlock(t.Context()); again != nil {
		t.Errorf("the second Unlock: %v", again)
	}
	err = lock.NewMulti(s, names...).Do(t.Context(), func(ctx context.Context, _ []fence.Guard) error {
		_, err := lock.NewMutex(s, names[1]).TryLock(ctx)
		return err
	})
	if !errors.Is(err, lock.ErrReentrant) {
		t.Errorf("within Do: %v", err)
	}
}

func TestDoOfSeveralGivesThemBackWhateverHappens(t *testing.T) {
	t.Parallel()
	cli, names := etcdtest.Client(t), three(t)
	m := lock.NewMulti(open(t, cli), names...)
	mine := errors.New("mine")
	if err := m.Do(t.Context(), func(context.Context, []fence.Guard) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Do: %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = m.Do(t.Context(), func(context.Context, []fence.Guard) error { panic("mine") })
	}()
	lost := m.Do(t.Context(), func(ctx context.Context, guards []fence.Guard) error {
		if _, err := cli.Delete(ctx, guards[1].Key); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(soon):
			return errors.New("the loss was not told")
		}
	})
	if !errors.Is(lost, fence.ErrLost) {
		t.Errorf("Do, whose lock was lost: %v", lost)
	}
	for _, name := range names {
		etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
	}
}

func TestNamesThatCannotBeLockedTogetherAreRefused(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	s, name := open(t, cli), etcdtest.Prefix(t)+"a"
	for want, names := range map[string][]string{
		"lock: no names: there is nothing to hold":                             nil,
		fmt.Sprintf("lock %q: given twice, and locks are not reentrant", name): {name, name + "b", name},
		`lock: lock name "" refused: it is empty`:                              {name, ""},
	} {
		_, err := lock.NewMulti(s, names...).Lock(t.Context())
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", names, err, want)
		}
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}
