package lock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// none fails the test if somebody gets the lock within a moment in which it would have come.
func none(t *testing.T, what string, got <-chan *lock.Held) {
	t.Helper()
	select {
	case <-got:
		t.Fatalf("%s got the lock", what)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestReadersShareAndAWriterExcludes(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	mutex := func() lock.RWMutex { return lock.NewRWMutex(open(t, etcdtest.Client(t)), name) }

	one, two := locked(t, mutex().Reader()), locked(t, mutex().Reader())
	writer := waiting(t, mutex().Writer(), cli, name, 3)
	late := waiting(t, mutex().Reader(), cli, name, 4)
	none(t, "a writer beside readers", writer)
	unlock(t, one)
	none(t, "a writer beside one reader", writer)
	none(t, "a reader that came after a writer", late)
	unlock(t, two)
	w := etcdtest.Receive(t, soon, "the writer", writer)
	none(t, "a reader beside a writer", late)
	if w.Guard().Token <= two.Guard().Token {
		t.Errorf("the writer's token is %d, a reader's before it %d", w.Guard().Token, two.Guard().Token)
	}
	unlock(t, w)
	r := etcdtest.Receive(t, soon, "the last reader", late)
	unlock(t, r)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

// As with sync.RWMutex: many of both, all the time, on clients of their own and on one.
func TestNoWriterIsEverBesideAnother(t *testing.T) {
	t.Parallel()
	const each, turns = 6, 15
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	data := etcdtest.Prefix(t) + "data"
	var (
		all              sync.WaitGroup
		readers, writers atomic.Int32
		together         atomic.Int32 // the most readers at once
	)
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	shared := open(t, cli)
	for i := range 2 * each {
		s := shared
		if i%3 > 0 {
			s = open(t, etcdtest.Client(t))
		}
		m := lock.NewRWMutex(s, name)
		read := i%2 == 0
		all.Go(func() {
			for range turns {
				var err error
				if read {
					err = m.Reader().Do(ctx, func(context.Context, fence.Guard) error {
						n := readers.Add(1)
						defer readers.Add(-1)
						if writers.Load() > 0 {
							t.Error("a reader beside a writer")
						}
						if n > together.Load() {
							together.Store(n)
						}
						_, err := cli.Get(ctx, data)
						return err
					})
				} else {
					err = m.Writer().Do(ctx, func(ctx context.Context, g fence.Guard) error {
						if writers.Add(1) > 1 || readers.Load() > 0 {
							t.Error("a writer beside somebody")
						}
						defer writers.Add(-1)
						_, err := g.Commit(ctx, cli, clientv3.OpPut(data, ""))
						return err
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if together.Load() < 2 {
		t.Error("readers were never together")
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestTryLockOfReadersAndWriters(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	m := lock.NewRWMutex(open(t, cli), name)
	try := func(what string, m lock.Mutex, want error) *lock.Held {
		t.Helper()
		h, err := m.TryLock(t.Context())
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		return h
	}
	one := try("a first reader", m.Reader(), nil)
	two := try("a second reader", m.Reader(), nil)
	try("a writer beside readers", m.Writer(), lock.ErrLocked)
	writer := waiting(t, m.Writer(), cli, name, 3)
	try("a reader behind a writer that waits", m.Reader(), lock.ErrLocked)
	unlock(t, one)
	unlock(t, two)
	w := etcdtest.Receive(t, soon, "the writer", writer)
	try("a reader beside a writer", m.Reader(), lock.ErrLocked)
	unlock(t, w)
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)

	// A lock by a name further below is another lock, and so is one whose name looks like a share.
	for _, below := range []string{name + "/below", name + "/~r", name + "/~9"} {
		other := locked(t, lock.NewMutex(open(t, cli), below))
		r := try("a reader above "+below, m.Reader(), nil)
		unlock(t, r)
		unlock(t, locked(t, m.Reader()))
		unlock(t, try("a writer above "+below, m.Writer(), nil))
		unlock(t, other)
	}
}

// etcd's own tools know nothing of readers: they exclude them, and are excluded.
func TestReadersAndEtcdsOwnMutexExcludeEachOther(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s, err := concurrency.NewSession(cli)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	theirs := concurrency.NewMutex(s, name)
	if err := theirs.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := lock.NewRWMutex(open(t, cli), name)
	if _, err := m.Reader().TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("a reader beside etcd's own mutex: %v", err)
	}
	reader := waiting(t, m.Reader(), cli, name, 2)
	none(t, "a reader beside etcd's own mutex", reader)
	if err := theirs.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := etcdtest.Receive(t, soon, "the reader", reader)
	if err := theirs.TryLock(t.Context()); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("etcd's own mutex beside a reader: %v", err)
	}
	unlock(t, r)
}

func TestAReaderIsNotReentrantEither(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "name"
	m := lock.NewRWMutex(open(t, etcdtest.Client(t)), name)
	h := locked(t, m.Reader())
	for what, m := range map[string]lock.Mutex{"reader": m.Reader(), "writer": m.Writer()} {
		if _, err := m.Lock(h.Context()); !errors.Is(err, lock.ErrReentrant) {
			t.Errorf("a %s under a reader's context: %v", what, err)
		}
	}
	if _, err := h.Slot(t.Context()); err == nil {
		t.Error("a reader has a slot")
	} else {
		t.Log(err)
	}
	unlock(t, h)
}
