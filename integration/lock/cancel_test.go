package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// atOnce is the bound of everything that was cancelled, a quarter of a second, and how long a thread may be kept from its
// processor on a machine that has other things to do.
const atOnce = 250*time.Millisecond + 100*time.Millisecond

// operation is one that waits for etcd. Others hold what it stands beside; it returns what gives back what it got.
type operation struct {
	beside func(t *testing.T, s *session.Session, name string) (held []*lock.Held)
	run    func(ctx context.Context, s *session.Session, name string) (giveBack func(context.Context) error, err error)
}

func nobody(*testing.T, *session.Session, string) []*lock.Held { return nil }

// permit holds one of two permits.
func permit(t *testing.T, s *session.Session, name string) []*lock.Held {
	return []*lock.Held{acquired(t, lock.NewSemaphore(s, name, 2), 1)}
}

func unlocking(h *lock.Held, err error) (func(context.Context) error, error) {
	if err != nil {
		return nil, err
	}
	return h.Unlock, nil
}

var operations = map[string]operation{
	"TryLock": {nobody, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		return unlocking(lock.NewMutex(s, name).TryLock(ctx))
	}},
	"TryLock of a reader": {nobody, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		return unlocking(lock.NewRWMutex(s, name).Reader().TryLock(ctx))
	}},
	"Lock of a reader": {nobody, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		return unlocking(lock.NewRWMutex(s, name).Reader().Lock(ctx))
	}},
	"Acquire": {permit, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		return unlocking(lock.NewSemaphore(s, name, 2).Acquire(ctx, 1))
	}},
	"TryAcquire": {permit, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		return unlocking(lock.NewSemaphore(s, name, 2).TryAcquire(ctx, 1))
	}},
	"Slot": {permit, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		h, err := lock.NewSemaphore(s, name, 2).Acquire(ctx, 1)
		if err != nil {
			return nil, err
		}
		if _, err := h.Slot(ctx); err != nil {
			return nil, errors.Join(err, h.Unlock(context.WithoutCancel(ctx)))
		}
		return h.Unlock, nil
	}},
	"Lock of several": {nobody, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		h, err := lock.NewMulti(s, name+"/a", name+"/b").Lock(ctx)
		if err != nil {
			return nil, err
		}
		return h.Unlock, nil
	}},
	"TryLock of several": {nobody, func(ctx context.Context, s *session.Session, name string) (func(context.Context) error, error) {
		h, err := lock.NewMulti(s, name+"/a", name+"/b").TryLock(ctx)
		if err != nil {
			return nil, err
		}
		return h.Unlock, nil
	}},
}

// Each call that each operation makes: cancelled before it is sent, while nothing answers it, and after it was carried out.
func TestAnOperationCancelledAtAnyCallLeavesNothing(t *testing.T) {
	t.Parallel()
	for what, op := range operations {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli, calls := counted(t)
			oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
			s := open(t, cli)
			held := op.beside(t, open(t, oracle), name)
			works := func() {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				giveBack, err := op.run(ctx, s, name)
				if err != nil {
					t.Fatal(err)
				}
				if err := giveBack(ctx); err != nil {
					t.Fatal(err)
				}
				etcdtest.WaitKeys(t, soon, oracle, name+"/", len(held))
			}
			calls.Reset()
			works()
			due := calls.Counts()
			for _, call := range []string{"Txn", "Range"} {
				for nth := range due[call] {
					for _, f := range []etcdtest.Fault{{}, {Silent: true}, {After: true}} {
						phase := fmt.Sprintf("%s %d silent=%t after=%t", call, nth, f.Silent, f.After)
						goOn := make(chan struct{})
						f.Call, f.Skip, f.Hold = call, nth, goOn
						fault := calls.Inject(f)
						ctx, cancel := context.WithCancelCause(t.Context())
						ended := make(chan error, 1)
						go func() {
							giveBack, err := op.run(ctx, s, name)
							if err == nil {
								err = giveBack(ctx)
							}
							ended <- err
						}()
						etcdtest.Done(t, soon, phase, fault.Hit())
						mine := errors.New("mine")
						cancel(mine)
						// What is given back may be so in another attempt.
						if err := etcdtest.Receive(t, atOnce, phase, ended); err != nil && !errors.Is(err, mine) {
							t.Errorf("%s: %v, want the cause", phase, err)
						}
						close(goOn)
						fault.Remove()
						etcdtest.WaitKeys(t, soon, oracle, name+"/", len(held))
						works()
					}
				}
			}
			for _, h := range held {
				unlock(t, h)
			}
		})
	}
}

// What only reads returns promptly, too.
func TestInspectIsCancelled(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	fault := calls.Inject(etcdtest.Fault{Call: "Range", Silent: true, Times: -1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := lock.Inspect(ctx, cli, "x"); ended <- err }()
	etcdtest.Done(t, soon, "the read", fault.Hit())
	cancel()
	if err := etcdtest.Receive(t, atOnce, "Inspect", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
