package lock_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// acquired takes permits, and fails the test if that cannot be done soon.
func acquired(t *testing.T, s lock.Semaphore, weight int) *lock.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	h, err := s.Acquire(ctx, weight)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// acquiring starts to take permits, and returns when the line is n long.
func acquiring(t *testing.T, s lock.Semaphore, weight int, cli *clientv3.Client, name string, n int) <-chan *lock.Held {
	t.Helper()
	got := make(chan *lock.Held, 1)
	go func() {
		h, err := s.Acquire(t.Context(), weight)
		if err != nil {
			t.Error(err)
		}
		got <- h
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", n)
	return got
}

// Whatever is asked for, and through whichever client: no more permits are out than there are, and all have a slot of
// their own.
func TestNoMorePermitsAreOutThanThereAre(t *testing.T) {
	t.Parallel()
	const owners, turns, size = 12, 12, 7
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	shared := open(t, cli)
	var (
		all       sync.WaitGroup
		out, most atomic.Int32
		slots     sync.Map
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	for i := range owners {
		s := shared
		if i%3 > 0 {
			s = open(t, etcdtest.Client(t))
		}
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for range turns {
				weight := 1 + random.IntN(size)
				if random.IntN(2) == 0 {
					weight = 1
				}
				h, err := lock.NewSemaphore(s, name, size).Acquire(ctx, weight)
				if err != nil {
					t.Error(err)
					return
				}
				n := out.Add(int32(weight))
				if n > size {
					t.Errorf("%d permits of %d are out", n, size)
				}
				most.Store(max(most.Load(), n))
				if random.IntN(2) == 0 {
					slot, err := h.Slot(ctx)
					if err != nil || slot < 0 || slot >= size {
						t.Errorf("slot %d: %v", slot, err)
					}
					if _, taken := slots.LoadOrStore(slot, h); taken {
						t.Errorf("two have slot %d", slot)
					}
					if again, err := h.Slot(ctx); err != nil || again != slot {
						t.Errorf("slot %d, and then %d: %v", slot, again, err)
					}
					slots.Delete(slot)
				}
				out.Add(int32(-weight))
				if err := h.Unlock(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if most.Load() < 2 {
		t.Error("no two held at a time")
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

// A large request is not starved by small ones.
func TestWhoWaitsForManyPermitsIsNotPassed(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, 10)
	six := acquired(t, s, 6)
	large := acquiring(t, s, 8, cli, name, 2)
	small := acquiring(t, s, 1, cli, name, 3)
	none(t, "a large request before there was room", large)
	none(t, "a small request that came later", small)
	if _, err := s.TryAcquire(t.Context(), 1); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("a small request that does not wait: %v", err)
	}
	unlock(t, six)
	l, o := etcdtest.Receive(t, soon, "the large one", large), etcdtest.Receive(t, soon, "the small one", small)
	next := acquiring(t, s, 2, cli, name, 3)
	none(t, "a request for two of the one that is left", next)
	unlock(t, o)
	n := etcdtest.Receive(t, soon, "the next", next)
	unlock(t, n)
	unlock(t, l)
}

func TestTryAcquireTakesWhatIsLeft(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, 3)
	try := func(weight int, want error) *lock.Held {
		t.Helper()
		h, err := s.TryAcquire(t.Context(), weight)
		if !errors.Is(err, want) {
			t.Fatalf("%d: %v, want %v", weight, err, want)
		}
		return h
	}
	one, two := try(1, nil), try(1, nil)
	try(2, lock.ErrLocked)
	three := try(1, nil)
	try(1, lock.ErrLocked)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 3)
	unlock(t, two)
	unlock(t, try(1, nil))
	unlock(t, one)
	unlock(t, three)
	unlock(t, try(3, nil))
	// Locks by names further below are in nobody's way, whatever their names look like.
	for _, below := range []string{name + "/below", name + "/~r", name + "/~9"} {
		other := locked(t, lock.NewMutex(open(t, cli), below))
		h := try(2, nil)
		unlock(t, acquired(t, s, 1))
		unlock(t, try(1, nil))
		unlock(t, h)
		unlock(t, other)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

// Whoever says another size than those who are there is told so at once, and leaves nothing behind.
func TestAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	sess := open(t, cli)
	of := func(size int) lock.Semaphore { return lock.NewSemaphore(sess, name, size) }
	refused := func() {
		t.Helper()
		for size := range 13 {
			if size == 10 || size == 0 {
				continue
			}
			if _, err := of(size).Acquire(t.Context(), 1); !errors.Is(err, lock.ErrSize) {
				t.Errorf("size %d: %v", size, err)
			}
			if _, err := of(size).TryAcquire(t.Context(), 1); !errors.Is(err, lock.ErrSize) {
				t.Errorf("size %d, without waiting: %v", size, err)
			}
		}
		if _, err := lock.NewRWMutex(sess, name).Reader().Lock(t.Context()); !errors.Is(err, lock.ErrSize) {
			t.Errorf("a reader: %v", err)
		} else {
			t.Log(err)
		}
		etcdtest.WaitKeys(t, soon, cli, name+"/", 1)
	}
	h := acquired(t, of(10), 10)
	refused()
	// Also where etcd cannot tell, since there are keys further below that look alike.
	below := locked(t, lock.NewMutex(open(t, cli), name+"/~9"))
	for _, size := range []int{9, 11} {
		if _, err := of(size).Acquire(t.Context(), 1); !errors.Is(err, lock.ErrSize) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	unlock(t, below)
	unlock(t, h)
	h = acquired(t, of(9), 1) // nobody is there any more
	unlock(t, h)

	r := locked(t, lock.NewRWMutex(sess, name).Reader())
	if _, err := of(10).Acquire(t.Context(), 1); !errors.Is(err, lock.ErrSize) {
		t.Errorf("beside a reader: %v", err)
	}
	unlock(t, r)
}

func TestWeightsAndSizesOutOfRangeAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Client(t))
	for want, c := range map[string]struct{ size, weight int }{
		`lock "x": size 0 refused: it must be 1 to 10000`:                   {0, 1},
		`lock "x": size 10001 refused: it must be 1 to 10000`:               {10001, 1},
		`lock "x": weight 0 refused: it must be 1 to the size, which is 3`:  {3, 0},
		`lock "x": weight 4 refused: it must be 1 to the size, which is 3`:  {3, 4},
		`lock "x": weight -1 refused: it must be 1 to the size, which is 3`: {3, -1},
	} {
		sem := lock.NewSemaphore(s, "x", c.size)
		_, err := sem.Acquire(t.Context(), c.weight)
		_, tryErr := sem.TryAcquire(t.Context(), c.weight)
		doErr := sem.Do(t.Context(), c.weight, func(context.Context, fence.Guard) error { panic("not held") })
		for _, err := range []error{err, tryErr, doErr} {
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

// A Mutex of the same name takes all permits, and waits for all.
func TestAMutexTakesAllPermits(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s, m := lock.NewSemaphore(open(t, cli), name, 2), lock.NewMutex(open(t, cli), name)
	one := acquired(t, s, 1)
	if _, err := one.Slot(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := waiting(t, m, cli, name, 3) // the slot is a key too
	none(t, "a mutex beside a permit", got)
	unlock(t, one)
	h := etcdtest.Receive(t, soon, "the mutex", got)
	if slot, err := h.Slot(t.Context()); slot != 0 || err != nil {
		t.Errorf("a mutex has slot %d: %v", slot, err)
	}
	if _, err := s.TryAcquire(t.Context(), 1); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("a permit beside a mutex: %v", err)
	}
	permit := acquiring(t, s, 1, cli, name, 2)
	none(t, "a permit beside a mutex", permit)
	unlock(t, h)
	unlock(t, etcdtest.Receive(t, soon, "the permit", permit))
}

// etcd's own tools take permits, and the slots of those who hold them, for somebody who holds all.
func TestPermitsAndEtcdsOwnMutexExcludeEachOther(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, 3)
	one := acquired(t, s, 1)
	if _, err := one.Slot(t.Context()); err != nil {
		t.Fatal(err)
	}
	sess, err := concurrency.NewSession(cli)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sess.Close() }()
	theirs := concurrency.NewMutex(sess, name)
	if err := theirs.TryLock(t.Context()); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("etcd's own mutex beside a permit: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- theirs.Lock(t.Context()) }()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 3)
	if _, err := s.TryAcquire(t.Context(), 1); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("a permit behind etcd's own mutex: %v", err)
	}
	permit := acquiring(t, s, 1, cli, name, 4)
	none(t, "a permit behind etcd's own mutex", permit)
	unlock(t, one)
	if err := etcdtest.Receive(t, soon, "etcd's own mutex", got); err != nil {
		t.Fatal(err)
	}
	none(t, "a permit beside etcd's own mutex", permit)
	if err := theirs.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock(t, etcdtest.Receive(t, soon, "the permit", permit))
}

// Of those who hold together one is lost: the others hold on, and who waits takes its place, and its slot.
func TestTheLossOfOnePermitIsNotThatOfTheOthers(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	doomed := open(t, etcdtest.Client(t))
	lost, other := acquired(t, lock.NewSemaphore(doomed, name, 2), 1), acquired(t, lock.NewSemaphore(open(t, cli), name, 2), 1)
	for want, h := range []*lock.Held{lost, other} {
		if slot, err := h.Slot(t.Context()); err != nil || slot != want {
			t.Fatalf("slot %d: %v, want %d", slot, err, want)
		}
	}
	got := acquiring(t, lock.NewSemaphore(open(t, etcdtest.Client(t)), name, 2), 1, cli, name, 5)
	none(t, "a third", got)
	etcdtest.Shared(t).Revoke(doomed.Lease())
	next := etcdtest.Receive(t, soon, "the third", got)
	if slot, err := next.Slot(t.Context()); err != nil || slot != 0 {
		t.Errorf("slot %d: %v, want that of the one that was lost", slot, err)
	}
	etcdtest.Done(t, soon, "the context of the one that was lost", lost.Context().Done())
	if cause := context.Cause(lost.Context()); !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	data := clientv3.OpPut(etcdtest.Prefix(t)+"data", "")
	if _, err := lost.Guard().Commit(t.Context(), cli, data); !errors.Is(err, fence.ErrLost) {
		t.Errorf("a write under the guard that was lost: %v", err)
	}
	for _, h := range []*lock.Held{other, next} {
		if _, err := h.Guard().Commit(h.Context(), cli, data); err != nil {
			t.Errorf("a write of one who holds: %v", err)
		}
		unlock(t, h)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestInspectTellsWhoHoldsAndWhoWaits(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, 3)
	one, two := acquired(t, s, 1), acquired(t, s, 1)
	if _, err := two.Slot(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := acquiring(t, s, 2, cli, name, 4)
	owners, err := lock.Inspect(t.Context(), cli, name)
	if err != nil || len(owners) != 3 {
		t.Fatalf("%+v: %v", owners, err)
	}
	for i, want := range []lock.Owner{
		{Holds: true, Weight: 1, Size: 3, Slot: -1, Token: one.Guard().Token},
		{Holds: true, Weight: 1, Size: 3, Slot: 0, Token: two.Guard().Token},
		{Holds: false, Weight: 2, Size: 3, Slot: -1, Token: owners[2].Token},
	} {
		o := owners[i]
		if o.Holds != want.Holds || o.Weight != want.Weight || o.Size != want.Size || o.Slot != want.Slot || o.Token != want.Token || o.Reads {
			t.Errorf("%d: %+v, want %+v", i, o, want)
		}
		if o.PID == 0 || o.Who == "" || o.Since.IsZero() {
			t.Errorf("%d: not described: %+v", i, o)
		}
	}
	unlock(t, one)
	unlock(t, etcdtest.Receive(t, soon, "the third", got))
	unlock(t, two)

	m := lock.NewRWMutex(open(t, cli), name)
	r := locked(t, m.Reader())
	writer := waiting(t, m.Writer(), cli, name, 2)
	owners, err = lock.Inspect(t.Context(), cli, name)
	if err != nil || len(owners) != 2 || !owners[0].Reads || !owners[0].Holds || owners[0].Size != 0 || owners[1].Reads || owners[1].Holds {
		t.Errorf("%+v: %v", owners, err)
	}
	unlock(t, r)
	unlock(t, etcdtest.Receive(t, soon, "the writer", writer))
}

// Whoever waits among many is told of the one place that becomes free, wherever in line that is.
func TestAPermitAmongManyIsHandedOn(t *testing.T) {
	t.Parallel()
	const size = 9
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := lock.NewSemaphore(open(t, cli), name, size)
	held := make([]*lock.Held, size)
	for i := range held {
		held[i] = acquired(t, s, 1)
	}
	for i, which := range []int{4, 0, 8} {
		got := acquiring(t, lock.NewSemaphore(open(t, etcdtest.Client(t)), name, size), 1, cli, name, size+1)
		unlock(t, held[which])
		if held[which] = etcdtest.Receive(t, soon, "the next", got); held[which] == nil {
			t.Fatalf("%d: nothing is held", i)
		}
	}
	for _, h := range held {
		unlock(t, h)
	}
}

// Where etcd cannot compare sizes, because keys further below look like places, whoever enters looks afterwards.
func TestAnotherSizeThatEntersAtTheSameTimeIsSeen(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	below := locked(t, lock.NewMutex(open(t, etcdtest.Client(t)), name+"/~9"))
	s := lock.NewSemaphore(open(t, cli), name, 10)
	hold := make(chan struct{})
	// The first transaction is refused, the second enters in any case.
	fault := calls.Inject(etcdtest.Fault{Call: "Txn", Skip: 1, Hold: hold})
	ended := make(chan error, 1)
	go func() { _, err := s.Acquire(t.Context(), 1); ended <- err }()
	etcdtest.Done(t, soon, "the second transaction", fault.Hit())
	h := acquired(t, lock.NewSemaphore(open(t, etcdtest.Client(t)), name, 11), 1)
	close(hold)
	if err := etcdtest.Receive(t, soon, "Acquire", ended); !errors.Is(err, lock.ErrSize) {
		t.Errorf("beside another size: %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
	unlock(t, h)
	unlock(t, acquired(t, s, 1))
	unlock(t, below)
}

// Whoever does not wait looks at the line, and comes only if nobody came since.
func TestTryAcquireIsNotPassedBetweenItsLookAndItsComing(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	s, other := lock.NewSemaphore(open(t, cli), name, 3), lock.NewSemaphore(open(t, etcdtest.Client(t)), name, 3)
	one := acquired(t, other, 1)
	hold := make(chan struct{})
	fault := calls.Inject(etcdtest.Fault{Call: "Txn", Skip: 1, Hold: hold})
	ended := make(chan error, 1)
	go func() { _, err := s.TryAcquire(t.Context(), 1); ended <- err }()
	etcdtest.Done(t, soon, "the second transaction", fault.Hit())
	rest := acquired(t, other, 2)
	close(hold)
	if err := etcdtest.Receive(t, soon, "TryAcquire", ended); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("without a permit left: %v", err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
	unlock(t, one)
	unlock(t, rest)
}
