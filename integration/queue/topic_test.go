package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// topicSoon is long enough for whatever should happen at once, on a busy machine.
const topicSoon = 10 * time.Second

// topicName is a topic of the test's own.
func topicName(t testing.TB) string { return strings.Trim(etcdtest.Prefix(t), "/") }

// topicListener is a subscriber that notes what it is told, until the test ends.
type topicListener struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex // guards all below
	got    []queue.Message[string]
	gaps   []topicGap
	bad    []*queue.DecodeError
	end    error
	called chan struct{} // closed and replaced at every message
}

// topicGap is a gap and after how many messages it came.
type topicGap struct {
	From, To queue.Position
	Replaced bool
	after    int
}

// listenTopic subscribes; each, if it is not nil, is called with each message before it is noted.
func listenTopic(t testing.TB, topic *queue.Topic[string], after queue.Position, each func(queue.Message[string])) *topicListener {
	ctx, cancel := context.WithCancel(t.Context())
	l := &topicListener{cancel: cancel, done: make(chan struct{}), called: make(chan struct{})}
	go func() {
		defer close(l.done)
		for m, err := range topic.Subscribe(ctx, after) {
			if each != nil {
				each(m)
			}
			l.note(m, err)
		}
	}()
	t.Cleanup(l.stop)
	return l
}

func (l *topicListener) stop() {
	l.cancel()
	<-l.done
}

func (l *topicListener) note(m queue.Message[string], err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gap *queue.GapError
	var bad *queue.DecodeError
	switch {
	case err == nil:
		l.got = append(l.got, m)
	case errors.As(err, &gap):
		l.gaps = append(l.gaps, topicGap{gap.From, gap.To, gap.Replaced, len(l.got)})
	case errors.As(err, &bad):
		l.bad = append(l.bad, bad)
	default:
		l.end = err
	}
	close(l.called)
	l.called = make(chan struct{})
}

// wait returns when ok holds, which is asked after every message and with the lock held.
func (l *topicListener) wait(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(within); ; {
		l.mu.Lock()
		done, called := ok(), l.called
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-called:
		case <-deadline:
			l.mu.Lock()
			state := fmt.Sprintf("%d messages, gaps %v, undecodable %v, %v", len(l.got), l.gaps, l.bad, l.end)
			l.mu.Unlock()
			t.Fatalf("%s: not so within %v; %s", what, within, state)
		}
	}
}

// hears waits until the last message is one, and fails the test unless those that came are exactly want.
func (l *topicListener) hears(t testing.TB, want []string) {
	t.Helper()
	l.wait(t, topicSoon, fmt.Sprintf("%d messages", len(want)), func() bool {
		return len(l.got) >= len(want) && (len(want) == 0 || l.got[len(l.got)-1].Item == want[len(want)-1])
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := topicItems(l.got); !slices.Equal(got, want) {
		t.Errorf("heard %d messages, want %d:\n%s", len(got), len(want), topicDifference(got, want))
	}
}

func (l *topicListener) noGaps(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gaps) > 0 {
		t.Errorf("gaps: %v", l.gaps)
	}
}

func topicItems(ms []queue.Message[string]) []string {
	items := make([]string, len(ms))
	for i, m := range ms {
		items[i] = m.Item
	}
	return items
}

func topicDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("the first that differ are number %d: got %.5q, want %.5q", i, got[i:min(len(got), i+5)], want[i:min(len(want), i+5)])
		}
	}
	return ""
}

// topicOf is a topic of short strings as they are.
func topicOf(cli *clientv3.Client, name string, opts *queue.TopicOptions[string]) *queue.Topic[string] {
	o := queue.TopicOptions[string]{}
	if opts != nil {
		o = *opts
	}
	if o.Codec == nil {
		o.Codec = codec.String()
	}
	return queue.NewTopic(cli, name, &o)
}

// publishTopic publishes messages, one by one, and returns their positions.
func publishTopic(t testing.TB, topic *queue.Topic[string], items ...string) []queue.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), topicSoon)
	defer cancel()
	at := make([]queue.Position, len(items))
	for i, item := range items {
		var err error
		if at[i], err = topic.Publish(ctx, item); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// topicNumbers are n messages.
func topicNumbers(prefix string, from, n int) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprint(prefix, from+i)
	}
	return items
}

