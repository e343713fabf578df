package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is one that can be left: clientv3 then opens another, as after a broken connection.
type stream struct {
	grpc.ClientStream
	cancel  context.CancelFunc
	address string // of the member it goes to; empty if that is not known
	lasting bool   // it goes on for ever, so clientv3 knows how to open it again: a watch, or a keepalive
	left    atomic.Bool

	patience *patience // with the member; nil if that is not known
}

// errLeft is what clientv3 sees of a stream that was left: a broken connection.
var errLeft = status.Error(codes.Unavailable, "pool: the stream is opened again through another connection")

// leave has the stream opened anew, if that does no harm.
func (s *stream) leave() {
	if s.lasting && !s.left.Swap(true) {
		s.cancel()
	}
}

// SendMsg sends a request.
func (s *stream) SendMsg(m any) error {
	if s.left.Load() {
		return errLeft
	}
	s.patience.begin()
	return s.ClientStream.SendMsg(m)
}

// RecvMsg receives an answer.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if s.left.Load() {
		return errLeft
	}
	if err == nil {
		s.patience.answered()
	}
	return err
}

// patience is how long a stream's requests have been without an answer: a renewal, the opening of a watch, the question how far
// a watch has got. A process that only renews and watches learns by it that a member is frozen. An answer to any of them
// counts for all, for answers carry no number, and a member that is frozen sends none.
type patience struct {
	health  *health
	address string
	open    atomic.Bool // a request is without an answer

	mu    sync.Mutex // guards what is below
	over  bool
	timer *time.Timer // nil while no request is open
}

// begin notes that a request is sent.
func (p *patience) begin() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil && !p.over {
		p.open.Store(true)
		p.timer = time.AfterFunc(p.health.least, p.exhausted)
	}
}

// exhausted has the members asked whether they are there. The next request has its own time.
func (p *patience) exhausted() {
	p.mu.Lock()
	asks := p.timer != nil
	p.timer = nil
	p.mu.Unlock()
	if asks {
		p.health.suspect()
	}
}

// answered notes that the member has said something. Most of what it says nobody has waited for: that costs one load.
func (p *patience) answered() {
	if p == nil || !p.open.Load() {
		return
	}
	p.stop(false)
	p.health.heardFrom(p.address)
}

// end is the end of the stream.
func (p *patience) end() {
	if p != nil {
		p.stop(true)
	}
}

func (p *patience) stop(over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open.Store(false)
	p.over = p.over || over
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}
