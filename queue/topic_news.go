package queue

import (
	"slices"
	"sync"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// Bounds of what is held for one subscriber that is busy. What is more is read again, when it asks for it.
const (
	mostNews  = 1024
	newsBytes = 1 << 20
)

// topicNews observes the tail of a topic for one subscriber: it holds what has come since the subscriber last read, or knows that not
// all of that is held.
type topicNews struct {
	wake chan struct{} // holds a token if something has come since the last take

	mu         sync.Mutex // guards all below
	behind     bool       // what there is has to be read
	messages   []*follow.Entry
	bytes      int
	told       bool  // there was a change
	generation int64 // of the newest change
}

// newTopicNews returns the news of a subscriber that has read nothing so far.
func newTopicNews() *topicNews { return &topicNews{wake: make(chan struct{}, 1), behind: true} }

// Changed takes in what the tail brings.
func (n *topicNews) Changed(c follow.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told, n.generation = true, c.Generation
	if c.Reset {
		n.drop()
	}
	for _, ev := range c.Events {
		if n.behind {
			break
		}
		if ev.New == nil {
			continue // trimmed
		}
		n.messages, n.bytes = append(n.messages, ev.New), n.bytes+len(ev.New.Value)
		if len(n.messages) > mostNews || n.bytes > newsBytes {
			n.drop()
		}
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Stale is told of an interruption. What was missed shows at its end.
func (n *topicNews) Stale(error) {}

// Live comes after a change, which says all.
func (n *topicNews) Live() {}

// drop lets go of what is held, as it is not all. The caller holds mu.
func (n *topicNews) drop() { n.behind, n.messages, n.bytes = true, nil, 0 }

// take returns what has come, in order, or that it has to be read.
func (n *topicNews) take() (messages []*follow.Entry, behind bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	messages, n.messages, n.bytes = n.messages, nil, 0
	// Revisions come in order; what one transaction has put comes as it was put.
	slices.SortStableFunc(messages, func(a, b *follow.Entry) int {
		return compareMessages(Position{0, a.ModRevision, string(a.Key)}, Position{0, b.ModRevision, string(b.Key)})
	})
	return messages, n.behind
}

// arm has everything held from now on, as all before is about to be read. It returns the tail's generation, if that is known.
func (n *topicNews) arm() (generation int64, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop()
	n.behind = false
	return n.generation, n.told
}
