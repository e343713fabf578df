package follow_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// whole covers all that a scribbler writes under a prefix, in three parts.
func whole(prefix string) follow.Range {
	return follow.Prefixes(prefix+"k0", prefix+"k1").With(prefix + "together")
}

// attachWhole is attach for a view of several prefixes.
func attachWhole(t *testing.T, client *clientv3.Client, rng follow.Range) *judge {
	t.Helper()
	j := &judge{whole: true}
	j.attach(t, client, rng)
	return j
}

// pair puts the same value under both names in one transaction, and returns the revision.
func pair(t testing.TB, cli *clientv3.Client, one, other, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
	defer cancel()
	resp, err := cli.Txn(ctx).Then(clientv3.OpPut(one, value), clientv3.OpPut(other, value)).Commit()
	if err != nil {
		t.Errorf("put %q and %q: %v", one, other, err)
		return 0
	}
	return resp.Header.Revision
}

// equalPairs is a rule: each key under one prefix has the value of its namesake under the other.
func equalPairs(one, other string) func(content) string {
	return func(c content) string {
		for key, kv := range c {
			name, ours := strings.CutPrefix(key, one)
			if !ours {
				continue
			}
			if twin := c[other+name]; twin == nil || !bytes.Equal(twin.Value, kv.Value) {
				return fmt.Sprintf("%v, and its other half is %v", kv, twin)
			}
		}
		return ""
	}
}

// Four writers change both prefixes in one transaction, two more one prefix at a time. Views are cut off now and then. No change of any
// view ever has half of a transaction in it.
func TestHalfATransactionIsNeverSeen(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, links := c.Oracle(0), etcdtest.Links{c.Link(0), c.Link(0)}
	var judges []*judge
	for _, rng := range []follow.Range{
		follow.Prefixes("a/", "b/"), follow.Prefixes("a/pair/", "a/x/", "b/"), follow.Prefixes("b/").With("a/pair/0", "a/pair/1"),
	} {
		for _, link := range links {
			j := &judge{whole: true, rule: equalPairs("a/pair/", "b/pair/")}
			j.attach(t, link.Client(), rng)
			j.synced(t)
			judges = append(judges, j)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				pair(t, oracle, fmt.Sprint("a/pair/", i), fmt.Sprint("b/pair/", i), fmt.Sprint(n))
			}
		})
	}
	for _, key := range []string{"a/x/alone", "b/alone"} {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				pair(t, oracle, key, "elsewhere"+key, fmt.Sprint(n))
			}
		})
	}
	every := time.NewTicker(300 * time.Millisecond)
	defer every.Stop()
	for over := time.After(2500 * time.Millisecond); over != nil; {
		select {
		case <-every.C:
			links[1].Drop()
		case <-over:
			over = nil
		}
	}
	cancel()
	writers.Wait()
	last := put(t, oracle, "b/last", "")
	for _, j := range judges {
		j.wait(t, soon, "the last change", func() bool { return j.last.Revision >= last })
	}
	for i, j := range judges {
		n := j.count(isChange)
		t.Logf("%d changes, %d after an interruption", n, j.count(isResync))
		if i%2 == 0 && (n < 50 || j.count(isStale) > 0) {
			t.Errorf("%d changes in 2.5 s, %d interruptions, and nothing was done to the view", n, j.count(isStale))
		}
		if g := j.generation(); g != 0 {
			t.Errorf("generation %d: this is one history", g)
		}
	}
}

// A transaction over two prefixes comes in two responses. Here the second is held up.
func TestTheFirstHalfWaitsForTheSecond(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/"))
	j.synced(t)
	release := make(chan struct{})
	second := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Match: hasEvents, Skip: 1, Hold: release})
	rev := pair(t, oracle, prefix+"a/1", prefix+"b/1", "1")
	etcdtest.Done(t, soon, "the second half is on its way", second.Hit())
	reached := make(chan error, 1)
	go func() { reached <- j.follower.Reached(t.Context(), rev) }()
	j.mu.Lock()
	called := j.called
	j.mu.Unlock()
	etcdtest.Nothing(t, 200*time.Millisecond, "a change without its second half", called)
	close(release)
	j.wait(t, soon, "both halves", func() bool { return j.last.Revision >= rev })
	j.wait(t, 0, "they came in one change", func() bool { return len(j.calls) == 3 && len(j.calls[2].change.Events) == 2 })
	if err := etcdtest.Receive(t, soon, "the revision is reached", reached); err != nil {
		t.Error(err)
	}
}

