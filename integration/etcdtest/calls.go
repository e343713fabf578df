package etcdtest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Names of the messages of etcd's streams, as [Calls] counts them and a [Fault] selects them. Everything else goes
// by the last part of its gRPC name: Range (clientv3's Get), RangeStream, Put, DeleteRange, Txn, Compact,
// LeaseGrant, LeaseRevoke, LeaseTimeToLive, Status, Authenticate ...; Watch and LeaseKeepAlive are the opening of
// such a stream.
const (
	WatchCreate     = "Watch.create"
	WatchCancel     = "Watch.cancel"
	WatchProgress   = "Watch.progress" // a request for a progress notification
	WatchResponse   = "Watch.response"
	KeepAliveSend   = "LeaseKeepAlive.send"
	KeepAliveAnswer = "LeaseKeepAlive.response"
)

// Calls sits inside a client, below clientv3's own retries: it counts every call and every message of a stream that
// would go over the wire, and makes chosen ones fail. The zero value is ready:
//
//	var calls etcdtest.Calls
//	cli := cluster.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
//
// One Calls may serve several clients, whose calls it then counts together. All methods are safe for concurrent
// use.
type Calls struct {
	mu      sync.Mutex // guards all
	counts  map[string]int
	armed   []*Armed
	changed chan struct{} // closed and replaced at every count; nil until somebody waits
}

// Fault says which calls fail, and how.
type Fault struct {
	// Call is the name of a call or a message, see [WatchCreate]. Empty means every unary call.
	Call string

	// Match, if set, selects among them by the request (for a message by the message, for the opening of a stream
	// by nil): a *pb.TxnRequest, say. It must not change it, and is called with a lock held: it must not use the
	// Calls.
	Match func(message any) bool

	// Skip lets the first calls that match pass. Then the next Times fail; 0 means one, a negative number all.
	Skip  int
	Times int

	// After lets the call reach the server and be carried out first: only its answer is lost. The server's own
	// error, if it has one, is lost too. For messages it means nothing: select the answer by its own name.
	After bool

	// Hold, if set, delays the call until Hold is closed or the call's context ends: before it is sent or, with
	// After, before its answer is seen. Without Silent and Err the call then goes on as if nothing had been.
	Hold <-chan struct{}

	// Silent makes the call wait for the end of its context instead of failing, as in a black hole. A silent
	// message is lost without a trace.
	Silent bool

	// Err is what the client sees: a gRPC status, or one of rpctypes.ErrGRPC.... A message with an Err ends its
	// stream. Default: Unavailable with the text of a connection that broke.
	Err error
}

// errBroken is what gRPC says of a call whose connection broke: it may have been carried out, or not.
var errBroken = status.Error(codes.Unavailable, "error reading from server: EOF (etcdtest)")

// Armed is a fault in place.
type Armed struct {
	calls *Calls
	fault Fault
	hit   chan struct{}

	// guarded by calls.mu
	seen int
	hits int
}

// DialOptions returns what to put into clientv3.Config.DialOptions.
func (c *Calls) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
	}
}

// Inject puts a fault in place. Of several that match a call the one injected first counts; it stays until it has
// hit its number of times or is removed.
func (c *Calls) Inject(f Fault) *Armed {
	a := &Armed{calls: c, fault: f, hit: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = append(c.armed, a)
	return a
}

// Hit is closed when the fault has hit for the first time: with After, once the call has been carried out; with
// Hold, before it waits.
func (a *Armed) Hit() <-chan struct{} { return a.hit }

// Hits returns how often the fault has hit so far.
func (a *Armed) Hits() int {
	a.calls.mu.Lock()
	defer a.calls.mu.Unlock()
	return a.hits
}

// Remove takes the fault away. Calls that it holds or keeps silent stay so.
func (a *Armed) Remove() {
	a.calls.mu.Lock()
	defer a.calls.mu.Unlock()
	a.calls.armed = slices.DeleteFunc(a.calls.armed, func(b *Armed) bool { return a == b })
}

// Count returns how many calls, stream openings or messages of that name there have been. A call counts when it is
// about to be sent, so that one which a fault keeps from the server counts too.
func (c *Calls) Count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

// Counts returns a copy of all counts by name.
func (c *Calls) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Sent returns how many calls, stream openings and messages to the server there have been.
func (c *Calls) Sent() int { return sent(c.Counts(), nil) }

// Reset sets every count to zero. Faults stay.
func (c *Calls) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts = nil
}

// WaitCount returns when [Calls.Count] of name is at least n, and fails the test if that is not so within the given
// time.
func (c *Calls) WaitCount(t testing.TB, within time.Duration, name string, n int) {
	t.Helper()
	deadline := time.After(within)
	for {
		counts, changed := c.watch()
		if counts[name] >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("etcdtest: %d of %d calls %s within %v; all: %v", counts[name], n, name, within, counts)
		case <-t.Context().Done():
			t.Fatalf("etcdtest: waiting for %d calls %s: %v", n, name, context.Cause(t.Context()))
		}
	}
}

