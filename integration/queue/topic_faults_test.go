package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

// topicFlow publishes numbered messages until the function that it returns is called, which returns them.
func topicFlow(t *testing.T, topic *queue.Topic[string], pace time.Duration) (stop func() []string) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	var items []string
	go func() {
		defer close(ended)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			item := fmt.Sprint(i)
			if _, err := topic.Publish(context.Background(), item); err != nil {
				t.Error(err)
				return
			}
			items = append(items, item)
		}
	}()
	var once sync.Once
	stop = func() []string {
		once.Do(func() { close(end) })
		<-ended
		return items
	}
	t.Cleanup(func() { stop() })
	return stop
}

// Connections are reset, watches end, the history of what was missed is compacted: nothing is missed, nothing comes twice.
func TestATopicsSubscriberMissesNothingWhateverHappensToItsConnection(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	calls := &etcdtest.Calls{}
	cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	far, near := topicOf(cli, "t", nil), topicOf(c.Oracle(0), "t", nil)
	listeners := []*topicListener{listenTopic(t, far, queue.Position{}, nil), listenTopic(t, far, queue.Position{}, nil)}
	stop := topicFlow(t, near, time.Millisecond)
	every := time.NewTicker(150 * time.Millisecond)
	defer every.Stop()
	over := time.After(5 * time.Second)
	for round := 0; over != nil; round++ {
		select {
		case <-every.C:
		case <-over:
			over = nil
		}
		switch round % 5 {
		case 0:
			link.Drop()
		case 1:
			calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
		case 2:
			link.Cut()
		case 3:
			c.Compact(0)
			link.Heal()
		case 4:
			listeners = append(listeners, listenTopic(t, far, queue.Position{}, nil))
		}
	}
	link.Heal()
	want := stop()
	for _, l := range listeners {
		l.hears(t, want)
		l.noGaps(t)
	}
	t.Logf("%d messages, %d connections, %d watches", len(want), link.Accepted(), calls.Count(etcdtest.WatchCreate))
}

// A slow subscriber is not waited for and holds little, but misses nothing.
func TestASlowSubscriberOfATopicMissesNothing(t *testing.T) {
	t.Parallel()
	topic := topicOf(etcdtest.Client(t), topicName(t), nil)
	var want []string
	release := make(chan struct{})
	var once sync.Once
	entered := make(chan struct{})
	l := listenTopic(t, topic, queue.Position{}, func(queue.Message[string]) {
		once.Do(func() { close(entered) })
		<-release
	})
	publishTopic(t, topic, "first")
	etcdtest.Done(t, topicSoon, "the first message", entered)
	want = append(want, "first")
	for i := range 25 { // far more than a subscriber holds
		items := topicNumbers(fmt.Sprint(i, " "), 0, 120)
		if _, err := topic.PublishMany(t.Context(), items); err != nil {
			t.Fatal(err)
		}
		want = append(want, items...)
	}
	close(release)
	l.hears(t, want)
	l.noGaps(t)
}

// What is published while a subscriber catches up, and faster than it can: it goes from reading to listening and back.
func TestATopicsSubscriberThatIsSlowerThanThePublishersCatchesUp(t *testing.T) {
	t.Parallel()
	topic := topicOf(etcdtest.Client(t), topicName(t), nil)
	n := 0
	pause := time.NewTicker(100 * time.Microsecond)
	defer pause.Stop()
	l := listenTopic(t, topic, queue.Position{}, func(queue.Message[string]) {
		if n++; n%3 == 0 {
			<-pause.C
		}
	})
	var want []string
	for i := range 40 {
		items := topicNumbers(fmt.Sprint(i, " "), 0, 100)
		if _, err := topic.PublishMany(t.Context(), items); err != nil {
			t.Fatal(err)
		}
		want = append(want, items...)
	}
	l.hears(t, want)
	l.noGaps(t)
}

