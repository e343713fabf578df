package telemetry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// The outcomes of waits and holds, and the kinds of locks, as docs/metrics.md has them.
var (
	lockWaits = []string{"acquired", "locked", "cancelled", "failed"}
	lockHolds = []string{"released", "lost"}
	lockKinds = []string{"mutex", "reader", "writer", "semaphore"}
)

// lockHoldFor is how long a lock is held that somebody waits for.
const lockHoldFor = 200 * time.Millisecond

// lockChanges are counts by what is measured: "wait mutex acquired" and so on.
type lockChanges map[string]float64

// lockExpect returns a check that exactly what it is given has been measured since.
func lockExpect(t *testing.T) func(want lockChanges) {
	t.Helper()
	checks := map[string]func(float64){}
	for _, kind := range lockKinds {
		for _, o := range lockWaits {
			checks["wait "+kind+" "+o] = sessionGrows(t, "etcdkit.lock.wait", "etcdkit.lock.kind", kind, "etcdkit.outcome", o)
		}
		for _, o := range lockHolds {
			checks["held "+kind+" "+o] = sessionGrows(t, "etcdkit.lock.held", "etcdkit.lock.kind", kind, "etcdkit.outcome", o)
		}
	}
	return func(want lockChanges) {
		t.Helper()
		for what := range want {
			if checks[what] == nil {
				t.Fatalf("%q is not in the table", what)
			}
		}
		for what, check := range checks {
			check(want[what])
		}
	}
}

// locker takes a lock of some kind, or tries to.
type locker func(ctx context.Context, try bool) (*lock.Held, error)

// lockersOf are all kinds of locks of one name.
func lockersOf(source session.Source, name string) map[string]locker {
	of := func(m lock.Mutex) locker {
		return func(ctx context.Context, try bool) (*lock.Held, error) {
			if try {
				return m.TryLock(ctx)
			}
			return m.Lock(ctx)
		}
	}
	both := lock.NewRWMutex(source, name)
	permits := lock.NewSemaphore(source, name, 3)
	return map[string]locker{
		"mutex":  of(lock.NewMutex(source, name)),
		"reader": of(both.Reader()),
		"writer": of(both.Writer()),
		"semaphore": func(ctx context.Context, try bool) (*lock.Held, error) {
			if try {
				return permits.TryAcquire(ctx, 2)
			}
			return permits.Acquire(ctx, 2)
		},
	}
}

