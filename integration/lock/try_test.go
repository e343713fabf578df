package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

func TestTryLockTakesAFreeLockAndNoOther(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := open(t, cli)
	h, err := lock.NewMutex(s, name).TryLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]lock.Mutex{"same session": lock.NewMutex(s, name), "another": lock.NewMutex(open(t, cli), name)} {
		if _, err := s.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("%s: %v, want ErrLocked", what, err)
		}
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 1)
	unlock(t, h)
	// Whoever put it, a key in line is somebody who holds.
	if _, err := cli.Put(t.Context(), name+"/stranger", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.NewMutex(s, name).TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("with a stranger in line: %v, want ErrLocked", err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 1)
}

func TestTryLockAsksEtcdOnce(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	m := lock.NewMutex(open(t, cli), name)
	calls.Reset()
	h, err := m.TryLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if calls.Sent() != 1 {
		t.Errorf("a free lock took %v", calls.Counts())
	}
	calls.Reset()
	if _, err := m.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
		t.Fatal(err)
	}
	if calls.Sent() != 1 {
		t.Errorf("a lock that is held took %v", calls.Counts())
	}
	unlock(t, h)
}

// Defect C13: with etcd's own recipes, a name is in the way of those above it.
func TestALockStandsInNobodysWayAboveOrBelowItsName(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"orders"
	s := open(t, cli)
	// More than a first page of the line.
	for i := range 40 {
		locked(t, lock.NewMutex(s, fmt.Sprintf("%s/%02d", name, i)))
	}
	h, err := lock.NewMutex(s, name).TryLock(t.Context())
	if err != nil {
		t.Fatalf("TryLock above: %v", err)
	}
	// In front of it by name and by age there are those below now.
	if _, err := lock.NewMutex(s, name).TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("TryLock of what is held: %v, want ErrLocked", err)
	}
	below, err := lock.NewMutex(s, name+"/40").TryLock(t.Context())
	if err != nil {
		t.Errorf("TryLock below: %v", err)
	} else {
		unlock(t, below)
	}
	next := waiting(t, lock.NewMutex(open(t, etcdtest.Client(t)), name), cli, name, 42)
	etcdtest.Nothing(t, 10*time.Millisecond, "the next one", next)
	unlock(t, h)
	unlock(t, etcdtest.Receive(t, soon, "the next one", next))
	unlock(t, locked(t, lock.NewMutex(s, name)))
	if owners, err := lock.Inspect(t.Context(), cli, name); err != nil || len(owners) != 0 {
		t.Errorf("Inspect counts those below: %v, %v", owners, err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 40)
}

func TestATryWhoseReplyIsLostHoldsOrLeavesNothing(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	s := open(t, cli)
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		for _, after := range []bool{false, true} {
			what := fmt.Sprintf("%v-%t", c, after)
			calls.Inject(etcdtest.Fault{Call: "Txn", After: after, Err: status.Error(c, "etcdtest: injected")})
			h, err := lock.NewMutex(s, prefix+what).TryLock(t.Context())
			if err == nil {
				etcdtest.WaitKeys(t, soon, oracle, prefix+what+"/", 1)
				unlock(t, h)
			} else if errors.Is(err, lock.ErrLocked) {
				t.Errorf("%s: %v, but nobody holds it", what, err)
			}
			etcdtest.WaitKeys(t, soon, oracle, prefix+what+"/", 0)
		}
	}
}

// An attempt that timed out may still be on its way when a later one was answered that somebody holds the lock, and arrive when
// nobody does.
func TestATryThatArrivesLateHoldsNothing(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second // longer than two tries and an unlock take
	oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	links := etcdtest.Links{etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)}
	var calls etcdtest.Calls
	s := open(t, links.Dial(clientv3.Config{DialOptions: calls.DialOptions()}))
	etcdtest.Eventually(t, soon, "both links in use", func(ctx context.Context) error {
		_, err := s.Client().Get(ctx, name)
		if links[0].Open() == 0 || links[1].Open() == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	h := locked(t, lock.NewMutex(open(t, oracle), name))
	links[0].Delay(etcdtest.Requests, delay, delay)
	for before := calls.Count("Txn"); calls.Count("Txn") < before+2; {
		before = calls.Count("Txn")
		if _, err := lock.NewMutex(s, name).TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("TryLock: %v, want ErrLocked", err)
		}
	}
	unlock(t, h)
	late := oracle.Watch(t.Context(), name, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the watch", late)
	select {
	case resp := <-late:
		t.Logf("late: %v %q", resp.Events[0].Type, resp.Events[0].Kv.Key)
	case <-time.After(delay):
	}
	unlock(t, locked(t, lock.NewMutex(open(t, oracle), name)))
	etcdtest.WaitKeys(t, soon, oracle, name+"/", 0)
}