// An answer is lost, each time another: the message is there once, and its publisher knows where.
func TestAPublishWhoseAnswerIsLostIsThereOnce(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	topic := topicOf(cli, topicName(t), &queue.TopicOptions[string]{KeepMessages: -1})
	l := listenTopic(t, topicOf(etcdtest.Client(t), topic.Name(), nil), queue.Position{}, nil)
	publishTopic(t, topic, "first")
	want := []string{"first"}
	var at []queue.Position
	for i := range 40 {
		lost := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Err: rpctypes.ErrGRPCTimeout, Times: 1 + i%2})
		item := fmt.Sprint(i)
		at = append(at, publishTopic(t, topic, item)...)
		lost.Remove()
		if lost.Hits() == 0 {
			t.Fatal("nothing was lost")
		}
		want = append(want, item)
	}
	l.hears(t, want)
	for i, m := range l.got[1:] {
		if m.Position != at[i] {
			t.Errorf("%q is at %v, and was published at %v", m.Item, m.Position, at[i])
		}
	}
}

func TestAPublishWithoutEtcdSaysThatItMayBeThere(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	topic := topicOf(link.Client(), "t", nil)
	publishTopic(t, topic, "1")
	link.Blackhole(etcdtest.Responses)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	at, err := topic.PublishMany(ctx, topicNumbers("", 2, 130))
	if !retry.Ambiguous(err) || len(at) != 0 {
		t.Errorf("%d published, %v", len(at), err)
	}
}

// Messages are trimmed that a subscriber has not read, as it was cut off: it is told which, and goes on with the oldest there is.
func TestWhatWasTrimmedBeforeItWasReadIsReportedAsAGap(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	keep := &queue.TopicOptions[string]{KeepMessages: 100}
	near := topicOf(c.Oracle(0), "t", keep)
	l := listenTopic(t, topicOf(link.Client(), "t", nil), queue.Position{}, nil)
	seen := topicNumbers("seen ", 0, 30)
	at := publishTopic(t, near, seen...)
	l.hears(t, seen)
	link.Cut()
	missed := topicNumbers("missed ", 0, 500)
	all := append(slices.Clone(at), publishTopic(t, near, missed...)...)
	c.Compact(0)
	link.Heal()
	last := "missed 499"
	l.wait(t, topicSoon, "the last message", func() bool { return l.got[len(l.got)-1].Item == last })
	l.mu.Lock()
	if len(l.gaps) != 1 || l.gaps[0].after != 30 || l.gaps[0].From != at[29] || l.gaps[0].Replaced {
		t.Fatalf("gaps: %v", l.gaps)
	}
	// It goes on right after the gap, which ends where what is kept begins.
	to := slices.Index(all, l.gaps[0].To)
	if to < 30 || !slices.Equal(topicItems(l.got[30:]), missed[to+1-30:]) {
		t.Errorf("the gap ends with message %d, and then came %d messages, the first %q", to, len(l.got)-30, l.got[30].Item)
	}
	if kept := len(all) - to - 1; kept < 100 || kept > 100+4*25 {
		t.Errorf("%d messages are kept, want 100 and a few more", kept)
	}
	l.mu.Unlock()

	// Who remembers a position finds the same gap; who was at its end, or remembers none, finds none.
	for _, r := range []struct {
		after queue.Position
		gap   bool
		from  int
	}{{all[5], true, to + 1}, {all[to-1], true, to + 1}, {all[to], false, to + 1}, {all[to+1], false, to + 2}, {queue.Position{}, false, to + 1}} {
		again := listenTopic(t, near, r.after, nil)
		again.hears(t, missed[r.from-30:])
		again.mu.Lock()
		if gap := len(again.gaps) == 1 && again.gaps[0].From == r.after && again.gaps[0].To == all[to]; gap != r.gap || len(again.gaps) > 1 {
			t.Errorf("after %v: gaps %v, want one: %t", r.after, again.gaps, r.gap)
		}
		again.mu.Unlock()
		again.stop()
	}
}

