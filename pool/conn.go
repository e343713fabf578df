package pool

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// conn is a client of its own: one connection to each member, which requests take in turn. It is replaced as a whole, and
// closed when the last call through it has ended.
type conn struct {
	client *clientv3.Client
	until  time.Time // when it is too old; zero for never

	mu      sync.Mutex // guards what is below
	calls   int        // in flight
	used    time.Time  // when the last one ended
	streams map[*stream]struct{}
	retired bool
	drained chan struct{} // closed when it is retired and nothing is in flight
}

func newConn(client *clientv3.Client, until time.Time) *conn {
	return &conn{client: client, until: until, used: time.Now(), streams: map[*stream]struct{}{}, drained: make(chan struct{})}
}

// acquire begins a call, unless the connection is retired.
func (c *conn) acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return false
	}
	c.calls++
	return true
}

// release ends a call.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls--
	c.used = time.Now()
	if c.retired && c.calls == 0 {
		close(c.drained)
	}
}

// busy is how many calls are in flight, and since when there are none.
func (c *conn) busy() (calls int, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.used
}

// retire lets no call begin any more, and has the streams that go on for ever opened elsewhere by clientv3.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return
	}
	c.retired = true
	for s := range c.streams {
		s.leave()
	}
	if c.calls == 0 {
		close(c.drained)
	}
}

// leaveEndpoint has the streams to one endpoint that go on for ever opened elsewhere.
func (c *conn) leaveEndpoint(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		if s.address == address {
			s.leave()
		}
	}
}

// close closes a retired connection when its calls have ended, or ctx has.
func (c *conn) close(ctx context.Context) error {
	select {
	case <-c.drained:
	case <-ctx.Done():
	}
	err := c.client.Close()
	if errors.Is(err, context.Canceled) { // what clientv3 says of its own context
		err = nil
	}
	<-c.drained // every call on a closed connection ends at once
	return err
}

// discard closes a connection that nobody has called through.
func (c *conn) discard() {
	c.retire()
	_ = c.close(context.Background()) // nothing is in flight, and what clientv3 says of closing is of no use to anybody
}

// ready waits until there is a connection to a member.
func (c *conn) ready(ctx context.Context) error {
	cc := c.client.ActiveConnection()
	for {
		state := cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			cc.Connect()
		case connectivity.Connecting, connectivity.TransientFailure, connectivity.Shutdown:
		}
		if !cc.WaitForStateChange(ctx, state) {
			return context.Cause(ctx)
		}
	}
}
