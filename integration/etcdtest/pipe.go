package etcdtest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

const (
	chunkSize = 32 << 10
	// queueLen bounds what a pipe holds while it delays or blocks: a socket's send buffer, roughly. Then it stops
	// reading, and the sender comes to a halt as it does when no acknowledgement arrives.
	queueLen = 8
	// dialTimeout bounds how long a link waits for its member to accept, which a frozen process's kernel still
	// does.
	dialTimeout = 5 * time.Second
)

// conn is one client's connection through a link: two pipes.
type conn struct {
	link   *Link
	client *net.TCPConn
	done   chan struct{} // closed by reset

	mu      sync.Mutex // guards the rest
	ended   bool
	member  *net.TCPConn // nil until dialed
	forward *pipe        // nil until dialed
	back    *pipe        // nil until dialed
}

func newConn(l *Link, client *net.TCPConn) *conn {
	return &conn{link: l, client: client, done: make(chan struct{})}
}

// serve connects to the member and moves bytes until one side ends the connection.
func (c *conn) serve() {
	defer func() {
		c.reset()
		c.link.mu.Lock()
		delete(c.link.conns, c)
		c.link.mu.Unlock()
	}()
	// Connecting is a request too: it must not reach the member through a black hole.
	if !c.link.await(Requests, time.Time{}, c.done) {
		return
	}
	dialed, err := net.DialTimeout("tcp", c.link.target, dialTimeout)
	if err != nil {
		return
	}
	member := dialed.(*net.TCPConn)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		reset(member)
		return
	}
	c.member = member
	c.forward = newPipe(c, Requests, c.client, member)
	c.back = newPipe(c, Responses, member, c.client)
	c.mu.Unlock()

	var wg sync.WaitGroup
	for _, p := range c.pipes() {
		wg.Go(p.read)
		wg.Go(p.write)
	}
	wg.Wait()
}

// pipes returns the connection's pipes, none before the member is dialed. A black hole that misses them for that
// reason is seen by each before its first write.
func (c *conn) pipes() []*pipe {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forward == nil {
		return nil
	}
	return []*pipe{c.forward, c.back}
}

// reset ends both sides at once, with a TCP reset. It is idempotent.
func (c *conn) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.done)
	reset(c.client)
	if c.member != nil {
		reset(c.member)
	}
}

// reset closes a connection so that the other side sees a reset, not an orderly end.
func reset(c *net.TCPConn) {
	// On a connection that has already failed there is nothing left to reset.
	_ = c.SetLinger(0)
	_ = c.Close()
}

// pipe is one direction of a connection: a reader, a queue and a writer, so that a delayed chunk does not keep the
// next from being read and its own delay from starting.
type pipe struct {
	conn  *conn
	dir   Direction
	src   *net.TCPConn
	dst   *net.TCPConn
	queue chan chunk

	// gate is held by the writer during each Write, and by flush to know that no Write is going on.
	gate sync.Mutex
}

// chunk is what one Read returned. The last one of a pipe has no bytes.
type chunk struct {
	bytes []byte
	due   time.Time
}

func newPipe(c *conn, d Direction, src, dst *net.TCPConn) *pipe {
	return &pipe{conn: c, dir: d, src: src, dst: dst, queue: make(chan chunk, queueLen)}
}

// read queues what arrives, each chunk with the time at which it may leave.
func (p *pipe) read() {
	var last time.Time
	buf := make([]byte, chunkSize)
	for {
		n, err := p.src.Read(buf)
		due := p.conn.link.due(p.dir)
		if due.Before(last) {
			due = last // a shorter delay must not overtake
		}
		last = due
		if n > 0 && !p.enqueue(chunk{bytes.Clone(buf[:n]), due}) {
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				// A reset has no place in the order of things.
				if p.conn.link.await(p.dir, time.Time{}, p.conn.done) {
					p.conn.reset()
				}
				return
			}
			p.enqueue(chunk{nil, due})
			return
		}
	}
}

func (p *pipe) enqueue(c chunk) bool {
	select {
	case p.queue <- c:
		return true
	case <-p.conn.done:
		return false
	}
}

// write passes chunks on, each when it is due and the way is open.
func (p *pipe) write() {
	for {
		var c chunk
		select {
		case c = <-p.queue:
		case <-p.conn.done:
			return
		}
		last := len(c.bytes) == 0
		for passed := false; !passed; {
			if !p.conn.link.await(p.dir, c.due, p.conn.done) {
				return
			}
			var err error
			if passed, err = p.pass(&c); err != nil {
				p.conn.reset()
				return
			}
		}
		if last {
			return
		}
	}
}

// pass writes the chunk and reports whether all of it has passed: nothing does if the way was closed in between, a
// part if it was closed meanwhile. What is left stays in c.
func (p *pipe) pass(c *chunk) (all bool, err error) {
	p.gate.Lock()
	defer p.gate.Unlock()
	l := p.conn.link
	l.mu.Lock()
	closed := l.hole[p.dir]
	l.mu.Unlock()
	if closed {
		return false, nil
	}
	if len(c.bytes) == 0 {
		return true, p.dst.CloseWrite()
	}
	n, err := p.dst.Write(c.bytes)
	l.passed[p.dir].Add(int64(n))
	c.bytes = c.bytes[n:]
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil // flush wanted the gate
	}
	return true, err
}

// flush returns when no Write is going on that started before the way was closed.
func (p *pipe) flush() {
	// A connection that has failed has no Write either.
	_ = p.dst.SetWriteDeadline(time.Unix(1, 0))
	p.gate.Lock()
	defer p.gate.Unlock()
	_ = p.dst.SetWriteDeadline(time.Time{})
}

// due returns when a chunk that has just been read in direction d may leave.
func (l *Link) due(d Direction) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.delay[d]
	if r.max == 0 {
		return time.Time{}
	}
	return time.Now().Add(r.min + rand.N(r.max-r.min+1))
}

// await returns true once direction d is open and the time has come, and false when done is closed first. A chunk
// whose delay is taken back need not wait any more.
func (l *Link) await(d Direction, due time.Time, done <-chan struct{}) bool {
	for {
		l.mu.Lock()
		hole, delayed, changed := l.hole[d], l.delay[d].max > 0, l.changed
		l.mu.Unlock()
		var timer <-chan time.Time
		if !hole {
			wait := time.Until(due)
			if !delayed || due.IsZero() || wait <= 0 {
				return true
			}
			timer = time.After(wait)
		}
		select {
		case <-done:
			return false
		case <-changed:
		case <-timer:
		}
	}
}