// A subscriber that is live is not told of what is trimmed behind it.
func TestTrimmingBehindASubscriberIsNoGap(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	topic := topicOf(cli, topicName(t), &queue.TopicOptions[string]{KeepMessages: 20})
	l := listenTopic(t, topic, queue.Position{}, nil)
	var want []string
	for i := range 20 {
		items := topicNumbers(fmt.Sprint(i, " "), 0, 20)
		publishTopic(t, topic, items...)
		want = append(want, items...)
		l.hears(t, want)
		if i%7 == 0 { // it reads again
			calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
		}
	}
	l.noGaps(t)
	kept := listenTopic(t, topic, queue.Position{}, nil)
	kept.wait(t, topicSoon, "the last message", func() bool { n := len(kept.got); return n > 0 && kept.got[n-1].Item == want[len(want)-1] })
	if n := len(kept.got); n < 20 || n > 20+3*16 {
		t.Errorf("%d messages are kept, want 20 and a few more", n)
	}
}

func TestATopicKeepsMessagesForATime(t *testing.T) {
	t.Parallel()
	topic := topicOf(etcdtest.Client(t), topicName(t), &queue.TopicOptions[string]{KeepFor: 800 * time.Millisecond})
	publishTopic(t, topic, topicNumbers("old ", 0, 10)...)
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	etcdtest.Eventually(t, topicSoon, "the old messages are trimmed", func(ctx context.Context) error {
		<-tick.C
		publishTopic(t, topic, "new")
		for m, err := range topic.Subscribe(ctx, queue.Position{}) {
			if err == nil && m.Item != "new" {
				err = errors.New(m.Item)
			}
			return err
		}
		return ctx.Err()
	})
	if took := time.Since(began); took < 800*time.Millisecond || took > 2*time.Second {
		t.Errorf("after %v", took)
	}
}

// A restored backup takes back what was published after it, and may have given the same revisions anew, or skipped some.
func TestARestoredBackupIsAGapOfATopic(t *testing.T) {
	t.Parallel()
	for name, bumped := range map[string]int64{"plain": 0, "bumped": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			topic := topicOf(c.Client(), "t", nil)
			link := c.Link(0)
			l := listenTopic(t, topicOf(link.Client(), "t", nil), queue.Position{}, nil)
			kept := publishTopic(t, topic, "kept")
			l.hears(t, []string{"kept"})
			backup := c.Backup()
			lost := publishTopic(t, topic, "lost 1", "lost 2")
			l.hears(t, []string{"kept", "lost 1", "lost 2"})
			link.Cut()
			down := time.After(2100 * time.Millisecond) // no backup is restored in less
			if bumped > 0 {
				c.RestoreBumped(backup, bumped)
			} else {
				c.Restore(backup)
			}
			publishTopic(t, topic, "new 1", "new 2", "new 3", "new 4")
			<-down
			link.Heal()
			l.wait(t, 20*time.Second, "the last message", func() bool { return l.got[len(l.got)-1].Item == "new 4" })
			l.mu.Lock()
			if got := topicItems(l.got[3:]); !slices.Equal(got, []string{"kept", "new 1", "new 2", "new 3", "new 4"}) {
				t.Errorf("then came %q", got)
			}
			if len(l.gaps) != 1 || l.gaps[0].after != 3 || !l.gaps[0].Replaced || l.gaps[0].From != lost[1] || !l.gaps[0].To.IsZero() {
				t.Errorf("gaps: %v", l.gaps)
			}
			l.mu.Unlock()

			// Remembered positions of the past that was lost, and of the one that was not.
			for at, gaps := range map[queue.Position]int{kept[0]: 0, lost[0]: 1, lost[1]: 1} {
				again := listenTopic(t, topic, at, nil)
				again.wait(t, topicSoon, "the last message", func() bool { n := len(again.got); return n > 0 && again.got[n-1].Item == "new 4" })
				again.mu.Lock()
				if len(again.gaps) != gaps || gaps == 1 && (!again.gaps[0].Replaced || again.gaps[0].after != 0 || len(again.got) != 5) || gaps == 0 && len(again.got) != 4 {
					t.Errorf("after %v: gaps %v and %d messages", at, again.gaps, len(again.got))
				}
				again.mu.Unlock()
			}
		})
	}
}

