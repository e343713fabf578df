package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// End returns the position after all messages that were published before it was called: to subscribe from now on.
func (t *Topic[T]) End(ctx context.Context) (Position, error) {
	if t.invalid != nil {
		return Position{}, t.invalid
	}
	resp, err := call.Do(ctx, t.client, "read the end", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(clientv3.OpGet(t.keys.current()), clientv3.OpGet(t.keys.floor())).Commit()
	})
	if err != nil {
		return Position{}, fmt.Errorf("topic %q: %w", t.name, err)
	}
	var p topicPage
	if err := p.parse(resp); err != nil {
		return Position{}, fmt.Errorf("topic %q: %w", t.name, err)
	}
	return Position{p.head(), p.revision, ""}, nil
}

// Subscribe yields the messages after a position, in order and each once, those to come included: after the zero Position all that are
// kept, after [Topic.End] those from then on, after a message's Position, in this process or another, those after it.
//
// Two kinds of errors are part of the stream, which goes on after them: a *[GapError] says that messages are missing, and a
// *[DecodeError] comes with a message whose Item is not set. Any other error, as etcd's refusal, ends it. It goes on however long etcd is
// away, and ends when ctx does, or the loop.
//
// The loop's body may take its time: what comes meanwhile waits in etcd.
func (t *Topic[T]) Subscribe(ctx context.Context, after Position) iter.Seq2[Message[T], error] {
	return func(yield func(Message[T], error) bool) {
		if t.invalid != nil {
			yield(Message[T]{}, t.invalid)
			return
		}
		s := subscription[T]{topic: t, at: after, yield: yield, news: newTopicNews()}
		s.tail = follow.Attach(t.client, follow.Prefix(t.keys.messages()).Tail().For(follow.Queue), s.news)
		defer s.tail.Close()
		if err := s.run(ctx); err != nil && !errors.Is(err, errEnough) && ctx.Err() == nil {
			yield(Message[T]{}, fmt.Errorf("topic %q: %w", t.name, err))
		}
	}
}

// errEnough says that nobody wants to hear more.
var errEnough = errors.New("queue: enough")

// subscription is one Subscribe under way.
//
// What is new comes by the tail, and what was missed, or did not fit, is read: the news are armed first, so that they hold all that the
// read does not see. So whatever happens, the subscription goes on from its position, and takes no message at or before it.
type subscription[T any] struct {
	topic *Topic[T]
	at    Position // of the last message that was yielded, or where to begin
	yield func(Message[T], error) bool
	news  *topicNews
	tail  *follow.Follower

	counted    bool // the generation is known
	generation int64
}

// run goes on until ctx ends, the loop does, or etcd refuses.
func (s *subscription[T]) run(ctx context.Context) error {
	for {
		messages, behind := s.news.take()
		for _, kv := range messages {
			if err := s.deliver(ctx, kv); err != nil {
				return err
			}
		}
		switch {
		case behind:
			if err := s.catchUp(ctx); err != nil {
				return err
			}
		case len(messages) == 0:
			select {
			case <-s.news.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// deliver yields a message, unless it is not after the position, or none of ours.
func (s *subscription[T]) deliver(ctx context.Context, kv *follow.Entry) error {
	at, ok := s.topic.keys.parse(kv)
	if !ok || !s.at.before(at) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.at = at
	m := Message[T]{Position: at, Raw: kv.Value, Published: place{stem: at.place}.at()}
	var err error
	if m.Item, err = s.topic.opts.Codec.Decode(kv.Value); err != nil {
		var none T
		m.Item, err = none, &DecodeError{Position: at, Err: err}
	}
	if !s.yield(m, err) {
		return errEnough
	}
	return nil
}

// report yields a gap, and goes on after to.
func (s *subscription[T]) report(ctx context.Context, to Position, replaced bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	gap := &GapError{From: s.at, To: to, Replaced: replaced}
	s.at = to
	if !s.yield(Message[T]{}, gap) {
		return errEnough
	}
	return nil
}

// catchUp reads from the position on, a page at a time, until all that etcd held at one moment after the call is yielded.
func (s *subscription[T]) catchUp(ctx context.Context) error {
	generation, known := s.news.arm()
	replaced := known && s.counted && generation != s.generation // before it was, and has not been said
	if known {
		s.counted, s.generation = true, generation
	}
	for segment := s.at.segment; ; {
		p, err := s.topic.read(ctx, segment, s.at)
		if err != nil {
			return err
		}
		s.tail.Heard(p.revision)
		floor := p.floor.last()
		switch {
		case s.at.IsZero():
			s.at, replaced = floor, false
		case s.at.before(floor):
			if err := s.report(ctx, floor, replaced); err != nil {
				return err
			}
			replaced = false
		case !p.holds(segment, s.at):
			if err := s.report(ctx, floor, true); err != nil {
				return err
			}
			replaced, segment = false, p.floor.Segment
			continue
		case replaced:
			// What it has had is in the history of now. What came after that may have been taken back.
			if err := s.report(ctx, s.at, true); err != nil {
				return err
			}
			replaced = false
		}
		if segment < p.floor.Segment {
			segment = p.floor.Segment
			continue
		}
		for _, kv := range p.messages {
			if err := s.deliver(ctx, kv); err != nil {
				return err
			}
		}
		switch {
		case p.more:
		case segment < p.head():
			segment++
		default:
			return nil
		}
	}
}
