package follow_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// However long etcd is out of reach: the view is live again soon after, and what it tried meanwhile is gone. clientv3 keeps a
// stream for ever whose only watch was given up before it was confirmed.
func TestAnOutageLeavesNoStreamBehind(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(*etcdtest.Link){
		"refused": (*etcdtest.Link).Cut,
		"silent":  func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			link, streams := c.Link(0), &streams{}
			cli := link.Dial(clientConfig(streams))
			j := attach(t, cli, follow.Prefix("a/"))
			j.synced(t)
			hurt(link)
			j.wait(t, 30*time.Second, "three attempts fail", func() bool { return stales(j) >= 3 })
			put(t, c.Oracle(0), "a/1", "1")
			link.Heal()
			healed := time.Now()
			j.holds(t, soon, c.Oracle(0), "a/")
			if took := time.Since(healed); took > 4*time.Second {
				t.Errorf("live again %v after etcd was", took)
			}
			j.close()
			etcdtest.Eventually(t, soon, "the watch streams end", streams.ended)
		})
	}
}

// lateQuestion is a Watcher whose first question for progress takes its time: until the stream that it is for has ended or,
// unless it is stubborn, until it is called off.
type lateQuestion struct {
	clientv3.Watcher
	asked    chan struct{} // closed with the first question
	once     sync.Once
	streams  *streams
	stubborn bool
}

func (w *lateQuestion) RequestProgress(ctx context.Context) error {
	w.once.Do(func() {
		close(w.asked)
		for w.streams.open() > 0 && (w.stubborn || ctx.Err() == nil) {
			runtime.Gosched()
		}
		// clientv3 forgets the stream a moment after it has ended, and only then opens another.
		for tries := 0; w.stubborn && w.streams.open() == 0 && tries < 1000; tries++ {
			_ = w.Watcher.RequestProgress(ctx)
			runtime.Gosched()
		}
	})
	return w.Watcher.RequestProgress(ctx)
}

// clientv3 opens a stream for a question for progress if there is none, and nothing ever ends that.
func TestAQuestionThatComesTooLateOpensNoStream(t *testing.T) {
	t.Parallel()
	streams := &streams{}
	cli := streams.dial(etcdtest.Shared(t))
	late := &lateQuestion{Watcher: cli.Watcher, asked: make(chan struct{}), streams: streams}
	cli.Watcher = late
	j := attach(t, cli, follow.Prefix(etcdtest.Prefix(t)))
	j.synced(t)
	etcdtest.Done(t, soon, "a question for progress", late.asked)
	j.close()
	etcdtest.Eventually(t, soon, "the watch stream ends", streams.ended)
	if n := streams.mostWithin(200 * time.Millisecond); n != 0 {
		t.Errorf("%d streams were opened afterwards", n)
	}
}

// The same with a stream that etcd ends while the question is on its way, and a view that goes on.
func TestAQuestionAboutAStreamThatDiedLeavesNone(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	streams, calls := &streams{}, &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: append(streams.options(), calls.DialOptions()...)})
	late := &lateQuestion{Watcher: cli.Watcher, asked: make(chan struct{}), streams: streams, stubborn: true}
	cli.Watcher = late
	j := attach(t, cli, follow.Prefix(prefix))
	j.synced(t)
	etcdtest.Done(t, soon, "a question for progress", late.asked)
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCCorrupt})
	put(t, oracle, prefix+"a", "1")
	j.holds(t, soon, oracle, prefix)
	etcdtest.Eventually(t, soon, "there is one stream", func(context.Context) error {
		if n := streams.open(); n != 1 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
	j.close()
	etcdtest.Eventually(t, soon, "the watch streams end", streams.ended)
}

// Observers come and go from many goroutines at once: on views that begin, that end and that stay, of two clients.
func TestObserversComeAndGoAtOnce(t *testing.T) {
	t.Parallel()
	const goroutines, rounds = 16, 64
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	streams := &streams{}
	clients := []*clientv3.Client{streams.dial(etcdtest.Shared(t)), streams.dial(etcdtest.Shared(t))}
	ranges := []follow.Range{
		follow.Prefix(prefix), follow.Prefix(prefix + "k0"), follow.Keys(prefix + "k00"), follow.Keys(prefix+"k01", prefix+"k02"),
		whole(prefix),
	}
	rng := seeded(t)
	s := newScribbler(oracle, prefix, rng)
	stop := s.inBackground(t)
	var running sync.WaitGroup
	for range goroutines {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		running.Go(func() {
			for range rounds {
				which := rng.IntN(len(ranges))
				j := &judge{unordered: which == 3}
				j.start(clients[rng.IntN(2)], ranges[which])
				switch rng.IntN(3) {
				case 0: // gone before it is told anything
				case 1:
					j.wait(t, soon, "the first change", func() bool { return j.last.Revision > 0 })
				case 2:
					<-time.After(time.Duration(rng.IntN(3000)) * time.Microsecond)
				}
				_ = j.follower.Status()
				j.close()
				j.sentence(t)
			}
		})
	}
	etcdtest.Returns(t, time.Minute, "all observers have come and gone", running.Wait)
	stop()
	etcdtest.Eventually(t, soon, "the watch streams end", streams.ended)
}

// A client that is closed under its views is an error they report, at the pace of any other: it is no reason to spin, to
// panic, or to hang when they are closed.
func TestAClosedClientIsAnInterruptionThatLasts(t *testing.T) {
	t.Parallel()
	for name, rng := range map[string]follow.Range{"prefix": follow.Prefix("a/"), "keys": follow.Keys("a/1", "a/2")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli := etcdtest.Client(t)
			j := attach(t, cli, rng)
			j.synced(t)
			if err := cli.Close(); err != nil {
				t.Fatal(err)
			}
			// At once, and not for the silence that follows.
			j.wait(t, 1200*time.Millisecond, "it is told", func() bool { return stales(j) >= 1 })
			j.wait(t, soon, "it is told again", func() bool { return stales(j) >= 3 })
			if err := j.follower.Status().Err; err == nil {
				t.Error("the status of a view of a closed client has no error")
			}
			j.mu.Lock()
			told, since := len(j.calls), time.Now()
			j.mu.Unlock()
			j.wait(t, 2*soon, "it is told again", func() bool { return len(j.calls) >= told+3 })
			if took := time.Since(since); took < 100*time.Millisecond {
				t.Errorf("three more attempts in %v", took)
			}
			etcdtest.Returns(t, time.Second, "Close", j.close)
		})
	}
}

