package follow_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// A view of several prefixes is cut off at any moment: also with something held, and a question on its way. What it then tells is
// one difference, of whole transactions.
func TestAWholeThatIsCutOffIsOneResync(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, link := c.Oracle(0), c.Link(0)
	j := &judge{whole: true, rule: equalPairs("a/", "b/")}
	j.attach(t, link.Client(), follow.Prefixes("a/", "b/"))
	j.synced(t)
	for round := range 3 {
		stale := j.count(isStale)
		pair(t, oracle, "a/1", "b/1", fmt.Sprint("before", round))
		link.Blackhole(etcdtest.Direction(round % 3))
		for i := range 5 {
			pair(t, oracle, fmt.Sprint("a/", i), fmt.Sprint("b/", i), fmt.Sprint("during", round))
		}
		j.wait(t, soon, "the stream is given up", func() bool { return stales(j) > 0 })
		link.Drop()
		link.Heal()
		pair(t, oracle, "a/1", "b/1", fmt.Sprint("after", round))
		j.holdsAll(t, soon, oracle, "a/", "b/")
		if j.count(isStale) == stale {
			t.Error("not interrupted")
		}
		proven(t, j, time.Now())
	}
	if n := j.count(isResync); n != 3 {
		t.Errorf("%d resyncs, want 3", n)
	}
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// holdsAll is holds for several prefixes.
func (j *judge) holdsAll(t testing.TB, within time.Duration, oracle *clientv3.Client, prefixes ...string) {
	t.Helper()
	want := content{}
	for _, p := range prefixes {
		maps.Copy(want, read(t, oracle, p, 0))
	}
	j.wait(t, within, fmt.Sprintf("the view holds the %d keys of etcd", len(want)), func() bool {
		return j.live && maps.EqualFunc(j.content, want, same)
	})
}

func TestCompactionWhileAWholeIsCutOffIsOneResync(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, link := c.Oracle(0), c.Link(0)
	for _, key := range []string{"a/stays", "a/changes", "b/goes"} {
		put(t, oracle, key, "1")
	}
	j := attachWhole(t, link.Client(), follow.Prefixes("a/", "b/"))
	j.synced(t)
	link.Cut()
	put(t, oracle, "a/changes", "2")
	put(t, oracle, "b/comes", "1")
	del(t, oracle, "b/goes")
	c.Compact(0)
	link.Heal()
	j.holdsAll(t, soon, oracle, "a/", "b/")
	if n := j.count(isResync); n != 1 {
		t.Errorf("%d resyncs, want 1", n)
	}
	put(t, oracle, "a/changes", "3")
	j.holdsAll(t, soon, oracle, "a/", "b/")
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: compaction is not another history", g)
	}
}

// Between the first pages and what follows them, the revision they are of may be compacted: all of it is read again, at
// another. The same if etcd does not know the revision any more.
func TestAWholeIsReadAtOneRevisionOrAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]etcdtest.Fault{
		"undisturbed": pass(etcdtest.Fault{Call: "RangeStream"}),
		"compacted":   {Call: "RangeStream", Skip: 1, Err: rpctypes.ErrGRPCCompacted},
		"future":      {Call: "RangeStream", Skip: 1, Err: rpctypes.ErrGRPCFutureRev},
		"no streams":  {Call: "RangeStream", Times: -1, Err: status.Error(codes.Unimplemented, "unknown method")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
			truth := newChronicle(t, oracle, prefix)
			fill(t, oracle, prefix, 2500)
			cli, calls := counted(etcdtest.Shared(t))
			s := newScribbler(oracle, prefix, seeded(t))
			s.keys, s.name = 50, func(i int) string { return fmt.Sprintf("k%05d", i*50) }
			calls.Inject(fault)
			release := make(chan struct{})
			first := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Hold: release})
			j := attachWhole(t, cli, follow.Prefixes(prefix+"k00", prefix+"k01", prefix+"k02").With(prefix+"together"))
			etcdtest.Done(t, soon, "the first pages are read", first.Hit())
			s.scribble(t, 20)
			close(release)
			s.scribble(t, 20)
			j.holds(t, soon, oracle, prefix)
			j.compare(t, truth.under(t, prefix, s.rev))
			again := 0
			if name == "compacted" || name == "future" {
				again = 1
			}
			if n := calls.Count("Txn"); n < 1+again { // on a busy machine each may take two attempts
				t.Errorf("%d first reads, want %d", n, 1+again)
			}
		})
	}
}

