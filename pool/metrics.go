package pool

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// Attributes of the instruments.
const (
	classAttr = attribute.Key("etcdkit.pool.class")
	stateAttr = attribute.Key("etcdkit.pool.state")
)

// Kinds of traffic, each with connections of its own.
const (
	unaryClass = "unary"
	leaseClass = "lease"
	watchClass = "watch"
	bulkClass  = "bulk"
)

// States of a connection.
const (
	readyState      = "ready"      // to one member at least
	connectingState = "connecting" // to none so far, or not any more
	failingState    = "failing"    // no member can be connected to
	drainingState   = "draining"   // another has taken its place, and its calls have not ended
)

var (
	scope = telemetry.For("pool")
	_     = scope.Observe("etcdkit.pool.connections", "{connection}", "Connections of pools.", observeConnections)
)

// pools are those that are open.
var pools telemetry.Live[*Pool]

// drained is a connection whose place another has taken.
type drained struct {
	conn  *conn
	class string
}

// observeConnections reports the connections of all pools, each being one to every endpoint. What there is none of is 0, as long as
// there is a pool.
func observeConnections(_ context.Context, put telemetry.Put) {
	open := pools.All()
	if len(open) == 0 {
		return
	}
	counts := map[[2]string]int{}
	for _, p := range open {
		p.count(counts)
	}
	for _, class := range [...]string{unaryClass, leaseClass, watchClass, bulkClass} {
		for _, state := range [...]string{readyState, connectingState, failingState, drainingState} {
			put(float64(counts[[2]string{class, state}]), telemetry.Attributes(classAttr.String(class), stateAttr.String(state)))
		}
	}
}

// count adds the pool's connections by class and state.
func (p *Pool) count(counts map[[2]string]int) {
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		if c := cl.get(); c != nil {
			counts[[2]string{cl.name, c.state()}]++
		}
	}
	for _, c := range p.bulk.list() {
		counts[[2]string{bulkClass, c.state()}]++
	}
	for _, d := range p.draining.All() {
		counts[[2]string{d.class, drainingState}]++
	}
}

// state is that of the connection's way to the members.
func (c *conn) state() string {
	switch c.client.ActiveConnection().GetState() {
	case connectivity.Ready:
		return readyState
	case connectivity.TransientFailure:
		return failingState
	case connectivity.Idle, connectivity.Connecting, connectivity.Shutdown:
	}
	return connectingState
}
