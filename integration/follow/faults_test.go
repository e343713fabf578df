package follow_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// F9: what the view missed is no longer in etcd's history. It re-reads once, and tells the difference: also of keys
// that went, and nothing of those that stayed (etcd#8668, etcd#12824).
func TestCompactionWhileCutOffIsOneResync(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	for _, key := range []string{"a/stays", "a/changes", "a/goes"} {
		put(t, oracle, key, "1")
	}
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	link.Cut()
	put(t, oracle, "a/changes", "2")
	put(t, oracle, "a/changes", "3")
	put(t, oracle, "a/comes", "1")
	put(t, oracle, "a/brief", "1")
	del(t, oracle, "a/brief")
	del(t, oracle, "a/goes")
	c.Compact(0)
	link.Heal()
	j.holds(t, soon, oracle, "a/")
	if n := j.count(isResync); n != 1 {
		t.Errorf("%d resyncs, want 1", n)
	}
	if n := j.count(func(c told) bool { return c.change != nil && len(c.change.Events) == 3 }); n != 2 {
		t.Errorf("want three events in the first change, and three in the difference:\n%s", j.tail())
	}
	if n := j.count(func(c told) bool { return errors.Is(c.stale, rpctypes.ErrCompacted) }); n > 1 {
		t.Errorf("told of the compaction %d times", n)
	}
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: compaction is not another history", g)
	}
}

// A watch that etcd ends, for whatever reason, is opened again, and what happened meanwhile is told as a difference
// (W3, W5; etcd#11954, etcd#12385).
func TestAWatchThatEtcdEndsIsOpenedAgain(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]error{
		"expired token": rpctypes.ErrGRPCInvalidAuthToken,
		"old auth":      rpctypes.ErrGRPCAuthOldRevision,
		"forbidden":     rpctypes.ErrGRPCPermissionDenied,
		"no leader":     rpctypes.ErrGRPCNoLeader,
		"corrupt":       rpctypes.ErrGRPCCorrupt,
		"nameless":      status.Error(codes.Unknown, "something happened"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
			truth := newChronicle(t, oracle, prefix)
			cli, calls := counted(etcdtest.Shared(t))
			s := newScribbler(oracle, prefix, seeded(t))
			s.scribble(t, 5)
			j := attach(t, cli, follow.Prefix(prefix))
			j.synced(t)
			ended := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: why})
			s.scribble(t, 20)
			etcdtest.Done(t, soon, "the watch ends", ended.Hit())
			j.holds(t, soon, oracle, prefix)
			j.compare(t, truth.under(t, prefix, s.rev))
			if n := j.count(func(c told) bool { return errors.Is(c.stale, rpctypes.Error(why)) }); n != 1 {
				t.Errorf("told %d times that it is interrupted by %v:\n%s", n, why, j.tail())
			}
			if n := j.count(isResync); n != 1 {
				t.Errorf("%d resyncs, want 1", n)
			}
		})
	}
}

// F4: what the view asks in vain is noticed, whatever it is: the watch, its confirmation, or the read. It goes on
// asking, and once there is an answer it is live, without a gap.
func TestWhateverIsNotAnsweredIsAskedAgain(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]etcdtest.Fault{
		"watch":        {Call: etcdtest.WatchCreate, Silent: true},
		"confirmation": {Call: etcdtest.WatchResponse, Match: isCreated, Silent: true},
		"read":         {Call: "Range", Silent: true},
		"its answer":   {Call: "Range", Silent: true, After: true},
		"refused read": {Call: "Range", Err: rpctypes.ErrGRPCRequestTooManyRequests},
		"broken read":  {Call: "Range", After: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
			truth := newChronicle(t, oracle, prefix)
			cli, calls := counted(etcdtest.Shared(t))
			s := newScribbler(oracle, prefix, seeded(t))
			s.scribble(t, 5)
			hit := calls.Inject(lost)
			j := attach(t, cli, follow.Prefix(prefix))
			etcdtest.Done(t, soon, "the fault", hit.Hit())
			s.scribble(t, 20)
			j.holds(t, soon, oracle, prefix)
			s.scribble(t, 20)
			j.holds(t, soon, oracle, prefix)
			j.compare(t, truth.under(t, prefix, s.rev))
		})
	}
}