// Quiet fails the test if anything but the names excepted is sent to the server during the given time: this is how
// "no change, no RPC" is tested. Answers are not looked at.
func (c *Calls) Quiet(t testing.TB, during time.Duration, except ...string) {
	t.Helper()
	end := time.After(during)
	before, changed := c.watch()
	for {
		select {
		case <-changed:
			var now map[string]int
			now, changed = c.watch()
			if sent(now, except) != sent(before, except) {
				t.Fatalf("etcdtest: not quiet for %v: calls before %v, now %v", during, before, now)
			}
		case <-end:
			return
		case <-t.Context().Done():
			t.Fatalf("etcdtest: waiting for quiet: %v", context.Cause(t.Context()))
		}
	}
}

func sent(counts map[string]int, except []string) int {
	n := 0
	for name, count := range counts {
		if !strings.HasSuffix(name, ".response") && !slices.Contains(except, name) {
			n += count
		}
	}
	return n
}

// watch returns the counts and what is closed when they change.
func (c *Calls) watch() (map[string]int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return maps.Clone(c.counts), c.changed
}

// see counts a call and returns the fault that it meets, or nil.
func (c *Calls) see(name string, unary bool, message any) *Armed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[name]++
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	for i, a := range c.armed {
		f := &a.fault
		if f.Call != name && (f.Call != "" || !unary) || f.Match != nil && !f.Match(message) {
			continue
		}
		a.seen++
		if a.seen <= f.Skip {
			continue
		}
		if f.Times >= 0 && a.seen >= f.Skip+max(1, f.Times) {
			c.armed = slices.Delete(c.armed, i, i+1)
		}
		return a
	}
	return nil
}

// strike does what the fault says, and returns whether the call goes on as if nothing had been.
func (a *Armed) strike(ctx context.Context, message bool) (on bool, err error) {
	a.calls.mu.Lock()
	a.hits++
	if a.hits == 1 {
		close(a.hit)
	}
	a.calls.mu.Unlock()
	f := a.fault
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-ctx.Done():
			return false, status.FromContextError(ctx.Err()).Err()
		}
	}
	switch {
	case f.Silent && message:
		return false, nil
	case f.Silent:
		<-ctx.Done()
		return false, status.FromContextError(ctx.Err()).Err()
	case f.Err != nil:
		return false, f.Err
	case f.Hold != nil:
		return true, nil
	default:
		return false, errBroken
	}
}

func (c *Calls) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	a := c.see(path.Base(method), true, req)
	if a == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	if !a.fault.After {
		if on, err := a.strike(ctx, false); !on {
			return err
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	answer := invoke(ctx, method, req, reply, cc, opts...)
	if on, err := a.strike(ctx, false); !on {
		return err
	}
	return answer
}

func (c *Calls) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	name := path.Base(method)
	if a := c.see(name, false, nil); a != nil {
		if on, err := a.strike(ctx, false); !on {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &callsStream{ClientStream: s, calls: c, name: name, cancel: cancel}, nil
}

// callsStream is one open stream.
type callsStream struct {
	grpc.ClientStream
	calls  *Calls
	name   string
	cancel context.CancelFunc

	mu     sync.Mutex // guards broken
	broken error      // what a fault ended the stream with
}

func (s *callsStream) SendMsg(m any) error {
	if a := s.calls.see(s.name+"."+kind(m), false, m); a != nil {
		if on, err := a.strike(s.Context(), true); !on {
			if err == nil {
				return nil // lost
			}
			s.end(err)
			return io.EOF // gRPC's way to say: RecvMsg knows why
		}
	}
	return s.ClientStream.SendMsg(m)
}

func (s *callsStream) RecvMsg(m any) error {
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			s.cancel()
			return s.reason(err)
		}
		a := s.calls.see(s.name+".response", false, m)
		if a == nil {
			return nil
		}
		on, err := a.strike(s.Context(), true)
		if on {
			return nil
		}
		if err != nil {
			// At once: what has come already is not seen any more, as on a stream that breaks.
			s.end(err)
			return s.reason(err)
		}
		// A lost answer must not mix with the next, nor be seen.
		if r, ok := m.(interface{ Reset() }); ok {
			r.Reset()
		}
	}
}

// reason returns what a fault ended the stream with, or else err.
func (s *callsStream) reason(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	return err
}

// end makes the stream fail with err.
func (s *callsStream) end(err error) {
	s.mu.Lock()
	if s.broken == nil {
		s.broken = err
	}
	s.mu.Unlock()
	s.cancel()
}

// kind names a message that is sent on a stream.
func kind(m any) string {
	w, ok := m.(*pb.WatchRequest)
	if !ok {
		return "send"
	}
	switch w.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		return "create"
	case *pb.WatchRequest_CancelRequest:
		return "cancel"
	case *pb.WatchRequest_ProgressRequest:
		return "progress"
	default:
		return fmt.Sprintf("%T", w.GetRequestUnion())
	}
}
