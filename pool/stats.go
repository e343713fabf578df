package pool

import (
	"fmt"
	"time"
)

// Stats is what a pool is doing.
type Stats struct {
	// Endpoints are those that are used, and LeftOut those that are not, as they do not answer.
	Endpoints, LeftOut []string

	// Unary, Lease, Watch and Bulk are the connections by the kind of traffic, and the calls and streams in flight on them.
	Unary, Lease, Watch, Bulk ClassStats

	// NotAfter is until when the certificate that is shown to the members is valid; the zero time if there is none.
	NotAfter time.Time
}

// ClassStats is the connections of one kind of traffic. Each of them is one to every endpoint.
type ClassStats struct {
	Connections, Calls int
}

// Stats says what the pool is doing. It does no I/O.
func (p *Pool) Stats() Stats {
	s := Stats{
		Endpoints: p.health.current(), LeftOut: p.health.leftOut(),
		Unary: p.unary.stats(), Lease: p.lease.stats(), Watch: p.watch.stats(),
	}
	for _, c := range p.bulk.list() {
		s.Bulk.add(c)
	}
	if p.material != nil {
		s.NotAfter = p.material.over()
	}
	return s
}

func (cl *class) stats() (s ClassStats) {
	if c := cl.get(); c != nil {
		s.add(c)
	}
	return s
}

func (s *ClassStats) add(c *conn) {
	calls, _ := c.busy()
	s.Connections++
	s.Calls += calls
}

// String is a line for logs.
func (s Stats) String() string {
	return fmt.Sprintf("endpoints %v, left out %v; calls: unary %d, lease %d, watch %d, bulk %d on %d connections",
		s.Endpoints, s.LeftOut, s.Unary.Calls, s.Lease.Calls, s.Watch.Calls, s.Bulk.Calls, s.Bulk.Connections)
}
