package queue

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdkit/etcdkit/internal/follow"
)

const topicStem = "0005f3c2a1b40-0123abcd"

func TestAPositionSurvivesBeingWrittenDown(t *testing.T) {
	for _, p := range []Position{{}, {1, 7, ""}, {1, 7, topicStem}, {1 << 40, 1 << 62, topicStem}} {
		text, err := json.Marshal(map[string]Position{"at": p})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]Position
		if err := json.Unmarshal(text, &got); err != nil || got["at"] != p {
			t.Errorf("%s became %v: %v", text, got, err)
		}
	}
}

func TestWhatIsNoPositionIsRefused(t *testing.T) {
	for _, text := range []string{
		"0", "1", "1.", "1.0", "0.1", "-1.1", "1.-1", "01.1", "1.1.", "1.1.x", "1.1." + topicStem + ".", "1.1.." + topicStem, "x.1", "1.x",
		" 1.1", "1.1 ", "1.99999999999999999999", "1.1." + topicStem + "/", "1.1." + topicStem[1:],
	} {
		if p, err := ParsePosition(text); err == nil || !p.IsZero() {
			t.Errorf("%q is %v", text, p)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1.7." + topicStem)
	f.Add("1.7")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePosition(text); err == nil && p.String() != text {
			t.Errorf("%q is written %q", text, p)
		}
	})
}

// A position after a message has those of the same transaction with a later place behind it; one after a moment has none of that moment's.
func TestWhatIsAfterAPosition(t *testing.T) {
	message := func(revision int64, n int) Position { return Position{1, revision, fmt.Sprintf("%013x-a", n)} }
	for _, c := range []struct {
		at, message Position
		after       bool
	}{
		{Position{}, message(1, 1), true},
		{message(5, 2), message(5, 1), false},
		{message(5, 2), message(5, 2), false},
		{message(5, 2), message(5, 3), true},
		{message(5, 2), message(6, 1), true},
		{message(5, 2), message(4, 3), false},
		{Position{1, 5, ""}, message(5, 3), false},
		{Position{1, 5, ""}, message(6, 3), true},
	} {
		if got := c.at.before(c.message); got != c.after {
			t.Errorf("%v is after %v: %t", c.message, c.at, got)
		}
	}
}

func TestOnlyKeysOfMessagesAreTakenForMessages(t *testing.T) {
	l := topicLayoutOf("a/b")
	key := l.message(27, topicStem)
	if want := "etcdkit/topic/a/b//log/00000000001b/" + topicStem; key != want {
		t.Errorf("%s, want %s", key, want)
	}
	at, ok := l.parse(&mvccpb.KeyValue{Key: []byte(key), ModRevision: 9})
	if !ok || at != (Position{27, 9, topicStem}) {
		t.Errorf("%v, %t", at, ok)
	}
	for _, key := range []string{
		l.messages(), l.messages() + topicStem, l.segment(1), l.segment(1) + "x", l.segment(0) + topicStem, l.segment(1) + topicStem + "/x",
		l.messages() + "1/" + topicStem, l.messages() + "00000000000g/" + topicStem, l.current(), l.segment(1) + topicStem[:14],
		l.messages() + "-0000000001b/" + topicStem,
	} {
		if at, ok := l.parse(&mvccpb.KeyValue{Key: []byte(key), ModRevision: 9}); ok {
			t.Errorf("%s is %v", key, at)
		}
	}
}

