package etcdtest

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Direction is one way through a [Link].
type Direction int

const (
	// Both is both ways, and the default wherever a direction may be left out.
	Both Direction = iota
	// Requests is from the client to the member.
	Requests
	// Responses is from the member to the client.
	Responses
)

// has reports whether d covers one, which is Requests or Responses.
func (d Direction) has(one Direction) bool { return d == Both || d == one }

// Link is a network path to one member that can be made to fail: a TCP proxy on a port of its own. Every client
// that dials [Link.Endpoint] goes through it; give each client a link of its own to hurt it alone.
//
//	              Cut         Drop        Blackhole        Delay
//	connecting    refused     allowed     allowed          allowed
//	open ones     reset       reset       kept, silent     kept, slow
//	bytes         lost        lost        held until Heal  late, in order
//
// The switches act on open connections and on later ones, take effect before they return, and may be combined and
// called at any time from any goroutine, by name: Blackhole replaces an earlier Blackhole, not a Delay.
type Link struct {
	t      testing.TB
	target string // host:port
	addr   string // host:port
	ports  *portPool

	accepted atomic.Int64
	passed   [3]atomic.Int64 // bytes by Direction
	wg       sync.WaitGroup  // the acceptor and both pipes of every connection

	// mu guards the state of the switches and what they act on. Nothing blocks while it is held but closing
	// sockets.
	mu       sync.Mutex
	listener *net.TCPListener // nil while cut, and once closed
	cut      bool
	closed   bool
	hole     [3]bool       // by Direction, Both unused
	delay    [3]delayRange // by Direction, Both unused
	conns    map[*conn]struct{}
	changed  chan struct{} // closed and replaced at every change of cut, closed, hole or delay
}

type delayRange struct{ min, max time.Duration }

// Link opens a link to member i. It is closed when the test ends.
func (c *Cluster) Link(i int) *Link {
	c.t.Helper()
	return NewLink(c.t, c.Endpoint(i))
}

// Links opens one link to each member.
func (c *Cluster) Links() Links {
	c.t.Helper()
	links := make(Links, 0, c.Size())
	for i := range c.Size() {
		links = append(links, c.Link(i))
	}
	return links
}

// NewLink opens a link to any TCP endpoint, "http://host:port" or "host:port": to a member that runs as a process,
// for example. It is closed when the test ends.
func NewLink(t testing.TB, endpoint string) *Link {
	t.Helper()
	target := endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatalf("etcdtest: a link to %q: %v", endpoint, err)
		}
		target = u.Host
	}
	l := &Link{
		t: t, target: target, ports: &portPool{},
		conns: make(map[*conn]struct{}), changed: make(chan struct{}),
	}
	port, err := l.ports.take()
	if err != nil {
		t.Fatal(err)
	}
	l.addr = loopback(port)
	if err := l.listen(); err != nil {
		t.Fatalf("etcdtest: a link to %q: %v", endpoint, errors.Join(err, l.ports.close()))
	}
	t.Cleanup(l.close)
	return l
}

// Endpoint returns what a client dials to go through the link. It stays the same for the link's life.
func (l *Link) Endpoint() string { return "http://" + l.addr }

// Client opens another client that goes through the link. It is closed when the test ends.
func (l *Link) Client() *clientv3.Client {
	l.t.Helper()
	return l.Dial(clientv3.Config{})
}

// Dial opens another client with a configuration of the test's own, as [Dial] does; its Endpoints are set to the
// link's.
func (l *Link) Dial(cfg clientv3.Config) *clientv3.Client {
	l.t.Helper()
	cfg.Endpoints = []string{l.Endpoint()}
	return Dial(l.t, cfg)
}

// Cut resets the open connections and refuses new ones, as a machine does whose process has died.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.cut = true
	if l.listener != nil {
		l.closeListener()
	}
	l.resetAll()
	l.change()
}

// Drop resets the open connections, as a restarting load balancer does. New ones are not affected.
func (l *Link) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resetAll()
}

// Blackhole lets nothing pass in the given direction, as a firewall does that drops packets: connections stay open
// and new ones are accepted, but not one byte that has not passed when it returns passes before [Link.Heal]. With
// Responses alone, requests are carried out and their answers are missing.
//
// What is sent meanwhile, up to 256 KiB a connection and direction, arrives late, after Heal: so do the
// retransmissions of a real network, and a write may thus be carried out long after its caller gave up. Call
// [Link.Drop] before Heal to lose it instead.
func (l *Link) Blackhole(d Direction) {
	l.mu.Lock()
	l.hole = [3]bool{Requests: d.has(Requests), Responses: d.has(Responses)}
	l.change()
	// A writer that saw the old state may be inside Write, and there it may stay for long if its reader does not
	// read. Only when each has left it can nothing pass any more.
	var closing []*pipe
	for c := range l.conns {
		for _, p := range c.pipes() {
			if l.hole[p.dir] {
				closing = append(closing, p)
			}
		}
	}
	l.mu.Unlock()
	for _, p := range closing {
		p.flush()
	}
}

