package lock_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

func TestNamesAreOpaqueButForTheEmptyOneAndControlCharacters(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	s := open(t, cli)
	calls.Reset()
	for name, rule := range map[string]string{
		"":        "it is empty",
		"a\x00b":  "control character",
		"a\nb":    "control character",
		"a\xffb":  "not UTF-8",
		"a\u0085": "control character",
	} {
		m := lock.NewMutex(s, name)
		_, locking := m.Lock(t.Context())
		_, trying := m.TryLock(t.Context())
		doing := m.Do(t.Context(), func(context.Context, fence.Guard) error { t.Error("the work was run"); return nil })
		_, inspecting := lock.Inspect(t.Context(), cli, name)
		for what, err := range map[string]error{"Lock": locking, "TryLock": trying, "Do": doing, "Inspect": inspecting} {
			if err == nil || !strings.Contains(err.Error(), rule) || !strings.HasPrefix(err.Error(), "lock") {
				t.Errorf("%s(%q): %v, want an error that names the rule: %s", what, name, err, rule)
			}
		}
	}
	if n := calls.Sent(); n != 0 {
		t.Errorf("%d calls were made: %v", n, calls.Counts())
	}
	prefix := etcdtest.Prefix(t)
	for _, name := range []string{"/" + prefix + "x", prefix + "my-lock/", prefix + "a//b", prefix + "a/../b", prefix + "世界 %2f"} {
		h := locked(t, lock.NewMutex(s, name))
		if !strings.HasPrefix(h.Guard().Key, name+"/") {
			t.Errorf("%q is locked at %q", name, h.Guard().Key)
		}
		unlock(t, h)
	}
}

func TestAFreeLockCostsOneCallAndItsReturnAnother(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	m := lock.NewMutex(open(t, cli), etcdtest.Prefix(t)+"name")
	calls.Reset()
	for range 20 {
		unlock(t, locked(t, m))
	}
	if calls.Sent() != 40 || calls.Count("Txn") != 40 {
		t.Errorf("20 times took %v, want 40 transactions", calls.Counts())
	}
}

func TestAHandOverCostsTheWaiterNoCall(t *testing.T) {
	t.Parallel()
	holder, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	cli, calls := counted(t)
	first, second := lock.NewMutex(open(t, holder), name), lock.NewMutex(open(t, cli), name)
	h := locked(t, first)
	next := waiting(t, second, holder, name, 2)
	calls.WaitCount(t, soon, etcdtest.WatchResponse, 1)
	calls.WaitCount(t, soon, "Range", 1)
	before := calls.Counts()
	unlock(t, h)
	h = etcdtest.Receive(t, soon, "the next one", next)
	for _, call := range []string{"Range", "Txn", etcdtest.WatchCreate, "Watch"} {
		if n := calls.Count(call) - before[call]; n != 0 {
			t.Errorf("the hand-over took %d %s", n, call)
		}
	}
	unlock(t, h)
}

func TestWhoWaitsGetsTheLockOfAHolderWhoDied(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	dead := open(t, cli)
	locked(t, lock.NewMutex(dead, name))
	next := waiting(t, lock.NewMutex(open(t, cli), name), cli, name, 2)
	etcdtest.Shared(t).Revoke(dead.Lease())
	unlock(t, etcdtest.Receive(t, soon, "the next one", next))
}

func TestNothingRunsOnceTheSessionIsClosed(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	s := open(t, cli)
	h := locked(t, lock.NewMutex(s, name))
	next := waiting(t, lock.NewMutex(s, name), cli, name, 2)
	unlock(t, h)
	unlock(t, etcdtest.Receive(t, soon, "the next one", next))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The view of the line lingers for those who come back, but not for a session that has gone. One question for
	// its progress, which is asked every second, may have been on its way.
	asked := calls.Count(etcdtest.WatchProgress)
	calls.Quiet(t, 2500*time.Millisecond, etcdtest.WatchProgress)
	if n := calls.Count(etcdtest.WatchProgress) - asked; n > 1 {
		t.Errorf("progress was asked for %d times", n)
	}
}

func TestInspectSaysWhoHoldsAndWhoWaits(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	if owners, err := lock.Inspect(t.Context(), cli, name); err != nil || len(owners) != 0 {
		t.Errorf("a free lock: %v, %v", owners, err)
	}
	s := open(t, cli)
	began := time.Now()
	h := locked(t, lock.NewMutex(s, name))
	if _, err := cli.Put(t.Context(), name+"/etcdctl", "{not ours"); err != nil {
		t.Fatal(err)
	}
	next := waiting(t, lock.NewMutex(s, name), cli, name, 3)
	owners, err := lock.Inspect(t.Context(), cli, name)
	if err != nil || len(owners) != 3 {
		t.Fatalf("%v, %v, want three", owners, err)
	}
	first := owners[0]
	if first.Key != h.Guard().Key || first.Token != h.Guard().Token || first.Lease != s.Lease() {
		t.Errorf("the holder is %+v, want guard %v and lease %x", first, h.Guard(), s.Lease())
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if first.Who != filepath.Base(os.Args[0]) || first.Host != host || first.PID != os.Getpid() {
		t.Errorf("the holder is %+v, want this program", first)
	}
	if d := first.Since.Sub(began); d < -time.Millisecond || d > soon {
		t.Errorf("the holder came %v after it did", d)
	}
	if o := owners[1]; o.Key != name+"/etcdctl" || o.Who != "" || o.PID != 0 || !o.Since.IsZero() || o.Token <= first.Token {
		t.Errorf("a stranger is %+v", o)
	}
	if owners[2].Token <= owners[1].Token || owners[2].Lease != s.Lease() {
		t.Errorf("the waiter is %+v", owners[2])
	}
	unlock(t, h)
	etcdtest.Shared(t).Delete(name + "/etcdctl")
	unlock(t, etcdtest.Receive(t, soon, "the next one", next))
}