func TestMessagesAreParted(t *testing.T) {
	size := func(n int) topicPut { return topicPut{value: strings.Repeat("x", n)} }
	for what, c := range map[string]struct {
		puts []topicPut
		want int
	}{
		"one":        {[]topicPut{size(0)}, 1},
		"many":       {slices.Repeat([]topicPut{size(1)}, 500), perPublish},
		"large ones": {slices.Repeat([]topicPut{size(MaxMessage)}, 20), publishBytes / MaxMessage},
		"all":        {slices.Repeat([]topicPut{size(1)}, perPublish), perPublish},
	} {
		if got := fittingMessages(c.puts); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

func topicEvents(revision int64, size int, places ...int) []follow.Event {
	events := make([]follow.Event, len(places))
	for i, p := range places {
		kv := &follow.Entry{
			Key: fmt.Appendf(nil, "log/%013x-a", p), ModRevision: revision, Value: make([]byte, size),
		}
		events[i] = follow.Event{Key: string(kv.Key), New: kv, Revision: revision}
	}
	return events
}

func TestNewsAreHeldInOrderUntilTheyAreTaken(t *testing.T) {
	n := newTopicNews()
	if held, behind := n.take(); len(held) != 0 || !behind {
		t.Error("a new subscriber has nothing to read")
	}
	n.Changed(follow.Change{Events: topicEvents(2, 1, 1)}) // the read will see it
	if _, known := n.arm(); !known {
		t.Error("the generation is not known")
	}
	gone := follow.Event{Key: "log/x", Revision: 4}
	n.Changed(follow.Change{Events: append(topicEvents(3, 1, 7, 5, 6), gone)})
	n.Changed(follow.Change{Events: topicEvents(5, 1, 1)})
	held, behind := n.take()
	var got []string
	for _, kv := range held {
		got = append(got, fmt.Sprintf("%d %s", kv.ModRevision, kv.Key[len(kv.Key)-3:]))
	}
	if want := []string{"3 5-a", "3 6-a", "3 7-a", "5 1-a"}; !slices.Equal(got, want) || behind {
		t.Errorf("%v, behind: %t", got, behind)
	}
	n.Changed(follow.Change{Events: topicEvents(6, 1, 1)})
	n.Changed(follow.Change{Reset: true, Revision: 9, Generation: 3})
	n.Changed(follow.Change{Events: topicEvents(10, 1, 1), Generation: 3})
	if held, behind := n.take(); len(held) != 0 || !behind {
		t.Errorf("after a reset %d are held, behind: %t", len(held), behind)
	}
	if generation, known := n.arm(); generation != 3 || !known {
		t.Errorf("generation %d", generation)
	}
}

func TestNewsThatAreTooManyAreReadAgain(t *testing.T) {
	for what, size := range map[string]int{"many": 1, "large": 100 << 10} {
		n := newTopicNews()
		n.arm()
		most := 0
		for i := range 2 * mostNews {
			n.Changed(follow.Change{Events: topicEvents(int64(i), size, i)})
			if len(n.messages) > mostNews || n.bytes > newsBytes {
				t.Fatalf("%s: %d messages of %d bytes are held", what, len(n.messages), n.bytes)
			}
			most = max(most, len(n.messages))
		}
		if held, behind := n.take(); len(held) != 0 || !behind || most < 5 {
			t.Errorf("%s: %d are held, behind: %t, and were %d", what, len(held), behind, most)
		}
	}
}

func TestRecordsOfATopicThatAreMalformedAreSaidToBe(t *testing.T) {
	kvs := func(value string) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{{Value: []byte(value), ModRevision: 3}}
	}
	for _, value := range []string{"", "{", "{}", `{"segment":0}`, `{"segment":-1}`, `{"segment":"1"}`} {
		if s, err := parseSegment(kvs(value)); err == nil {
			t.Errorf("segment %s: %v", value, s)
		}
		if f, err := parseFloor(kvs(value)); err == nil && value != "{}" {
			t.Errorf("floor %s: %v", value, f)
		}
	}
	if s, err := parseSegment(kvs(recordOf(topicSegment{Number: 2, Before: 7}))); err != nil || s.Number != 2 || s.Before != 7 || s.revision != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if f, err := parseFloor(kvs(recordOf(topicFloor{Segment: 2, Of: 1, Revision: 5, Place: topicStem}))); err != nil || f.last() != (Position{1, 5, topicStem}) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := parseFloor(kvs(`{"segment":2,"of":2}`)); err == nil {
		t.Error("a floor within what is kept passed")
	}
}
