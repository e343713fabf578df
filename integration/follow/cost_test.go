package follow_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// Views that nothing happens to cost a client one question a second, for all of them together. It is not parallel: on a busy
// machine an answer may be late, and that is a reason to look closer.
func TestWithoutChangesThereIsOneQuestionASecondAndNoOtherCall(t *testing.T) {
	cli, calls := counted(etcdtest.Shared(t))
	for i := range 20 {
		prefix := etcdtest.Prefix(t)
		rng := []follow.Range{follow.Prefix(prefix), follow.Keys(prefix + "a"), follow.Keys(prefix+"a", prefix+"b")}[i%3]
		attach(t, cli, rng).synced(t)
	}
	if n := calls.Count("Watch"); n != 1 {
		t.Errorf("20 views opened %d streams, want 1", n)
	}
	calls.Reset()
	calls.Quiet(t, 3500*time.Millisecond, etcdtest.WatchProgress)
	// The questions are a second apart, whatever the moment at which the counting began.
	if n := calls.Count(etcdtest.WatchProgress); n < 3 || n > 4 {
		t.Errorf("%d questions in 3.5 s, want one a second", n)
	}
}

// What changes comes by the watches that are there, without a call.
func TestAChangeTakesNoCall(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	whole := attach(t, cli, follow.Prefix(prefix))
	whole.synced(t)
	some := &judge{unordered: true}
	some.attach(t, cli, follow.Keys(prefix+"k00", prefix+"k01"))
	some.synced(t)
	before := calls.Counts()
	s := newScribbler(oracle, prefix, seeded(t))
	s.scribble(t, 300)
	whole.holds(t, soon, oracle, prefix)
	for name, n := range calls.Counts() {
		if name != etcdtest.WatchProgress && name != etcdtest.WatchResponse && n != before[name] {
			t.Errorf("300 changes took %d calls %s", n-before[name], name)
		}
	}
	// Not more responses than changes, either, but for a few about progress.
	if n := calls.Count(etcdtest.WatchResponse) - before[etcdtest.WatchResponse]; n > 3*300 {
		t.Errorf("%d responses", n)
	}
}

// AllocsPerRun does not work beside parallel tests.
func TestStatusDoesNotAllocate(t *testing.T) {
	j := attach(t, etcdtest.Client(t), follow.Prefix(etcdtest.Prefix(t)))
	j.synced(t)
	var s follow.Status
	if n := testing.AllocsPerRun(1000, func() { s = j.follower.Status() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s.Err != nil || s.Revision == 0 {
		t.Error(fmt.Sprint(s))
	}
}
