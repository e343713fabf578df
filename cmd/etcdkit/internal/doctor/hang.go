package doctor

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

// stand is a proxy in this process that stands for an endpoint, until it hangs: then connections stay open, new ones are accepted, and
// nothing comes of what is sent. So does a member that is frozen, or behind a firewall that drops packets. The member itself notices that
// a client has gone quiet, and nothing else.
type stand struct {
	of       string // the endpoint
	listener net.Listener
	hanging  chan struct{}

	swallowed atomic.Int64 // bytes that clients have sent since it hangs
	passed    atomic.Int64 // bytes that have passed before

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex // guards what is below
	conns map[net.Conn]struct{}
	over  bool
}

// standFor opens one on a port of this machine. Close it.
func standFor(endpoint string) (*stand, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("a proxy on this machine: %w", err)
	}
	s := &stand{of: endpoint, listener: l, hanging: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	s.life, s.end = context.WithCancel(context.Background())
	s.work.Go(s.accept)
	return s, nil
}

// endpoint is what clients dial, with the scheme of the one it stands for.
func (s *stand) endpoint() string {
	scheme, _, found := strings.Cut(s.of, "://")
	switch {
	case !found:
		return s.listener.Addr().String()
	case strings.HasSuffix(scheme, "s"): // https, unixs
		return "https://" + s.listener.Addr().String()
	}
	return "http://" + s.listener.Addr().String()
}

// hang has nothing pass from now on.
func (s *stand) hang() { close(s.hanging) }

// hangs reports whether hang was called.
func (s *stand) hangs() bool {
	select {
	case <-s.hanging:
		return true
	default:
		return false
	}
}

// close ends all connections.
func (s *stand) close() {
	s.end()
	_ = s.listener.Close()
	s.mu.Lock()
	s.over = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// keep has close close a connection; it reports false if it has done so already.
func (s *stand) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		_ = c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *stand) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		if s.keep(c) {
			s.work.Go(func() { s.serve(c) })
		}
	}
}

// serve passes on what two sides say, until one ends or it hangs.
func (s *stand) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if s.hangs() {
		s.swallow(client)
		return
	}
	member, err := dial(s.life, s.of)
	if err != nil || !s.keep(member) {
		return
	}
	defer func() { _ = member.Close() }()
	var answers sync.WaitGroup
	answers.Go(func() {
		s.pass(client, member, new(atomic.Int64))
		if !s.hangs() {
			_ = client.Close()
		}
	})
	s.pass(member, client, &s.swallowed)
	if s.hangs() {
		s.swallow(client)
	}
	_ = member.Close()
	answers.Wait()
}

// pass copies until an end, or until it hangs; what it has read by then counts as swallowed.
func (s *stand) pass(to, from net.Conn, swallowed *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if s.hangs() {
			swallowed.Add(int64(n))
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
		s.passed.Add(int64(n))
	}
}

// swallow reads what a client sends, and says nothing.
func (s *stand) swallow(client net.Conn) {
	_, _ = io.Copy(swallower{s}, client) // ends with the connection
}

type swallower struct{ *stand }

func (s swallower) Write(b []byte) (int, error) {
	s.swallowed.Add(int64(len(b)))
	return len(b), nil
}
