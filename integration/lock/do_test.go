package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

var errWork = errors.New("the work failed")

func TestDoHoldsWhileTheWorkRunsAndReturnsItsError(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	m := lock.NewMutex(open(t, cli), name)
	for _, want := range []error{nil, errWork} {
		err := m.Do(t.Context(), func(ctx context.Context, g fence.Guard) error {
			if _, err := lock.NewMutex(open(t, cli), name).TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
				t.Errorf("TryLock during the work: %v, want ErrLocked", err)
			}
			if _, err := g.Commit(ctx, cli, clientv3.OpPut(name+"-data", "")); err != nil {
				t.Errorf("a write under the guard: %v", err)
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("Do: %v, want %v", err, want)
		}
		etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
	}
}

func TestDoReportsALossEvenIfTheWorkReturnedNil(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	for what, lose := range map[string]func(s *session.Session, g fence.Guard){
		"revoked": func(s *session.Session, _ fence.Guard) { c.Revoke(s.Lease()) },
		"deleted": func(_ *session.Session, g fence.Guard) { c.Delete(g.Key) },
	} {
		for _, want := range []error{nil, errWork} {
			s := open(t, cli)
			err := lock.NewMutex(s, name).Do(t.Context(), func(ctx context.Context, g fence.Guard) error {
				lose(s, g)
				etcdtest.Done(t, soon, "telling the work", ctx.Done())
				if cause := context.Cause(ctx); !errors.Is(cause, fence.ErrLost) {
					t.Errorf("%s: the work's cause is %v, want fence.ErrLost", what, cause)
				}
				return want
			})
			if !errors.Is(err, fence.ErrLost) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: Do: %v, want fence.ErrLost and %v", what, err, want)
			}
			// And if the work does not look at its context.
			err = lock.NewMutex(open(t, cli), name).Do(t.Context(), func(_ context.Context, g fence.Guard) error {
				c.Delete(g.Key)
				return want
			})
			if !errors.Is(err, fence.ErrLost) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s, not noticed: Do: %v, want fence.ErrLost and %v", what, err, want)
			}
		}
	}
}

func TestDoKeepsTheLockUntilTheWorkHasReturned(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	ctx, cancel := context.WithCancelCause(t.Context())
	windingDown, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	m := lock.NewMutex(open(t, cli), name)
	go func() {
		done <- m.Do(ctx, func(ctx context.Context, _ fence.Guard) error {
			<-ctx.Done()
			close(windingDown)
			<-goOn
			return context.Cause(ctx)
		})
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 1)
	next := waiting(t, lock.NewMutex(open(t, cli), name), cli, name, 2)
	enough := errors.New("enough")
	cancel(enough)
	etcdtest.Done(t, promptly, "telling the work", windingDown)
	etcdtest.Nothing(t, 50*time.Millisecond, "the next one", next)
	close(goOn)
	if err := etcdtest.Receive(t, promptly, "Do", done); !errors.Is(err, enough) || errors.Is(err, fence.ErrLost) {
		t.Errorf("Do: %v, want the work's error alone", err)
	}
	unlock(t, etcdtest.Receive(t, soon, "the next one", next))
}

func TestAPanicInTheWorkGivesTheLockBack(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	func() {
		defer func() {
			if r := recover(); r != any(errWork) {
				t.Errorf("recovered %v, want the panic", r)
			}
		}()
		_ = lock.NewMutex(open(t, cli), name).Do(t.Context(), func(context.Context, fence.Guard) error { panic(errWork) })
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestDoWithoutTheLockDoesNotRunTheWork(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := open(t, cli)
	locked(t, lock.NewMutex(s, name))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := open(t, cli)
	if err := closed.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	run := func(context.Context, fence.Guard) error {
		t.Error("the work was run")
		return nil
	}
	if err := lock.NewMutex(s, name).Do(ctx, run); !errors.Is(err, context.Canceled) {
		t.Errorf("Do: %v, want context.Canceled", err)
	}
	if err := lock.NewMutex(closed, name).Do(t.Context(), run); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Do: %v, want session.ErrClosed", err)
	}
}

func TestLockingUnderAHoldersContextFailsAtOnce(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	m := lock.NewMutex(open(t, cli), name)
	err := m.Do(t.Context(), func(ctx context.Context, _ fence.Guard) error {
		if _, err := m.TryLock(ctx); !errors.Is(err, lock.ErrReentrant) {
			t.Errorf("TryLock: %v, want ErrReentrant", err)
		}
		if _, err := m.Lock(ctx); !errors.Is(err, lock.ErrReentrant) {
			t.Errorf("Lock: %v, want ErrReentrant", err)
		}
		// A lock below, a lock beside, and then this one again through both their contexts.
		return lock.NewMutex(open(t, cli), name+"/below").Do(ctx, func(ctx context.Context, _ fence.Guard) error {
			return lock.NewMutex(open(t, cli), name+"2").Do(ctx, func(ctx context.Context, _ fence.Guard) error {
				return m.Do(ctx, func(context.Context, fence.Guard) error { return errWork })
			})
		})
	})
	if !errors.Is(err, lock.ErrReentrant) {
		t.Errorf("Do: %v, want ErrReentrant", err)
	}
}

func TestALockThroughAKeeperOutlivesASession(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	k := session.NewKeeper(cli, &session.Options{TTL: 10 * time.Second})
	t.Cleanup(func() { _ = k.Close(context.Background()) })
	m := lock.NewMutex(k, name)
	h := locked(t, m)
	s, err := k.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Revoke(s.Lease())
	etcdtest.Done(t, soon, "telling the holder", h.Context().Done())
	etcdtest.Done(t, soon, "telling the session", s.Context().Done())
	again := locked(t, m)
	if again.Guard().Token <= h.Guard().Token {
		t.Errorf("token %d follows %d", again.Guard().Token, h.Guard().Token)
	}
	unlock(t, again)
}