// W1, C10 (etcd#8980, etcd#14641): a member that lost its leader would keep the watch, and be silent for ever.
func TestAMemberWithoutLeaderIsLeft(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	links := c.Links()
	cli := links.Client()
	j := attach(t, cli, follow.Prefix("a/"))
	j.synced(t)
	on := watching(t, c.Oracle(c.WaitLeader()), links, j)
	c.Partition(on)
	j.wait(t, soon, "it is told of the leader's loss", func() bool { return stales(j) > 0 })
	c.WaitOtherLeader(-1)
	others := c.Oracle((on + 1) % 3)
	put(t, others, "a/1", "1")
	j.holds(t, soon, others, "a/") // through another member
	if n := j.count(func(c told) bool { return errors.Is(c.stale, rpctypes.ErrNoLeader) }); n == 0 {
		t.Errorf("not told why:\n%s", j.tail())
	}
	c.HealPartition()
	put(t, others, "a/2", "2")
	j.holds(t, soon, others, "a/")
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// watching returns the index of the link through which a view's watch goes: the one that an event passes.
func watching(t *testing.T, oracle *clientv3.Client, links etcdtest.Links, j *judge) int {
	t.Helper()
	const size = 256 << 10
	before := make([]int64, len(links))
	for i, l := range links {
		before[i] = l.Passed(etcdtest.Responses)
	}
	rev := put(t, oracle, "a/watching", repeat(size))
	j.wait(t, soon, "a big event", func() bool { return j.last.Revision >= rev })
	on := -1
	etcdtest.Eventually(t, soon, "the event has passed a link", func(context.Context) error {
		for i, l := range links {
			if l.Passed(etcdtest.Responses)-before[i] >= size {
				on = i
				return nil
			}
		}
		return errors.New("it has not been counted")
	})
	return on
}

// A link that has gone silent is the one fault that nothing reports: neither gRPC nor etcd (W2, etcd#12534). The view
// asks, gives the stream up after three seconds at the latest, and goes on through another member.
func TestASilentLinkIsAbandonedForAnotherMember(t *testing.T) {
	t.Parallel()
	for name, direction := range map[string]etcdtest.Direction{"both ways": etcdtest.Both, "answers": etcdtest.Responses} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, &etcdtest.Options{Members: 3})
			links := c.Links()
			j := attach(t, links.Client(), follow.Prefix("a/"))
			j.synced(t)
			on := watching(t, c.Oracle(c.WaitLeader()), links, j)
			start := time.Now()
			links[on].Blackhole(direction)
			oracle := c.Oracle((on + 1) % 3)
			put(t, oracle, "a/1", "1")
			j.wait(t, soon, "the stream is given up", func() bool { return stales(j) > 0 })
			given := time.Since(start)
			j.holds(t, soon, oracle, "a/")
			resumed := time.Since(start)
			t.Logf("given up after %v, resumed after %v", given, resumed)
			if given > 3500*time.Millisecond || resumed > 5*time.Second {
				t.Error("want about 2.5 s and 3 s at most")
			}
			links.Heal()
			put(t, oracle, "a/2", "2")
			j.holds(t, soon, oracle, "a/")
		})
	}
}

func TestASilentLinkWithoutAlternativeIsUsedAgainWhenItHeals(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	link.Blackhole(etcdtest.Both)
	put(t, c.Oracle(0), "a/1", "1")
	j.wait(t, soon, "the stream is given up", func() bool { return stales(j) > 0 })
	link.Drop()
	link.Heal()
	j.holds(t, soon, c.Oracle(0), "a/")
	if g := j.generation(); g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}
}

// An attempt that meets a frozen member is lost, and says nothing about the next. ETCDKIT_FOLLOW_LONG has more of them lost.
func TestAttemptsGoOnHoweverManyWereLost(t *testing.T) {
	t.Parallel()
	lost := 3
	if os.Getenv("ETCDKIT_FOLLOW_LONG") != "" {
		lost = 7
	}
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	put(t, oracle, prefix+"a", "1")
	cli, calls := counted(etcdtest.Shared(t))
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchCreate, Silent: true, Times: lost})
	start := time.Now()
	j := attach(t, cli, follow.Prefix(prefix))
	j.holds(t, 5*time.Minute, oracle, prefix)
	if took := time.Since(start); lost == 3 && took > 8*time.Second {
		t.Errorf("%v for three lost attempts: they are made one beside the other", took)
	}
}
