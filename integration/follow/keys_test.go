package follow_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// A view of several keys has a watch for each. Between them there is no order, so an answer about progress may come after an
// event that is newer, and before one that is older: neither says that etcd went backwards, nor that the view is current.
func TestProgressOfOneKeyIsNotThatOfAll(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	free := make(chan struct{})
	close(free)
	hold := make(chan (<-chan struct{}), 1)
	hold <- free
	j := &judge{unordered: true}
	var written []time.Time // when each value of b was; set while the view is held up
	var measured atomic.Bool
	j.gate = func() {
		h := <-hold
		hold <- h
		<-h
		if !measured.Load() {
			return
		}
		at := j.follower.Status().ProvenAt
		j.mu.Lock()
		defer j.mu.Unlock()
		seen := 0
		if kv := j.content[prefix+"b"]; kv != nil {
			seen, _ = strconv.Atoi(string(kv.Value))
		}
		if seen < len(written) && at.After(written[seen]) {
			j.blame("proven %v after a change that it had not seen", at.Sub(written[seen]))
		}
	}
	j.attach(t, cli, follow.Keys(prefix+"a", prefix+"b"))
	j.synced(t)

	// While the view is busy, events of b pile up, then the answer for both watches, then an event of a.
	<-hold
	release := make(chan struct{})
	hold <- release
	for i := range 5 {
		put(t, oracle, prefix+"b", fmt.Sprint(i+1))
		written = append(written, time.Now())
	}
	etcdtest.Done(t, soon, "an answer about progress",
		calls.Inject(pass(etcdtest.Fault{Call: etcdtest.WatchResponse, Match: isProgress})).Hit())
	put(t, oracle, prefix+"a", "")
	put(t, oracle, prefix+"b", "6")
	written = append(written, time.Now())
	measured.Store(true)
	close(release)
	j.wait(t, soon, "all is seen", func() bool { return j.has(prefix+"b", "6") && j.has(prefix+"a", "") })
	if n := j.count(isStale); n > 0 {
		t.Errorf("%d interruptions, and nothing was done to the view", n)
	}
}

// What etcd answers to one view's question reaches every view on the stream, one that has not read yet included.
func TestANewViewIsNotInterruptedByTheProgressOfAnother(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	attach(t, cli, follow.Prefix(prefix+"a/")).synced(t)
	release := make(chan struct{})
	read := calls.Inject(etcdtest.Fault{Call: "Range", Hold: release, Times: -1}) // each attempt of it
	j := attach(t, cli, follow.Prefix(prefix+"b/"))
	etcdtest.Done(t, soon, "the read after the watch", read.Hit())
	etcdtest.Done(t, soon, "an answer about progress", calls.Inject(pass(etcdtest.Fault{Call: etcdtest.WatchResponse, Match: isProgress})).Hit())
	put(t, oracle, prefix+"c", "")
	close(release)
	j.synced(t)
	rev := put(t, oracle, prefix+"b/1", "")
	j.wait(t, soon, "a change", func() bool { return j.last.Revision >= rev })
	if n := j.count(isStale); n > 0 {
		t.Errorf("%d interruptions, and nothing was done to the view", n)
	}
}

// What one watch of a view has told is newer than what another's has yet to bring. That the next read shows the latter
// does not say that history is another one.
func TestAResyncOfKeysIsNoOtherGeneration(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	j := &judge{unordered: true}
	j.attach(t, cli, follow.Keys(prefix+"a", prefix+"b"))
	j.synced(t)
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: concerns(prefix + "b")})
	put(t, oracle, prefix+"b", "1")
	rev := put(t, oracle, prefix+"a", "1")
	j.wait(t, soon, "the key of the one watch", func() bool { return j.last.Revision == rev })
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
	put(t, oracle, prefix+"a", "2")
	j.holds(t, soon, oracle, prefix)
	if got := j.generation(); got != 0 {
		t.Errorf("generation %d: this is one history", got)
	}
}

// A lost watch is a lost view: all its keys are read again.
func TestAViewOfKeysIsReadAgainWhenOneWatchEnds(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	keys := []string{prefix + "a", prefix + "b", prefix + "c"}
	put(t, oracle, keys[0], "1")
	put(t, oracle, keys[2], "1")
	j := &judge{unordered: true}
	j.attach(t, cli, follow.Keys(keys...))
	j.holds(t, soon, oracle, prefix)
	for i := range 10 {
		put(t, oracle, keys[i%3], fmt.Sprint("live", i))
	}
	j.holds(t, soon, oracle, prefix)
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions, and nothing was done to the view", n)
	}
	before := calls.Count(etcdtest.WatchCreate)
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: concerns(keys[1])})
	ended := calls.Inject(etcdtest.Fault{
		Call: etcdtest.WatchResponse, Match: concerns(keys[0]), Err: rpctypes.ErrGRPCCorrupt,
	})
	put(t, oracle, keys[1], "missed")
	del(t, oracle, keys[2])
	put(t, oracle, keys[0], "ends it")
	etcdtest.Done(t, soon, "a watch ends", ended.Hit())
	j.holds(t, soon, oracle, prefix)
	// All three, and once more if etcd took its time to confirm them.
	if n := calls.Count(etcdtest.WatchCreate) - before; n == 0 || n%len(keys) != 0 {
		t.Errorf("%d watches opened again, want 3 an attempt", n)
	}
	if n := j.count(isResync); n != 1 {
		t.Errorf("%d resyncs, want 1", n)
	}
}

// concerns matches a response with an event of key.
func concerns(key string) func(any) bool {
	return func(m any) bool {
		return slices.ContainsFunc(m.(*pb.WatchResponse).Events, func(ev *mvccpb.Event) bool {
			return string(ev.Kv.Key) == key
		})
	}
}