// What one prefix alone brings is told when etcd has said that the other has nothing older. It is asked at once, and not with the next
// beat: so thirty changes, one after the other, take as many questions and little time.
func TestAChangeOfOnePrefixTakesOneQuestion(t *testing.T) {
	t.Parallel()
	const changes = 30
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/").With(prefix+"c"))
	j.synced(t)
	before := calls.Counts()
	start := time.Now()
	for i := range changes {
		rev := put(t, oracle, prefix+[]string{"a/1", "b/1", "c"}[i%3], fmt.Sprint(i))
		j.wait(t, soon, "the change", func() bool { return j.last.Revision >= rev })
	}
	took := time.Since(start)
	after := calls.Counts()
	beats := 1 + int(took/time.Second)
	asked := after[etcdtest.WatchProgress] - before[etcdtest.WatchProgress]
	t.Logf("%d changes one by one: %v, %d questions", changes, took, asked)
	// By the beats it would be half a second for each.
	if took > changes*200*time.Millisecond {
		t.Errorf("%v for each change", took/changes)
	}
	if retries := int(took / (40 * time.Millisecond)); asked < changes || asked > changes+2*beats+retries {
		t.Errorf("%d questions", asked)
	}
	for name, n := range after {
		if name != etcdtest.WatchProgress && name != etcdtest.WatchResponse && n != before[name] {
			t.Errorf("%d changes took %d calls %s", changes, n-before[name], name)
		}
	}
}

// etcd drops questions without a word while a watch is catching up. Here they are lost on the way.
func TestAQuestionThatIsDroppedIsAskedAgainSoon(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/"))
	j.synced(t)
	put(t, oracle, prefix+"b/1", "1") // so that the view knows how long an answer takes
	j.wait(t, soon, "a change", func() bool { return j.has(prefix+"b/1", "1") })
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchProgress, Silent: true, Times: 4})
	start := time.Now()
	put(t, oracle, prefix+"a/1", "1")
	j.wait(t, soon, "the change", func() bool { return j.has(prefix+"a/1", "1") })
	if took := time.Since(start); took > 2500*time.Millisecond { // by beats it is four seconds
		t.Errorf("told after %v", took)
	}
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions", n)
	}
	proven(t, j, time.Now())
}

// If etcd never answers while the one prefix changes, the stream is busy and not silent. It is left all the same, for what it brings
// cannot be told.
func TestAStreamThatNeverLetsAChangePassIsLeft(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, whole(prefix))
	j.synced(t)
	lost := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Match: isProgress, Silent: true, Times: -1})
	s := newScribbler(oracle, prefix, seeded(t))
	s.keys = 10 // of the first prefix
	end := time.NewTicker(100 * time.Millisecond)
	defer end.Stop()
	for over := time.After(4 * soon); j.count(isStale) == 0; {
		if err := s.put(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-end.C:
		case <-over:
			t.Fatal("the stream is not left")
		}
	}
	lost.Remove()
	j.holds(t, soon, oracle, prefix)
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

func TestOnePrefixMayChangeForLongWhileTheOtherIsSilent(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	truth := newChronicle(t, oracle, prefix)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, follow.Prefixes(prefix+"k", prefix+"silent/"))
	j.synced(t)
	s := newScribbler(oracle, prefix, seeded(t))
	s.name = func(i int) string { return fmt.Sprintf("k%02d", i) }
	start, before := time.Now(), calls.Count(etcdtest.WatchProgress)
	for range 500 {
		if err := s.put(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wrote := time.Now()
	j.holds(t, soon, oracle, prefix)
	j.compare(t, truth.under(t, prefix, s.rev))
	t.Logf("500 changes in %v, the last told %v later: %d changes of the view, %d questions",
		wrote.Sub(start), time.Since(wrote), j.count(isChange), calls.Count(etcdtest.WatchProgress)-before)
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions", n)
	}
	proven(t, j, wrote)
}

// Views of several prefixes cost a question a second each, and nothing else.
func TestWithoutChangesAWholeIsAskedOnceASecond(t *testing.T) {
	cli, calls := counted(etcdtest.Shared(t))
	for range 2 {
		prefix := etcdtest.Prefix(t)
		attachWhole(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/").With(prefix+"c")).synced(t)
		attach(t, cli, follow.Prefix(prefix+"a/")).synced(t)
	}
	if n := calls.Count("Watch"); n != 3 {
		t.Errorf("%d streams, want one for each of two views and one for the others", n)
	}
	calls.Reset()
	calls.Quiet(t, 3500*time.Millisecond, etcdtest.WatchProgress)
	if n := calls.Count(etcdtest.WatchProgress); n < 3*3 || n > 3*4 {
		t.Errorf("%d questions in 3.5 s on three streams, want one a second on each", n)
	}
}
