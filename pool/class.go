package pool

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

var _ grpc.ClientConnInterface = (*class)(nil)

// class is what one kind of traffic goes through. The client that is handed out has clientv3's own KV, Lease and Watcher, and
// they are built on a class instead of a connection: so the connection can be replaced under their hands, and what clientv3
// does when a connection breaks (a watch goes on after the last event it saw) is all that anybody notices.
type class struct {
	name   string
	health *health // learns from the streams

	mu      sync.Mutex // guards what is below
	current *conn      // nil before the first and once closed
	closed  bool
}

// acquire begins a call through the connection of now.
func (cl *class) acquire() (*conn, error) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.current == nil || !cl.current.acquire() {
		return nil, ErrClosed
	}
	return cl.current, nil
}

// replace has new calls go through next, and returns the connection of before, retired; or next, if the class is closed.
func (cl *class) replace(next *conn) *conn {
	cl.mu.Lock()
	before := next
	if !cl.closed {
		before, cl.current = cl.current, next
	}
	cl.mu.Unlock()
	if before != nil {
		before.retire()
	}
	return before
}

// close lets no call begin any more, and returns the last connection, retired; nil if there was none.
func (cl *class) close() *conn {
	cl.mu.Lock()
	last := cl.current
	cl.current, cl.closed = nil, true
	cl.mu.Unlock()
	if last != nil {
		last.retire()
	}
	return last
}

// get is the connection of now; nil once closed.
func (cl *class) get() *conn {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.current
}

// Invoke makes a call.
func (cl *class) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c, err := cl.acquire()
	if err != nil {
		return err
	}
	defer c.release()
	return c.client.ActiveConnection().Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream.
func (cl *class) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c, err := cl.acquire()
	if err != nil {
		return nil, err
	}
	leaving, cancel := context.WithCancel(ctx)
	inner, err := c.client.ActiveConnection().NewStream(leaving, desc, method, opts...)
	if err != nil {
		cancel()
		c.release()
		return nil, err
	}
	s := &stream{ClientStream: inner, cancel: cancel, lasting: desc.ClientStreams}
	if from, ok := peer.FromContext(inner.Context()); ok {
		s.address = from.Addr.String()
		s.patience = cl.health.patience(s.address)
	}
	c.mu.Lock()
	c.streams[s] = struct{}{}
	if c.retired {
		s.leave()
	}
	c.mu.Unlock()
	if cl.health.isOut(s.address) { // since a moment ago: what it is that has the streams there left has not seen this one
		s.leave()
	}
	context.AfterFunc(inner.Context(), func() {
		cancel()
		s.patience.end()
		c.mu.Lock()
		delete(c.streams, s)
		c.mu.Unlock()
		c.release()
	})
	return s, nil
}