// Delay makes every chunk of bytes that is read from now on arrive between least and most later, at random, in the
// given direction. Order is kept, and chunks wait side by side, not one after the other, so that throughput does
// not suffer: a longer way, not a slower one. With Both, a request and its answer take it once each. Zero takes it
// back.
func (l *Link) Delay(d Direction, least, most time.Duration) {
	if least < 0 || most < least {
		l.t.Errorf("etcdtest: Delay from %v to %v", least, most)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range []Direction{Requests, Responses} {
		if d.has(one) {
			l.delay[one] = delayRange{least, most}
		}
	}
	l.change()
}

// Heal takes back every switch: Cut, Blackhole and Delay. What was held passes now.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hole, l.delay = [3]bool{}, [3]delayRange{}
	if l.cut && !l.closed {
		l.cut = false
		if err := l.listenLocked(); err != nil {
			l.t.Errorf("etcdtest: healing a link: %v", err)
		}
	}
	l.change()
}

// Accepted returns how many connections clients have made so far.
func (l *Link) Accepted() int { return int(l.accepted.Load()) }

// Open returns how many connections are open now.
func (l *Link) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Passed returns how many bytes have passed so far in a direction, or in both.
func (l *Link) Passed(d Direction) int64 {
	var n int64
	for _, one := range []Direction{Requests, Responses} {
		if d.has(one) {
			n += l.passed[one].Load()
		}
	}
	return n
}

// Links are links to several members, one each, in the members' order.
type Links []*Link

// Endpoints returns the links' endpoints.
func (ls Links) Endpoints() []string {
	endpoints := make([]string, 0, len(ls))
	for _, l := range ls {
		endpoints = append(endpoints, l.Endpoint())
	}
	return endpoints
}

// Client opens another client over all the links. It is closed when the test ends.
func (ls Links) Client() *clientv3.Client {
	ls[0].t.Helper()
	return ls.Dial(clientv3.Config{})
}

// Dial opens another client with a configuration of the test's own; its Endpoints are set to the links'.
func (ls Links) Dial(cfg clientv3.Config) *clientv3.Client {
	ls[0].t.Helper()
	cfg.Endpoints = ls.Endpoints()
	return Dial(ls[0].t, cfg)
}

// Cut is [Link.Cut] on each.
func (ls Links) Cut() {
	for _, l := range ls {
		l.Cut()
	}
}

// Drop is [Link.Drop] on each.
func (ls Links) Drop() {
	for _, l := range ls {
		l.Drop()
	}
}

// Blackhole is [Link.Blackhole] on each.
func (ls Links) Blackhole(d Direction) {
	for _, l := range ls {
		l.Blackhole(d)
	}
}

// Delay is [Link.Delay] on each.
func (ls Links) Delay(d Direction, least, most time.Duration) {
	for _, l := range ls {
		l.Delay(d, least, most)
	}
}

// Heal is [Link.Heal] on each.
func (ls Links) Heal() {
	for _, l := range ls {
		l.Heal()
	}
}

// change wakes whoever waits for the state. mu is held.
func (l *Link) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) listen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listenLocked()
}

func (l *Link) listenLocked() error {
	addr, err := net.ResolveTCPAddr("tcp", l.addr)
	if err != nil {
		return err
	}
	ln, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return err
	}
	l.listener = ln
	l.wg.Go(func() { l.accept(ln) })
	return nil
}

// closeListener refuses new connections from now on. mu is held.
func (l *Link) closeListener() {
	if err := l.listener.Close(); err != nil {
		l.t.Errorf("etcdtest: closing a link's listener: %v", err)
	}
	l.listener = nil
}

// resetAll resets every open connection. mu is held.
func (l *Link) resetAll() {
	for c := range l.conns {
		c.reset()
	}
	clear(l.conns)
}

// accept serves one listener until it is closed.
func (l *Link) accept(ln *net.TCPListener) {
	for {
		client, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.listener != ln {
			// Accepted just before Cut or close.
			l.mu.Unlock()
			reset(client)
			return
		}
		l.accepted.Add(1)
		c := newConn(l, client)
		l.conns[c] = struct{}{}
		l.wg.Go(c.serve)
		l.mu.Unlock()
	}
}

func (l *Link) close() {
	l.mu.Lock()
	l.closed = true
	if l.listener != nil {
		l.closeListener()
	}
	l.resetAll()
	l.change()
	l.mu.Unlock()
	l.wg.Wait()
	if err := l.ports.close(); err != nil {
		l.t.Errorf("etcdtest: closing a link: %v", err)
	}
}