// lockUnlock gives a lock back.
func lockUnlock(t *testing.T, held interface{ Unlock(context.Context) error }) {
	t.Helper()
	if err := held.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEveryWaitAndHoldIsMeasuredByItsKindAndOutcome(t *testing.T) {
	for _, kind := range lockKinds {
		t.Run(kind, func(t *testing.T) {
			cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
			mine := sessionOpen(t, cli, nil)
			take := lockersOf(mine, name)[kind]
			other := lock.NewMutex(sessionOpen(t, cli, nil), name)

			expect := lockExpect(t)
			for _, try := range []bool{false, true} {
				held, err := take(t.Context(), try)
				if err != nil {
					t.Fatal(err)
				}
				lockUnlock(t, held)
				lockUnlock(t, held) // a second time is not another hold
			}
			expect(lockChanges{"wait " + kind + " acquired": 2, "held " + kind + " released": 2})

			theirs, err := other.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expect = lockExpect(t)
			if _, err = take(t.Context(), true); !errors.Is(err, lock.ErrLocked) {
				t.Fatalf("%v, want ErrLocked", err)
			}
			expect(lockChanges{"wait " + kind + " locked": 1})

			expect = lockExpect(t)
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan error, 1)
			go func() {
				_, err := take(ctx, false)
				answer <- err
			}()
			etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
			cancel()
			if err := etcdtest.Receive(t, sessionSoon, "the end of the wait", answer); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v, want ctx's", err)
			}
			expect(lockChanges{"wait " + kind + " cancelled": 1})
			lockUnlock(t, theirs)

			expect = lockExpect(t)
			deleted, err := take(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			etcdtest.Shared(t).Delete(deleted.Guard().Key)
			etcdtest.Done(t, sessionSoon, "the loss", deleted.Context().Done())
			expect(lockChanges{"wait " + kind + " acquired": 1, "held " + kind + " lost": 1})
			if err := deleted.Unlock(t.Context()); !errors.Is(err, fence.ErrLost) {
				t.Errorf("%v, want ErrLost", err)
			}
			expect(lockChanges{"wait " + kind + " acquired": 1, "held " + kind + " lost": 1})

			expect = lockExpect(t)
			if _, err = take(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := mine.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err = take(t.Context(), false); !errors.Is(err, session.ErrClosed) {
				t.Fatalf("%v, want ErrClosed", err)
			}
			expect(lockChanges{"wait " + kind + " acquired": 1, "held " + kind + " lost": 1, "wait " + kind + " failed": 1})
		})
	}
}

// Deleted a moment before: nobody has seen it, until etcd refuses the release.
func TestALossThatTheReleaseFindsIsALoss(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	held, err := lock.NewMutex(sessionOpen(t, cli, nil), name).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect := lockExpect(t)
	etcdtest.Shared(t).Delete(held.Guard().Key)
	if err := held.Unlock(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Fatalf("%v, want ErrLost", err)
	}
	expect(lockChanges{"held mutex lost": 1})
}

func TestTheWorkUnderALockIsAHold(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	s := sessionOpen(t, cli, nil)
	expect := lockExpect(t)
	fails := errors.New("the work fails")
	work := func(context.Context, fence.Guard) error { return fails }
	for _, err := range []error{
		lock.NewMutex(s, name).Do(t.Context(), work),
		lock.NewRWMutex(s, name).Reader().Do(t.Context(), work),
		lock.NewSemaphore(s, name, 2).Do(t.Context(), 1, work),
	} {
		if !errors.Is(err, fails) {
			t.Error(err)
		}
	}
	expect(lockChanges{
		"wait mutex acquired": 1, "held mutex released": 1, "wait reader acquired": 1, "held reader released": 1,
		"wait semaphore acquired": 1, "held semaphore released": 1,
	})
}

func TestLocksThatAreHeldTogetherAreMeasuredOneByOne(t *testing.T) {
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	s := sessionOpen(t, cli, nil)
	together := lock.NewMulti(s, prefix+"c", prefix+"a", prefix+"b")

	expect := lockExpect(t)
	held, err := together.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lockUnlock(t, held)
	expect(lockChanges{"wait mutex acquired": 3, "held mutex released": 3})

	b, err := lock.NewMutex(s, prefix+"b").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect = lockExpect(t)
	if _, err := together.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("%v, want ErrLocked", err)
	}
	expect(lockChanges{"wait mutex acquired": 1, "wait mutex locked": 1, "held mutex released": 1})
	lockUnlock(t, b)

	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect = lockExpect(t)
	if _, err := together.Lock(t.Context()); !errors.Is(err, session.ErrClosed) {
		t.Fatalf("%v, want ErrClosed", err)
	}
	expect(lockChanges{"wait mutex failed": 1})
}

func TestAWaitIsAsLongAsTheHoldThatItWaitsFor(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	holder, waiter := lock.NewMutex(sessionOpen(t, cli, nil), name), lock.NewMutex(sessionOpen(t, cli, nil), name)
	held, err := holder.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := lockSeconds(t, "etcdkit.lock.wait")
	heldBefore := lockSeconds(t, "etcdkit.lock.held")
	answer := make(chan error, 1)
	go func() {
		next, err := waiter.Lock(t.Context())
		answer <- errors.Join(err, next.Unlock(t.Context()))
	}()
	etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
	etcdtest.Nothing(t, lockHoldFor, "a second holder", answer)
	lockUnlock(t, held)
	if err := etcdtest.Receive(t, sessionSoon, "the lock", answer); err != nil {
		t.Fatal(err)
	}
	if took := lockSeconds(t, "etcdkit.lock.wait") - before; took < lockHoldFor.Seconds() || took > 60 {
		t.Errorf("the wait took %v s, and the hold %v at least", took, lockHoldFor)
	}
	if took := lockSeconds(t, "etcdkit.lock.held") - heldBefore; took < lockHoldFor.Seconds() || took > 60 {
		t.Errorf("both holds took %v s, and the first alone %v at least", took, lockHoldFor)
	}
}

// lockSeconds is the time that a histogram has seen in all.
func lockSeconds(t *testing.T, name string) (sum float64) {
	t.Helper()
	data, err := read(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := data.(metricdata.Histogram[float64])
	for _, p := range all.DataPoints {
		sum += p.Sum
	}
	return sum
}

func TestNoNameOfALockIsInAMetric(t *testing.T) {
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	const secret = "whose-lock-it-is"
	s := sessionOpen(t, cli, nil)
	for _, take := range lockersOf(s, prefix+secret) {
		held, err := take(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock.NewMutex(s, prefix+secret).TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Fatal(err)
		}
		lockUnlock(t, held)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			for _, p := range points(t, m.Name) {
				for key, v := range p.attrs {
					if strings.Contains(v, secret) || key == "etcdkit.lock.name" {
						t.Errorf("%s has an attribute %s=%s", m.Name, key, v)
					}
					seen++
				}
			}
		}
	}
	if seen == 0 {
		t.Error("there are no attributes at all")
	}
}
