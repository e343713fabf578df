package pool

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/retry"
)

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 10 * time.Second

// member stands in for etcd where a test needs a hand on the pool's inside, which those against a real one have not. It answers
// what Open asks; holds puts until they are let go; and has a history of one key, an event a millisecond, to be watched.
type member struct {
	pb.UnimplementedAuthServer
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer

	endpoint string
	began    time.Time
	hold     chan struct{} // puts are answered once it is closed; nil: at once
	put      chan struct{} // gets one value for each put that has come
}

// newMember starts one that stops with the test.
func newMember(t *testing.T) *member {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{endpoint: "http://" + l.Addr().String(), began: time.Now(), put: make(chan struct{}, 1024)}
	s := grpc.NewServer()
	pb.RegisterAuthServer(s, m)
	pb.RegisterKVServer(s, m)
	pb.RegisterWatchServer(s, m)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Stop
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	return m
}

func (m *member) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: &pb.ResponseHeader{}}, nil
}

func (m *member) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	m.put <- struct{}{}
	if m.hold != nil {
		select {
		case <-m.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &pb.PutResponse{Header: &pb.ResponseHeader{}}, nil
}

// revision is how far the history reaches.
func (m *member) revision() int64 { return int64(time.Since(m.began)/time.Millisecond) + 2 }

// Watch serves one watch a stream, from any revision of the history.
func (m *member) Watch(s grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	req, err := s.Recv()
	if err != nil {
		return err
	}
	next := req.GetCreateRequest().StartRevision
	if next == 0 {
		next = m.revision() + 1
	}
	if err := s.Send(&pb.WatchResponse{Header: &pb.ResponseHeader{Revision: m.revision()}, Created: true}); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case <-tick.C:
		}
		resp := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: m.revision()}}
		for ; next <= resp.Header.Revision; next++ {
			resp.Events = append(resp.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: next, Version: next}})
		}
		if len(resp.Events) == 0 {
			continue
		}
		if err := s.Send(resp); err != nil {
			return err
		}
	}
}

// openTo opens a pool to members, which is closed when the test ends.
func openTo(t *testing.T, cfg Config, members ...*member) *Pool {
	t.Helper()
	for _, m := range members {
		cfg.Endpoints = append(cfg.Endpoints, m.endpoint)
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// receive waits for a value.
func receive[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(soon):
		t.Fatalf("%s: nothing within %v", what, soon)
	}
	return v
}

func TestConnectionsAreReplacedWithoutAnybodyNoticing(t *testing.T) {
	t.Parallel()
	const rounds = 15
	p := openTo(t, Config{MaxLifetime: -1, Retry: retry.Policy{AttemptTimeout: soon, ReadTimeout: soon}}, newMember(t), newMember(t))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		all  sync.WaitGroup
		puts int
	)
	all.Go(func() {
		for ctx.Err() == nil {
			if _, err := p.client.Put(t.Context(), "k", ""); err != nil {
				t.Errorf("put %d: %v", puts, err)
				return
			}
			puts++
		}
	})
	all.Go(func() {
		for ctx.Err() == nil {
			err := p.Do(t.Context(), func(ctx context.Context, c *clientv3.Client) error { _, err := c.Put(ctx, "k", ""); return err })
			if err != nil {
				t.Errorf("Do: %v", err)
				return
			}
		}
	})
	watch := p.client.Watch(t.Context(), "k", clientv3.WithRev(1))
	next := int64(1)
	seen := func() { // some more events
		t.Helper()
		resp := receive(t, "an event", watch)
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision != next {
				t.Fatalf("revision %d, want %d", ev.Kv.ModRevision, next)
			}
			next++
		}
	}
	seen()
	for range rounds {
		before := [...]*conn{p.unary.get(), p.lease.get(), p.watch.get()}
		if !p.replaceAll() {
			t.Fatal("not replaced")
		}
		for i, c := range [...]*conn{p.unary.get(), p.lease.get(), p.watch.get()} {
			if c == before[i] {
				t.Fatal("the same connection")
			}
			select {
			case <-before[i].client.Ctx().Done():
			case <-time.After(soon):
				t.Fatal("a replaced connection is not closed")
			}
		}
		for range 3 {
			seen()
		}
	}
	stop()
	all.Wait()
	if puts < rounds {
		t.Errorf("only %d puts", puts)
	}
}

func TestACallInFlightFinishesOnTheConnectionThatWasReplaced(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.hold = make(chan struct{})
	p := openTo(t, Config{Retry: retry.Policy{AttemptTimeout: soon, ReadTimeout: soon}}, m)
	done := make(chan error, 1)
	go func() { _, err := p.client.Put(t.Context(), "k", ""); done <- err }()
	receive(t, "the put", m.put)
	old := p.unary.get()
	if !p.replaceAll() {
		t.Fatal("not replaced")
	}
	if calls, _ := old.busy(); calls != 1 || old.client.Ctx().Err() != nil {
		t.Errorf("%d calls, closed: %v", calls, old.client.Ctx().Err())
	}
	close(m.hold)
	if err := receive(t, "the put's answer", done); err != nil {
		t.Error(err)
	}
	receive(t, "the end of the connection", old.client.Ctx().Done())
}