func TestCloseReturnsSoonThoughEtcdIsUnreachable(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(*etcdtest.Link){
		"refused": (*etcdtest.Link).Cut,
		"silent":  func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			link := c.Link(0)
			cli := link.Client()
			live := attach(t, cli, follow.Prefix("a/"))
			live.synced(t)
			hurt(link)
			opening := attach(t, cli, follow.Prefix("b/"))
			if took := etcdtest.Returns(t, soon, "Close", live.close); took > 250*time.Millisecond {
				t.Errorf("Close of a view that was live took %v", took)
			}
			opening.wait(t, soon, "an attempt fails", func() bool { return stales(opening) > 0 })
			if took := etcdtest.Returns(t, soon, "Close", opening.close); took > 250*time.Millisecond {
				t.Errorf("Close of a view that never was took %v", took)
			}
		})
	}
}

// The members' goroutines are this process's, too; hence not parallel. etcd has one for each watch stream, clientv3 several
// for each stream and watch, and package follow for each view.
func TestNothingIsLeftRunning(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	kinds := []string{"v3rpc.(*watchServer).Watch(", "clientv3.(*watchGRPCStream)", "etcdkit/internal/follow."}
	before := goroutines(kinds)
	var judges []*judge
	for i := range 30 {
		j := attach(t, cli, follow.Prefix(fmt.Sprintf("a/%d/", i%10)))
		j.synced(t)
		judges = append(judges, j)
	}
	now := goroutines(kinds)
	if n := now[kinds[0]] - before[kinds[0]]; n != 1 {
		t.Errorf("%d streams on the server for 10 views, want 1", n)
	}
	if n := now[kinds[2]] - before[kinds[2]]; n < 10 || n > 30 {
		t.Errorf("%d goroutines for 10 views", n) // else the names are wrong, and what follows says nothing
	}
	for _, j := range judges {
		j.close()
	}
	etcdtest.Eventually(t, soon, "all of them end", func(context.Context) error {
		if now := goroutines(kinds); !maps.Equal(now, before) {
			return fmt.Errorf("%v goroutines, and there were %v before", now, before)
		}
		return nil
	})
}

// goroutines counts those in whose stacks a name occurs, by name.
func goroutines(names []string) map[string]int {
	buf := make([]byte, 16<<20)
	buf = buf[:runtime.Stack(buf, true)]
	n := map[string]int{}
	for _, name := range names {
		n[name] = 0
	}
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		for _, name := range names {
			if bytes.Contains(g, []byte(name)) {
				n[name]++
			}
		}
	}
	return n
}

// While etcd is away attempts to watch wait for it, and when it is back all of them are told together that it has no leader yet.
// That is one refusal, not one after the other with a longer wait each.
func TestRefusalsThatComeTogetherAreOne(t *testing.T) {
	t.Parallel()
	prefix := etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	release := make(chan struct{})
	calls.Inject(etcdtest.Fault{Call: etcdtest.WatchCreate, Times: 4, Hold: release, Err: rpctypes.ErrGRPCNoLeader})
	j := attach(t, cli, follow.Prefix(prefix))
	calls.WaitCount(t, soon, etcdtest.WatchCreate, 4)
	before := j.count(isStale)
	close(release)
	j.synced(t)
	if n := j.count(isStale) - before; n > 1 {
		t.Errorf("four attempts were refused at once, and were taken for %d refusals", n)
	}
}
