package main

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// doctorPath is a way to a member on which everything arrives late.
type doctorPath struct {
	listener net.Listener
	delay    atomic.Int64 // a time.Duration, for each way

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

// newDoctorPath opens one to an address, which is closed at the end of the test.
func newDoctorPath(t *testing.T, to string) *doctorPath {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &doctorPath{listener: l}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, from, far)
			p.mu.Unlock()
			work.Go(func() { p.carry(far, from) })
			work.Go(func() { p.carry(from, far) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		work.Wait()
	})
	return p
}

func (p *doctorPath) address() string { return p.listener.Addr().String() }

// carry writes what it reads, later; what is under way does not hold up what follows.
func (p *doctorPath) carry(to, from net.Conn) {
	type parcel struct {
		due   time.Time
		bytes []byte
	}
	parcels := make(chan parcel, 1000)
	var arrivals sync.WaitGroup
	arrivals.Go(func() {
		defer to.Close()
		for next := range parcels {
			<-time.After(time.Until(next.due))
			if _, err := to.Write(next.bytes); err != nil {
				_ = from.Close()
			}
		}
	})
	for buf := make([]byte, 32<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			parcels <- parcel{time.Now().Add(time.Duration(p.delay.Load())), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			break
		}
	}
	close(parcels)
	arrivals.Wait()
}