// It has until Close's context ends, as one on a connection of now has.
func TestCloseWaitsForACallOnAConnectionThatWasReplaced(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.hold = make(chan struct{})
	p := openTo(t, Config{Retry: retry.Policy{AttemptTimeout: soon, ReadTimeout: soon}}, m)
	done := make(chan error, 1)
	go func() { _, err := p.client.Put(t.Context(), "k", ""); done <- err }()
	receive(t, "the put", m.put)
	if !p.replaceAll() {
		t.Fatal("not replaced")
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close(context.Background()) }()
	receive(t, "the end of the pool's life", p.life.Done()) // the connections of now are closed
	select {
	case err := <-done:
		t.Errorf("the call was cut off: %v", err)
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(m.hold)
	if err := receive(t, "the put's answer", done); err != nil {
		t.Error(err)
	}
	if err := receive(t, "Close", closed); err != nil {
		t.Error(err)
	}
}

// The namespace of clientv3 may not be: for the race detector to see.
func TestAPoolWithANamespaceIsClosedWhileWatchesAreOpened(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	for range 20 {
		p := openTo(t, Config{Namespace: "n/"}, m)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					p.client.Watch(ctx, "k")
					cancel()
				}
			})
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
}

func TestTooOldConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	p := openTo(t, Config{MaxLifetime: time.Hour}, newMember(t))
	old := map[*class]*conn{}
	for _, cl := range []*class{&p.unary, &p.lease, &p.watch} {
		old[cl] = cl.get()
		if life := time.Until(old[cl].until); life > time.Hour || life < 45*time.Minute-soon {
			t.Errorf("one lives for %v", life)
		}
	}
	p.replaceOld()
	old[&p.lease].until = time.Now().Add(-time.Second)
	p.replaceOld()
	for cl, before := range old {
		if replaced := cl.get() != before; replaced != (cl == &p.lease) {
			t.Errorf("replaced: %t", replaced)
		}
	}
}

// The class is closed while its next connection is being made: that one must not be left behind.
func TestAConnectionThatComesAfterCloseIsClosed(t *testing.T) {
	t.Parallel()
	p := openTo(t, Config{}, newMember(t))
	next, err := p.connect()
	if err != nil {
		t.Fatal(err)
	}
	p.unary.close().discard()
	if got := p.unary.replace(next); got != next {
		t.Errorf("%p comes back, want %p", got, next)
	}
	if next.acquire() {
		t.Error("a call began on it")
	}
	next.discard()
	if err := p.unary.Invoke(t.Context(), "/none", nil, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestARetiredConnectionIsDrainedWhenItsLastCallEnds(t *testing.T) {
	t.Parallel()
	p := openTo(t, Config{}, newMember(t))
	c, err := p.connect()
	if err != nil {
		t.Fatal(err)
	}
	drained := func() bool {
		select {
		case <-c.drained:
			return true
		default:
			return false
		}
	}
	for range 2 {
		if !c.acquire() {
			t.Fatal("not acquired")
		}
	}
	c.release()
	c.retire()
	c.retire() // twice does no harm
	if c.acquire() {
		t.Error("a call began on a retired connection")
	}
	if calls, _ := c.busy(); calls != 1 || drained() {
		t.Errorf("%d calls, drained: %t", calls, drained())
	}
	c.release()
	if !drained() {
		t.Error("not drained")
	}
	if err := c.close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheDialerRemembersHowTheLastAttemptForAnAddressEnded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &dialer{failed: map[string]error{}}
	address := l.Addr().String()
	c, err := d.dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RemoteAddr(); got.String() != address || got.Network() != "tcp" {
		t.Errorf("%v over %s", got, got.Network())
	}
	_ = c.Close()
	if err := d.last(address); err != nil {
		t.Errorf("after success: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.dial(gone, address); err == nil {
		t.Error("dialled without time")
	}
	if err := d.last(address); !errors.Is(err, errUnanswered) {
		t.Errorf("after an attempt that was given up: %v", err)
	}
	d.begin("10.0.0.1:2379") // a first one, which has not ended
	if err := d.last("10.0.0.1:2379"); !errors.Is(err, errUnanswered) {
		t.Errorf("during the first attempt: %v", err)
	}
	d.note(address, net.ErrClosed)
	d.begin(address) // and what is known stays until more is
	if err := d.last(address); !errors.Is(err, net.ErrClosed) {
		t.Errorf("during the next attempt: %v", err)
	}

	path := t.TempDir() + "/s"
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, as := range []string{"unix://" + path, "unix:" + path} { // gRPC's way and clientv3's
		c, err := d.dial(t.Context(), as)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr(); got.String() != "unix:"+path || got.Network() != "unix" {
			t.Errorf("%v over %s", got, got.Network())
		}
		_ = c.Close()
	}
}