// topicEnd is the position after all that was published.
func topicEnd(t testing.TB, topic *queue.Topic[string]) queue.Position {
	t.Helper()
	at, err := topic.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestATopicsSubscribersGetAllMessagesInOneOrder(t *testing.T) {
	t.Parallel()
	name := topicName(t)
	topic := topicOf(etcdtest.Client(t), name, nil)
	early := listenTopic(t, topic, topicEnd(t, topic), nil)
	var publishers sync.WaitGroup
	for p := range 4 {
		mine := topicOf(etcdtest.Client(t), name, nil)
		publishers.Go(func() {
			for i := range 100 {
				if _, err := mine.Publish(t.Context(), fmt.Sprintf("%d:%d", p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishers.Wait()
	many, err := topic.PublishMany(t.Context(), topicNumbers("many ", 0, 300))
	if err != nil || len(many) != 300 {
		t.Fatal(len(many), err)
	}
	early.wait(t, topicSoon, "700 messages", func() bool { return len(early.got) == 700 })
	early.noGaps(t)
	all := topicItems(early.got)
	if !slices.Equal(all[400:], topicNumbers("many ", 0, 300)) {
		t.Error("PublishMany's are not in their order")
	}
	next := map[string]int{}
	for _, item := range all[:400] {
		p, i, _ := strings.Cut(item, ":")
		if i != fmt.Sprint(next[p]) {
			t.Fatalf("publisher %s: message %s, want %d", p, i, next[p])
		}
		next[p]++
	}
	for i, m := range early.got[400:] {
		if m.Position != many[i] {
			t.Fatalf("message %d is at %v, and was published at %v", i, m.Position, many[i])
		}
	}
	// From the beginning, and from any position, by a subscriber that knows nothing else: the same ones.
	late := listenTopic(t, topicOf(etcdtest.Client(t), name, nil), queue.Position{}, nil)
	late.hears(t, all)
	late.noGaps(t)
	for _, i := range []int{0, 17, 255, 256, 399, 400, 519, 520, 698, 699} {
		text, err := early.got[i].Position.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var at queue.Position
		if err := at.UnmarshalText(text); err != nil || at != early.got[i].Position {
			t.Fatalf("%s is not the position %v: %v", text, early.got[i].Position, err)
		}
		again := listenTopic(t, topicOf(etcdtest.Client(t), name, nil), at, nil)
		again.hears(t, all[i+1:])
		again.noGaps(t)
		again.stop()
	}
}

func TestATopicFromNowOnTellsNothingOfBefore(t *testing.T) {
	t.Parallel()
	topic := topicOf(etcdtest.Client(t), topicName(t), nil)
	before := topicEnd(t, topic) // of a topic that there is not yet
	publishTopic(t, topic, "1", "2")
	from := topicEnd(t, topic)
	publishTopic(t, topic, "3")
	l, all := listenTopic(t, topic, from, nil), listenTopic(t, topic, before, nil)
	publishTopic(t, topic, "4")
	l.hears(t, []string{"3", "4"})
	all.hears(t, []string{"1", "2", "3", "4"})
	l.noGaps(t)
	all.noGaps(t)
}

func TestAMessageThatCannotBeDecodedIsReportedAndTheStreamGoesOn(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), topicName(t)
	texts, numbers := topicOf(cli, name, nil), queue.NewTopic[int](cli, name, nil)
	at := publishTopic(t, texts, "1", "secret", "3")
	ctx, cancel := context.WithTimeout(t.Context(), topicSoon)
	defer cancel()
	n := 0
	for m, err := range numbers.Subscribe(ctx, queue.Position{}) {
		var bad *queue.DecodeError
		switch {
		case m.Position != at[n] || time.Since(m.Published) > time.Minute || time.Since(m.Published) < 0:
			t.Errorf("message %d is %+v", n, m)
		case n == 1 && (!errors.As(err, &bad) || bad.Position != at[1] || string(m.Raw) != "secret" || m.Item != 0 || strings.Contains(err.Error(), "secret")):
			t.Errorf("%+v, %v", m, err)
		case n != 1 && (err != nil || m.Item != n+1):
			t.Errorf("%+v, %v", m, err)
		}
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestAMessageInTheCallersTransactionIsPublishedWithIt(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), topicName(t)
	topic := topicOf(cli, name, nil)
	l := listenTopic(t, topic, topicEnd(t, topic), nil)
	var want []string
	refused := 0
	for i := range 300 {
		item := fmt.Sprint(i)
		ops, cmps, err := topic.PublishOp(t.Context(), item)
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 { // others publish so much that the segment is closed
			flood := topicNumbers(item+" flood ", 0, 260)
			if _, err := topicOf(cli, name, nil).PublishMany(t.Context(), flood); err != nil {
				t.Fatal(err)
			}
			want = append(want, flood...)
		}
		resp, err := cli.Txn(t.Context()).If(cmps...).Then(append(ops, clientv3.OpPut(name+"/effect", item))...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := cli.Txn(t.Context()).If(cmps...).Then(ops...).Commit(); err != nil || again.Succeeded {
			t.Errorf("a second copy of the transaction: %v, %v", again, err)
		}
		if resp.Succeeded {
			want = append(want, item)
		} else {
			refused++
		}
	}
	if refused == 0 || refused > 3 {
		t.Errorf("%d transactions were refused, and 3 met a closed segment", refused)
	}
	l.hears(t, want)
	l.noGaps(t)
}

func TestBadInputToATopicIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	calls.Reset()
	for _, name := range []string{"", "a//b", "a/", "a/../b", "a\x00"} {
		topic := topicOf(cli, name, nil)
		if _, err := topic.Publish(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := topic.End(t.Context()); err == nil {
			t.Errorf("%q was taken", name)
		}
		n := 0
		for _, err := range topic.Subscribe(t.Context(), queue.Position{}) {
			if n++; err == nil {
				t.Errorf("%q was taken", name)
			}
		}
		if n != 1 {
			t.Errorf("%d messages of a topic without a name", n)
		}
	}
	topic := topicOf(cli, topicName(t), nil)
	if _, err := topic.PublishMany(t.Context(), []string{"1", strings.Repeat("x", queue.MaxMessage+1)}); !errors.Is(err, queue.ErrMessageTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, _, err := topic.PublishOp(t.Context(), strings.Repeat("x", queue.MaxMessage+1)); !errors.Is(err, queue.ErrMessageTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := topicOf(cli, "a", &queue.TopicOptions[string]{KeepFor: -1}).Publish(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "KeepFor") {
		t.Errorf("KeepFor: %v", err)
	}
	if n := calls.Sent(); n > 0 {
		t.Errorf("%d calls: %v", n, calls.Counts())
	}
	// The largest one passes.
	if at, err := topic.PublishMany(t.Context(), slices.Repeat([]string{strings.Repeat("x", queue.MaxMessage)}, 7)); err != nil || len(at) != 7 {
		t.Errorf("%d of the largest messages: %v", len(at), err)
	}
}

// So much may be under way when a segment is closed that it is longer than a page, and a transaction's messages lie across its end.
func TestASegmentOfATopicMayBeLongerThanAPage(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	topic := topicOf(cli, topicName(t), nil)
	ops, _, err := topic.PublishOp(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	segment := string(ops[0].KeyBytes())
	segment = segment[:strings.LastIndex(segment, "/")+1]
	var want []string
	for i := range 9 {
		ops = ops[:0]
		for n := range 100 {
			item := fmt.Sprint(i, " ", n)
			want = append(want, item)
			// Later transactions have lesser places.
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%013x-%03d", segment, 90-i, n), item))
		}
		if _, err := cli.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	l := listenTopic(t, topic, queue.Position{}, nil)
	l.hears(t, want)
	l.mu.Lock()
	half := l.got[450].Position
	l.mu.Unlock()
	listenTopic(t, topic, half, nil).hears(t, want[451:])
}
