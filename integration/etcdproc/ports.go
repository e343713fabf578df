package etcdproc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Blocks of ports lie below the range from which Linux (32768), macOS and Windows (49152) take the ports of
// outgoing connections and of ":0" listeners, and below Kubernetes' node ports (30000).
const (
	firstPort = 20000
	lastPort  = 29999
	blockSize = 16
)

// Ports is a block of 15 consecutive TCP ports on 127.0.0.1 that no other user of this package takes while it is
// held, even while nothing listens on them: a stopped member finds its port free when it comes back.
//
// A port asked for with ":0" and closed again is free for everybody: the usual race. A block is guarded instead by
// a listener on its first port that stays open for the block's life; whoever wants a block must bind that port
// first, in this process or in another. The guard does not bind programs that do not play by this rule; the range
// the blocks come from is one the operating system does not hand out by itself.
//
// All methods are safe for concurrent use.
type Ports struct {
	base  int
	guard net.Listener

	mu   sync.Mutex
	next int // the next port Take returns
}

// ReservePorts reserves a free block. It fails only when every block of the range is taken.
func ReservePorts() (*Ports, error) {
	blocks := (lastPort + 1 - firstPort) / blockSize
	start := rand.IntN(blocks)
	var last error
	for i := range blocks {
		p, err := ReservePortsAt(firstPort + (start+i)%blocks*blockSize)
		if err == nil {
			return p, nil
		}
		last = err
	}
	return nil, fmt.Errorf("etcdproc: no block of %d free ports between %d and %d: %w", blockSize, firstPort, lastPort, last)
}

// ReservePortsAt reserves the block that [Ports.Base] named once before, in another process perhaps. It fails when
// somebody holds the block or listens on one of its ports.
func ReservePortsAt(base int) (*Ports, error) {
	if base < firstPort || base+blockSize > lastPort+1 || (base-firstPort)%blockSize != 0 {
		return nil, fmt.Errorf("etcdproc: %d is not the base of a block of ports", base)
	}
	guard, err := net.Listen("tcp", loopback(base))
	if err != nil {
		return nil, err
	}
	for port := base + 1; port < base+blockSize; port++ {
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			return nil, errors.Join(err, guard.Close())
		}
		if err := l.Close(); err != nil {
			return nil, errors.Join(err, guard.Close())
		}
	}
	return &Ports{base: base, guard: guard, next: base + 1}, nil
}

// Base returns the block's first port, the guard's. The block's usable ports are the 15 after it.
func (p *Ports) Base() int { return p.base }

// Take returns a port of the block that it has not returned before, or false when there is none left.
func (p *Ports) Take() (port int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.base+blockSize {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

// Close gives the block back. What still listens on its ports goes on listening. Close is idempotent.
func (p *Ports) Close() error {
	if p.guard == nil {
		return nil
	}
	if err := p.guard.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