// What the subscriber has had is in the backup: it is told that history was replaced all the same, and nothing comes twice.
func TestABackupThatHoldsAllThatASubscriberHasHadTakesNothingTwice(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	topic := topicOf(c.Client(), "t", nil)
	calls := &etcdtest.Calls{}
	now := make(chan struct{})
	close(now)
	heard := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Hold: now, Match: func(m any) bool {
		events := m.(*pb.WatchResponse).Events
		return len(events) > 0 && string(events[len(events)-1].Kv.Key) == "etcdkit/topic/t//log/x"
	}})
	l := listenTopic(t, topicOf(c.Link(0).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), "t", nil), queue.Position{}, nil)
	at := publishTopic(t, topic, "1", "2")
	l.hears(t, []string{"1", "2"})
	backup := c.Backup()
	etcdtest.Eventually(t, topicSoon, "it hears of revisions that are taken back, by what is no message", func(ctx context.Context) error {
		if _, err := c.Oracle(0).Put(ctx, "etcdkit/topic/t//log/x", ""); err != nil {
			return err
		}
		if heard.Hits() < 1 {
			return errors.New("not yet")
		}
		return nil
	})
	c.Restore(backup)
	l.wait(t, 20*time.Second, "it is told", func() bool { return len(l.gaps) == 1 })
	publishTopic(t, topic, "3")
	l.hears(t, []string{"1", "2", "3"})
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.gaps[0]; len(l.gaps) != 1 || !g.Replaced || g.From != at[1] || g.To != at[1] || g.after != 2 {
		t.Errorf("gaps: %v", l.gaps)
	}
}

// All that was there is deleted, by hand.
func TestADeletedTopicIsAGap(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	topic := topicOf(cli, topicName(t), &queue.TopicOptions[string]{KeepMessages: 1000})
	at := publishTopic(t, topic, topicNumbers("old ", 0, 300)...)
	if _, err := cli.Delete(t.Context(), queue.TopicRoot+topic.Name()+"//", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	publishTopic(t, topic, "new 1", "new 2")
	for _, from := range []queue.Position{at[3], at[299]} {
		l := listenTopic(t, topic, from, nil)
		l.hears(t, []string{"new 1", "new 2"})
		l.mu.Lock()
		if len(l.gaps) != 1 || !l.gaps[0].Replaced {
			t.Errorf("gaps: %v", l.gaps)
		}
		l.mu.Unlock()
	}
}

func TestATopicsSubscriptionEndsWithARefusalAndWithItsContext(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	topic := topicOf(cli, topicName(t), nil)
	calls.Inject(etcdtest.Fault{Call: "Txn", Err: rpctypes.ErrGRPCPermissionDenied})
	n := 0
	for _, err := range topic.Subscribe(t.Context(), queue.Position{}) {
		if n++; !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d messages of a topic that is not to be read", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for _, err := range topic.Subscribe(ctx, queue.Position{}) {
			ended <- err
		}
		close(ended)
	}()
	publishTopic(t, topic, "1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Between the answer to a subscriber's read and its arrival a message is published: it comes by the watch, and is not lost.
func TestWhatIsPublishedWhileASubscriberReadsIsNotMissed(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	near := topicOf(etcdtest.Client(t), topicName(t), nil)
	l := listenTopic(t, topicOf(cli, near.Name(), nil), queue.Position{}, nil)
	want := []string{"first"}
	publishTopic(t, near, want...)
	l.hears(t, want)
	for i := range 5 {
		release := make(chan struct{})
		read := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Hold: release})
		calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
		etcdtest.Done(t, topicSoon, "a read after an interruption", read.Hit())
		item := fmt.Sprint(i)
		publishTopic(t, near, item)
		want = append(want, item)
		seen := calls.Count(etcdtest.WatchResponse)
		calls.WaitCount(t, topicSoon, etcdtest.WatchResponse, seen+1) // an answer about progress comes after the message
		close(release)
		l.hears(t, want)
	}
	l.noGaps(t)
}
