package queue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// TopicRoot is the prefix of every topic's keys.
const TopicRoot = "etcdkit/topic/"

// topicLayout names the keys of one topic. docs/keys.md is the contract.
//
// Messages lie in segments, one of which is current. A message is put into it by a transaction that compares the key which says so: thus
// no message of a segment is older, by etcd's revisions, than one of the segment before. Within a segment the revisions order, and a
// segment is small enough to be read, or deleted, at once. So a position is found, pages are read and old messages go without a range that
// grows with the topic.
type topicLayout string

func topicLayoutOf(name string) topicLayout { return topicLayout(TopicRoot + name + "//") }

// messages is the prefix of all that subscribers watch, and of nothing else.
func (l topicLayout) messages() string { return string(l) + "log/" }

func (l topicLayout) segment(n int64) string           { return l.messages() + segmentName(n) + "/" }
func (l topicLayout) message(n int64, p string) string { return l.segment(n) + p }
func (l topicLayout) current() string                  { return string(l) + "current" }
func (l topicLayout) floor() string                    { return string(l) + "floor" }
func (l topicLayout) closed(n int64) string            { return string(l) + "closed/" + segmentName(n) }

// segmentDigits is how many hexadecimal digits the number of a segment has.
const segmentDigits = 12

func segmentName(n int64) string { return fmt.Sprintf("%0*x", segmentDigits, n) }

// parse reads the key of a message.
func (l topicLayout) parse(kv *mvccpb.KeyValue) (Position, bool) {
	local, ok := strings.CutPrefix(string(kv.Key), l.messages())
	segment, stem, found := strings.Cut(local, "/")
	if !ok || !found || len(segment) != segmentDigits || !isStem(stem) {
		return Position{}, false
	}
	n, err := strconv.ParseInt(segment, 16, 64)
	return Position{n, kv.ModRevision, stem}, err == nil && n > 0
}

// isStem reports whether s is what stemOf writes.
func isStem(s string) bool {
	clock, producer, ok := strings.Cut(s, "-")
	if !ok || len(clock) != clockDigits || producer == "" || strings.ContainsAny(producer, "/-.") {
		return false
	}
	_, err := strconv.ParseInt(clock, 16, 64)
	return err == nil
}

// topicSegment is the segment that messages go into.
type topicSegment struct {
	Number int64     `json:"segment"`
	Since  time.Time `json:"since"`            // when it was opened, by the opener's clock
	Before int64     `json:"before,omitempty"` // how many messages there were in all segments before it, at least

	revision int64 // ModRevision of the key
}

// topicClosed is a segment that gets no more messages.
type topicClosed struct {
	Total  int64     `json:"total"`  // how many messages there were in it and all before it, at least
	Closed time.Time `json:"closed"` // by the closer's clock
}

// topicFloor is what was trimmed.
type topicFloor struct {
	Segment  int64  `json:"segment"`      // the first that is kept
	Of       int64  `json:"of,omitempty"` // segment, revision and place of the newest message that was trimmed
	Revision int64  `json:"revision,omitempty"`
	Place    string `json:"place,omitempty"`

	revision int64 // ModRevision of the key
}

// last is the position of the newest message that was trimmed; the zero position if none was.
func (f topicFloor) last() Position { return Position{f.Of, f.Revision, f.Place} }

var errTopicRecord = errors.New("queue: a record of the topic in etcd is malformed")

// parseSegment reads the key that names the current segment, of which there is one at most.
func parseSegment(kvs []*mvccpb.KeyValue) (topicSegment, error) {
	var s topicSegment
	if len(kvs) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(kvs[0].Value, &s); err != nil || s.Number < 1 || s.Before < 0 {
		return topicSegment{}, errTopicRecord
	}
	s.revision = kvs[0].ModRevision
	return s, nil
}

// parseFloor reads the key that says what was trimmed.
func parseFloor(kvs []*mvccpb.KeyValue) (topicFloor, error) {
	f := topicFloor{Segment: 1}
	if len(kvs) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(kvs[0].Value, &f); err != nil || f.Segment < 1 || f.Of >= f.Segment {
		return topicFloor{}, errTopicRecord
	}
	f.revision = kvs[0].ModRevision
	return f, nil
}

// recordOf writes a record. Numbers, strings and times cannot fail.
func recordOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// compareMessages orders positions of messages: by revision and, as several of one transaction share it, by place.
func compareMessages(a, b Position) int {
	return cmp.Or(cmp.Compare(a.revision, b.revision), cmp.Compare(a.place, b.place))
}
