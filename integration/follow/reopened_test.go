package follow_test

import (
	"context"
	"path"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// reopening is in the way when client/v3 opens a stream of two watches again. A question goes out between the two, when the first has
// caught up; and the answer comes after the word that the second is open, as etcd may send it.
type reopening struct {
	armed   chan struct{} // from then on
	opening chan struct{} // closed when the stream is about to be opened again
	written chan struct{} // which waits for this
	swapped chan struct{} // closed when the answer has come after that word
	once    sync.Once
}

// caughtUp is how long etcd takes for a watch to catch up: it looks after them every 100 ms.
const caughtUp = 250 * time.Millisecond

func (g *reopening) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	again := false
	if path.Base(method) == "Watch" {
		select {
		case <-g.armed:
			g.once.Do(func() { again = true })
		default:
		}
	}
	if !again {
		return open(ctx, desc, cc, method, opts...)
	}
	close(g.opening)
	select {
	case <-g.written:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := open(ctx, desc, cc, method, opts...)
	return &reopened{ClientStream: s, reopening: g, asked: make(chan time.Time, 100)}, err
}

// reopened is the stream that was opened again.
type reopened struct {
	grpc.ClientStream
	*reopening
	asked   chan time.Time // when questions were sent
	created int            // watches
	behind  []*pb.WatchResponse
}

func (s *reopened) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if m.(*pb.WatchRequest).GetProgressRequest() != nil {
		s.asked <- time.Now()
	}
	return err
}

func (s *reopened) RecvMsg(m any) error {
	resp := m.(*pb.WatchResponse)
	if s.created == 2 && len(s.behind) > 0 {
		*resp, s.behind = pb.WatchResponse{Header: s.behind[0].Header, WatchId: s.behind[0].WatchId}, s.behind[1:]
		if len(s.behind) == 0 {
			close(s.swapped)
		}
		return nil
	}
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		switch {
		case resp.Created:
			if s.created++; s.created == 1 {
				s.awaitQuestion(time.Now().Add(caughtUp))
			}
			return nil
		case s.created == 1 && resp.WatchId == -1: // an answer
			s.behind = append(s.behind, &pb.WatchResponse{Header: resp.Header, WatchId: resp.WatchId})
			*resp = pb.WatchResponse{}
		default:
			return nil
		}
	}
}

// awaitQuestion waits for one that is sent after a time.
func (s *reopened) awaitQuestion(after time.Time) {
	for {
		select {
		case at := <-s.asked:
			if at.After(after) {
				return
			}
		case <-s.Context().Done():
			return
		}
	}
}

// client/v3 connects anew without a word, and a question goes out when one watch is open and the other is not: its answer says nothing of
// the other, which is given it all the same.
func TestAnAnswerFromBeforeAllWatchesWereOpenAgainIsNotBelieved(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, oracle := c.Link(0), c.Oracle(0)
	g := &reopening{armed: make(chan struct{}), opening: make(chan struct{}), written: make(chan struct{}), swapped: make(chan struct{})}
	cli := link.Dial(clientv3.Config{DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(g.stream)}})
	j := &judge{whole: true, rule: equalPairs("a/", "b/")}
	j.attach(t, cli, follow.Prefixes("a/", "b/"))
	j.synced(t)
	pair(t, oracle, "a/1", "b/1", "1")
	proven(t, j, time.Now())
	close(g.armed)
	link.Drop()
	etcdtest.Done(t, soon, "the stream is opened again", g.opening)
	rev := pair(t, oracle, "a/1", "b/1", "2")
	close(g.written)
	began := time.Now()
	j.wait(t, soon, "the change", func() bool { return j.last.Revision >= rev })
	etcdtest.Done(t, soon, "an answer that came late", g.swapped)
	j.holdsAll(t, soon, oracle, "a/", "b/")
	proven(t, j, time.Now())
	t.Logf("proven %v after it was opened", time.Since(began))
	if n := j.count(isStale); n != 0 {
		t.Errorf("%d interruptions:\n%s", n, j.tail())
	}
}