func TestARestoredBackupIsAnotherGenerationOfAWhole(t *testing.T) {
	t.Parallel()
	for name, caughtUp := range map[string]bool{"behind": false, "caught up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			for _, key := range []string{"a/stays", "a/changes", "b/goes", "b/stays"} {
				put(t, c.Oracle(0), key, "1")
			}
			backup := c.Backup()
			pair(t, c.Oracle(0), "a/changes", "b/changes", "2")
			del(t, c.Oracle(0), "b/goes")
			link := c.Link(0)
			j := attachWhole(t, link.Client(), follow.Prefixes("a/", "b/"))
			j.synced(t)
			if caughtUp {
				link.Cut()
			}
			down := time.After(2100 * time.Millisecond)
			c.Restore(backup)
			if caughtUp {
				for i := range 5 {
					put(t, c.Oracle(0), fmt.Sprintf("b/new%d", i), "3")
				}
				<-down
				link.Heal()
			}
			j.wait(t, 20*time.Second, "another generation", func() bool { return j.live && j.last.Generation == 1 })
			j.holdsAll(t, soon, c.Oracle(0), "a/", "b/")
			pair(t, c.Oracle(0), "a/changes", "b/changes", "4")
			j.holdsAll(t, soon, c.Oracle(0), "a/", "b/")
			if g := j.generation(); g != 1 {
				t.Errorf("generation %d, want 1", g)
			}
		})
	}
}

// A late answer has all prefixes compared with etcd. Here an event of one is lost together with an answer.
func TestALateAnswerHasAWholeCompared(t *testing.T) {
	t.Parallel()
	for _, lose := range []string{"a/1", "b/1"} {
		t.Run(lose[:1], func(t *testing.T) {
			t.Parallel()
			oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
			pair(t, oracle, prefix+"a/1", prefix+"b/1", "1")
			cli, calls := counted(etcdtest.Shared(t))
			j := attachWhole(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/"))
			j.synced(t)
			before := calls.Count("Txn")
			event := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: concerns(prefix + lose)})
			answer := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: isProgress})
			put(t, oracle, prefix+lose, "2")
			etcdtest.Done(t, soon, "an event is lost", event.Hit())
			etcdtest.Done(t, soon, "an answer is lost", answer.Hit())
			j.wait(t, soon, "it is found out", func() bool { return stales(j) > 0 })
			j.holds(t, soon, oracle, prefix)
			if n := calls.Count("Txn") - before; n < 2 {
				t.Errorf("%d reads, want one to compare and one of all", n)
			}
		})
	}
}

// The comparison finds a view right that is.
func TestADoubtedWholeThatIsRightIsNotInterrupted(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	s := newScribbler(oracle, prefix, seeded(t))
	s.scribble(t, 50)
	cli, calls := counted(etcdtest.Shared(t))
	j := attachWhole(t, cli, whole(prefix))
	j.synced(t)
	s.scribble(t, 50) // since the read
	j.holds(t, soon, oracle, prefix)
	proven(t, j, time.Now()) // so that no answer is on its way
	before := calls.Count("Txn")
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: isProgress})
	calls.WaitCount(t, soon, "Txn", before+1)
	s.scribble(t, 20)
	j.holds(t, soon, oracle, prefix)
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions:\n%s", n, j.tail())
	}
}

// What is lost of one prefix shows with the next event of its key, and nothing of that revision is told: the next change is the
// difference.
func TestALostEventOfAWholeShowsAndNothingHalfIsTold(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	pair(t, oracle, prefix+"a/1", prefix+"b/1", "1")
	cli, calls := counted(etcdtest.Shared(t))
	j := &judge{whole: true}
	j.attach(t, cli, follow.Prefixes(prefix+"a/", prefix+"b/"))
	j.synced(t)
	lost := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Silent: true, Match: concerns(prefix + "b/1")})
	put(t, oracle, prefix+"b/1", "2")
	etcdtest.Done(t, soon, "an event is lost", lost.Hit())
	pair(t, oracle, prefix+"a/1", prefix+"b/1", "3")
	j.holds(t, soon, oracle, prefix)
	if n := j.count(isStale); n != 1 {
		t.Errorf("%d interruptions, want 1", n)
	}
	j.wait(t, 0, "both halves came by the read", func() bool {
		return len(j.calls) == 5 && j.calls[3].resync && len(j.calls[3].change.Events) == 2
	})
}

// Streams of their own end with their views, however the questions on them come.
func TestAWholeLeavesNoStreamBehind(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle, link, streams := c.Oracle(0), c.Link(0), &streams{}
	calls := &etcdtest.Calls{}
	cli := link.Dial(clientv3.Config{DialOptions: append(streams.options(), calls.DialOptions()...)})
	single := attach(t, cli, follow.Prefix("a/k0"))
	single.synced(t)
	s := newScribbler(oracle, "a/", seeded(t))
	stop := s.inBackground(t)
	for round := range 20 {
		j := attachWhole(t, cli, whole("a/"))
		j.wait(t, soon, "the view is synced", func() bool { return j.last.Revision > 0 })
		switch round % 4 {
		case 1:
			j.wait(t, soon, "a change", func() bool { return len(j.calls) > 2 })
		case 2:
			// And not closed at once: client/v3 keeps a stream whose watches end while it opens them again.
			link.Drop()
			proven(t, j, time.Now())
		case 3:
			ended := calls.Inject(etcdtest.Fault{
				Call: etcdtest.WatchResponse, Match: concerns("a/together"), Err: rpctypes.ErrGRPCCorrupt,
			})
			etcdtest.Done(t, soon, "the stream ends", ended.Hit())
		}
		j.close()
	}
	stop()
	single.holds(t, soon, oracle, "a/k0")
	etcdtest.Eventually(t, soon, "there is one stream", func(context.Context) error {
		if n := streams.open(); n != 1 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
	single.close()
	etcdtest.Eventually(t, soon, "the watch streams end", streams.ended)
}

// Every connection is reset, answers are lost and late: it is never wrong, at no revision.
func TestAWholeIsWhatEtcdHeldAtEveryRevision(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	c := etcdtest.New(t, nil)
	oracle, links := c.Oracle(0), c.Links()
	truth := newChronicle(t, oracle, "a/")
	j := attachWhole(t, links.Client(), whole("a/"))
	j.synced(t)
	s := newScribbler(oracle, "a/", rng)
	stop := s.inBackground(t)
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		fault(c, links, rng)
	}
	stop()
	links.Heal()
	s.scribble(t, 1)
	j.holds(t, 15*time.Second, oracle, "a/")
	j.compare(t, truth.under(t, "a/", s.rev))
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
	t.Logf("%d changes, %d of them after an interruption", j.count(isChange), j.count(isResync))
}

// On a long way events and answers are late, and questions are asked again before the first is answered. Whatever is taken for the answer
// to which: the view is never proven at a time when it lacked something.
func TestAWholeIsNeverProvenAtATimeWhenItLackedSomething(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	j := attachWhole(t, link.Client(), follow.Prefixes("a/", "b/"))
	j.synced(t)
	link.Delay(etcdtest.Responses, 300*time.Millisecond, 500*time.Millisecond)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		rev := put(t, c.Oracle(0), "a/1", "1")
		written, early := time.Now(), time.Duration(0)
		etcdtest.Eventually(t, soon, "the change is seen", func(context.Context) error {
			at := j.follower.Status().ProvenAt // before it is looked whether it is seen
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.last.Revision >= rev {
				return nil
			}
			early = max(early, at.Sub(written))
			return errors.New("it is not")
		})
		if early > 0 {
			t.Fatalf("proven %v after a change that it had not seen", early)
		}
	}
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions", n)
	}
	proven(t, j, time.Now())
}
